"""Settings files in TOML: load one, and check every key and value of its tables.

A *reader* gets the name of a key, with the tables that it is in, and its value. It returns the
value checked and converted, or raises `InvalidSettingError`. An unknown key is an error, too.
"""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tchat.errors import Code, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Reader = Callable[[str, object], object]

T = TypeVar("T")


def load_settings(path: Path, read: Callable[[Mapping[str, object]], T]) -> T:
    """Return what `read` makes of the file at `path`.

    Raises `StartupError` (bad_config), or FileNotFoundError.
    """
    try:
        return read(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror}"
    except UnicodeError:
        reason = "the file is not valid UTF-8"
    except tomllib.TOMLDecodeError as error:
        reason = f"the file is not TOML: {error}"
    except RecursionError:  # the parser calls itself for each level
        reason = "the file has tables or lists that are nested too deeply"
    except InvalidSettingError as invalid:
        reason = str(invalid)
    except Exception as error:  # noqa: BLE001  # such as a number of 5,000 digits
        reason = f"a value cannot be used ({error})"
    raise StartupError(Code.BAD_CONFIG, f"{path}: {reason}.")


class InvalidSettingError(Exception):
    """An unknown key or an invalid value; the sentence names it and says what is expected."""


def read_table(readers: Mapping[str, Reader], where: str, table: object) -> dict[str, Any]:
    """Return the values of a table, each checked and converted by the reader of its key."""
    values = {}
    for key, value in table_of(where, table).items():
        place = f"{where}.{key}" if where else key
        if key not in readers:
            raise InvalidSettingError(f"unknown key {place!r} ({_hint(key, readers)})")
        values[key] = readers[key](place, value)
    return values


def _hint(key: str, readers: Mapping[str, object]) -> str:
    near = get_close_matches(key, readers, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(readers)}"


def table_of(where: str, value: object) -> dict[str, object]:
    """Return the value if it is a table."""
    return of_type(dict, "a table", where, value)


def of_type(kind: type[T], expected: str, where: str, value: object) -> T:
    """Return the value if its type is exactly `kind`: isinstance would accept True as an int."""
    if type(value) is not kind:
        raise InvalidSettingError(f"{where} is {value!r}; expected {expected}")
    return value


def text_of(where: str, value: object) -> str:
    """Return the value if it is text, not blank, and without NUL, which no path may contain."""
    text = of_type(str, "text in quotation marks", where, value)
    if "\0" in text:
        raise InvalidSettingError(f"{where} is {text!r}; expected text without NUL characters")
    if not text.strip():
        raise InvalidSettingError(f"{where} is empty; remove the line instead")
    return text


def path_of(where: str, value: object) -> Path:
    """Return the path in a value; `~` is the home directory."""
    try:
        return Path(text_of(where, value)).expanduser()
    except RuntimeError as error:  # ~somebody
        raise InvalidSettingError(
            f"{where} is {value!r}; there is no such home directory"
        ) from error


def port_of(where: str, value: object) -> int:
    """Return the value if it is the number of a port."""
    expected = "a number from 1 to 65535"
    port = of_type(int, expected, where, value)
    if not 1 <= port <= 65535:
        raise InvalidSettingError(f"{where} is {port}; expected {expected}")
    return port


def flag_of(where: str, value: object) -> bool:
    """Return the value if it is true or false."""
    return of_type(bool, "true or false", where, value)

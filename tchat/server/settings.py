"""The server's settings file: every option of `tchat serve`, in TOML.

The keys are the long options with underscores, and the limits are in the table `limits`. Options on
the command line override the file. Unknown keys and invalid values are errors that name the key.
Relative paths start at the file's directory.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tchat.errors import Code, StartupError
from tchat.net.address import full_address, read_networks
from tchat.server.limits import LIMIT_KEYS, parse_limit
from tchat.server.log import Level, LogFormat
from tchat.settings_file import (
    InvalidSettingError,
    flag_of,
    load_settings,
    of_type,
    path_of,
    port_of,
    read_table,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tchat.settings_file import Reader

RELOADABLE = ("cert", "key", "limits")
"""The keys that a reload applies."""


def fixed_keys() -> list[str]:
    """Return the keys that need a restart; they are the names of the parsed options, too."""
    return [key for key in _SERVE if key not in RELOADABLE]


def read_serve_file(path: Path) -> dict[str, Any]:
    """Return the values in a settings file by the names of the parsed options.

    Relative paths are relative to the file's directory: a service has no useful working directory.
    Raises `StartupError` (bad_config).
    """
    try:
        values = load_settings(path, read_serve_settings)
        return {
            key: path.parent / value if isinstance(value, Path) else value
            for key, value in values.items()
        }
    except FileNotFoundError as error:
        raise StartupError(
            Code.BAD_CONFIG, f"{path}: there is no such file. Check --config."
        ) from error


def read_serve_settings(table: Mapping[str, object]) -> dict[str, Any]:
    """Return the values in a parsed file. Raises `InvalidSettingError`."""
    limits = table.get("limits")
    for key in table:
        if key in LIMIT_KEYS:
            raise InvalidSettingError(f"{key!r} is a limit; write it below the line [limits]")
    for key in limits if isinstance(limits, dict) else ():
        if key in _SERVE:
            raise InvalidSettingError(f"{key!r} is no limit; write it above the line [limits]")
    values = read_table(_SERVE, "", table)
    return {**values, **values.pop("limits", {})}


def _one_of(known: tuple[str, ...]) -> Reader:
    def read(where: str, value: object) -> object:
        if value not in known:
            expected = ", ".join(f'"{word}"' for word in known)
            raise InvalidSettingError(f"{where} is {value!r}; expected one of {expected}")
        return value

    return read


def _text_with(parse: Callable[[str], object]) -> Reader:
    """Return a reader of text that `parse` understands; it raises ValueError for any other."""

    def read(where: str, value: object) -> object:
        try:
            return parse(text_of(where, value))
        except ValueError as error:
            raise InvalidSettingError(f"{where}: {error}") from error

    return read


def _limits(where: str, value: object) -> dict[str, Any]:
    return {
        LIMIT_KEYS[key]: limit
        for key, limit in read_table(dict.fromkeys(LIMIT_KEYS, _limit), where, value).items()
    }


def _limit(where: str, value: object) -> object:
    text = str(value) if type(value) in (int, float) else of_type(str, "text", where, value)
    try:
        return parse_limit(where.rpartition(".")[2], text)
    except argparse.ArgumentTypeError as error:
        raise InvalidSettingError(f"{where}: {error}") from error


_SERVE: Mapping[str, Reader] = {
    "host": text_of,
    "port": port_of,
    "data": path_of,
    "log_format": _one_of(get_args(LogFormat)),
    "log_level": _one_of(get_args(Level)),
    "cert": path_of,
    "key": path_of,
    "no_tls": flag_of,
    "insecure": flag_of,
    "proxy_protocol": _text_with(read_networks),
    "metrics": _text_with(full_address),
    "limits": _limits,
}

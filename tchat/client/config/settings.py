"""What a person has settled once: one file in TOML, which nobody needs to have.

Everything in it can be said on the command line too, which has the last word. Nothing in it is
guessed at: a key that is not known, or a value that cannot be right, is told in a sentence with
the file and the key, before anything else happens. How colours and keys are written is known to
the face that shows them, and looked at there.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import platformdirs

from tchat.core.fingerprints import read_pin
from tchat.core.text import check_name
from tchat.errors import Code, Refused, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    _Reader = Callable[[str, object], object]  # of a value, whose place in the file comes first

T = TypeVar("T")

Notifications = Literal["auto", "bell", "off"]

EXAMPLE = """\
user = "alice"            # who you are, unless --user says otherwise
group = "ops"             # where you go, unless --group does
plain = false             # true: lines of text instead of a full screen, as with --plain
downloads = "~/Downloads/tchat"
notifications = "auto"    # when you are mentioned: "auto", "bell" alone, or "off"
mute = ["noise"]          # groups that never notify
ignore = ["mallory"]      # people whose messages are not shown

[servers.work]            # python -m tchat join work
host = "chat.example.org"
port = 7777
user = "alice.b"          # the rest may be left out
groups = ["ops", "lab"]   # all of them, the first in front
pin = "sha256:Y2hhdC5leGFtcGxlLm9yZyBzYWlkIHRoYXQgaXQgaXM"
no_tls = false

[colours]                 # of styles; NO_COLOR in the environment switches all off
mention = "bold #ff8700"
url = "underline colour 39"
title = "reverse"

[keys]
"C-n" = "next-window"
"F7" = ""                 # no action any more
"""
"""The file with everything that may be in it."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that a person has given a nickname."""

    host: str
    port: int
    user: str | None = None
    groups: tuple[str, ...] = ()
    pin: bytes | None = None
    no_tls: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """What stands in the file; None or nothing for what does not."""

    user: str | None = None
    group: str | None = None
    plain: bool = False
    downloads: Path | None = None
    notifications: Notifications = "auto"
    colours: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    mute: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    servers: Mapping[str, Server] = field(default_factory=dict)


def config_file() -> Path:
    """Return where the file is, if there is one."""
    home = os.environ.get("TCHAT_HOME")
    directory = Path(home) if home else platformdirs.user_config_path("tchat", appauthor=False)
    return directory / "config.toml"


def load_config(path: Path) -> Settings:
    """Read the file at `path`; without one, everything is as if nothing stood in it.

    Raises `StartupError` (bad_config).
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return Settings(**_read_table(_CONFIG, "", table))
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror}"
    except UnicodeError:
        reason = "the file is not text in UTF-8"
    except tomllib.TOMLDecodeError as error:
        reason = f"the file is not TOML: {error}"
    except _Wrong as wrong:
        reason = str(wrong)
    raise StartupError(Code.BAD_CONFIG, f"{path}: {reason}.")


class _Wrong(Exception):
    """A key or a value that cannot be right; says which, and what would be."""


def _read_table(readers: Mapping[str, _Reader], where: str, table: object) -> dict[str, Any]:
    """Return a table's values, each as the reader of its key understands it."""
    values = {}
    for key, value in _table(where, table).items():
        place = f"{where}.{key}" if where else key
        if key not in readers:
            raise _Wrong(f"there is no key {place!r}; {_hint(key, readers)}")
        values[key] = readers[key](place, value)
    return values


def _hint(key: str, readers: Mapping[str, object]) -> str:
    near = get_close_matches(key, readers, n=1)
    return f"perhaps {near[0]!r} is meant" if near else f"there are {', '.join(readers)}"


def _table(where: str, value: object) -> dict[str, object]:
    return _of(dict, "a table", where, value)


def _of(kind: type[T], right: str, where: str, value: object) -> T:
    """Return a value if it is of that type and no other: True is no number here."""
    if type(value) is not kind:
        raise _Wrong(f"{where} is {value!r}; right would be {right}")
    return value


def _text(where: str, value: object) -> str:
    text = _of(str, "a text in quotation marks", where, value)
    if not text.strip():
        raise _Wrong(f"{where} is empty; leave the line out instead")
    return text


def _name(what: str, where: str, value: object) -> str:
    try:
        return check_name(_text(where, value), what)
    except Refused as refusal:
        raise _Wrong(f"{where} is {value!r}; {str(refusal).rstrip('.')}") from refusal


def _names(what: str, where: str, value: object) -> tuple[str, ...]:
    names = _of(list, 'a list: ["one", "other"]', where, value)
    return tuple(_name(what, f"{where}[{index}]", name) for index, name in enumerate(names))


def _texts(where: str, value: object) -> dict[str, str]:
    return {key: _text(f"{where}.{key}", text) for key, text in _table(where, value).items()}


def _actions(where: str, value: object) -> dict[str, str]:
    right = 'an action in quotation marks, or "" for none'
    return {
        key: _of(str, right, f"{where}.{key}", text) for key, text in _table(where, value).items()
    }


def _path(where: str, value: object) -> Path:
    try:
        return Path(_text(where, value)).expanduser()
    except RuntimeError as error:  # ~somebody
        raise _Wrong(f"{where} is {value!r}; there is no such home directory") from error


def _choice(where: str, value: object) -> object:
    choice = get_args(Notifications)
    if value not in choice:
        raise _Wrong(f"{where} is {value!r}; right would be one of {', '.join(choice)}")
    return value


def _port(where: str, value: object) -> int:
    right = "a number from 1 to 65535"
    port = _of(int, right, where, value)
    if not 1 <= port <= 65535:
        raise _Wrong(f"{where} is {port}; right would be {right}")
    return port


def _pin(where: str, value: object) -> bytes:
    try:
        return read_pin(_text(where, value))
    except ValueError as error:
        raise _Wrong(f"{where}: {error}") from error


def _server(where: str, value: object) -> Server:
    values = _read_table(_SERVER, where, value)
    for key in ("host", "port"):
        if key not in values:
            raise _Wrong(f"{where} has no {key}")
    return Server(**values)


def _servers(where: str, value: object) -> dict[str, Server]:
    servers = _table(where, value)
    return {nick: _server(f"{where}.{nick}", server) for nick, server in servers.items()}


_user = partial(_name, "username")
_group = partial(_name, "group name")
_flag = partial(_of, bool, "true or false")

_SERVER: Mapping[str, _Reader] = {
    "host": _text,
    "port": _port,
    "user": _user,
    "groups": partial(_names, "group name"),
    "pin": _pin,
    "no_tls": _flag,
}
_CONFIG: Mapping[str, _Reader] = {
    "user": _user,
    "group": _group,
    "plain": _flag,
    "downloads": _path,
    "notifications": _choice,
    "colours": _texts,
    "keys": _actions,
    "mute": partial(_names, "group name"),
    "ignore": partial(_names, "username"),
    "servers": _servers,
}

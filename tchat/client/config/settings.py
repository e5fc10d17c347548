"""Settings: load and validate the optional configuration file config.toml.

Options on the command line override it. The file is validated strictly: an unknown key or an
invalid value is a startup error that names the file and the key. Colours and key bindings are
validated by the terminal UI, which knows their syntax.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from tchat.client.config.paths import config_directory
from tchat.client.native_paths import native
from tchat.core.fingerprints import read_pin
from tchat.core.text import check_name
from tchat.errors import Code, Refused, StartupError
from tchat.net.address import split_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    _Reader = Callable[[str, object], object]  # (key with its tables, value) -> checked value

T = TypeVar("T")

Notifications = Literal["auto", "bell", "off"]

EXAMPLE = """\
user = "alice"            # your username, unless --user is given
group = "ops"             # the group to join, unless --group is given
plain = false             # true: lines of text instead of full screen, like --plain
downloads = "~/Downloads/tchat"
notifications = "auto"    # of mentions and direct messages: "auto", "bell" or "off"
mute = ["noise"]          # groups without notifications
ignore = ["mallory"]      # people whose messages are hidden

[servers.work]            # python -m tchat join work
host = "chat.example.org"
port = 7777
user = "alice.b"          # optional, like everything below
groups = ["ops", "lab"]   # join all, show the first
pin = "sha256:Y2hhdC5leGFtcGxlLm9yZyBzYWlkIHRoYXQgaXQgaXM"
no_tls = false

[colours]                 # the environment variable NO_COLOR switches all off
mention = "bold #ff8700"
url = "underline colour 39"
title = "reverse"

[keys]
"C-n" = "next-window"
"F7" = ""                 # unbound
"""
"""An example of the file with every key."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server in the file, under a nickname."""

    host: str
    port: int
    user: str | None = None
    groups: tuple[str, ...] = ()
    pin: bytes | None = None
    no_tls: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in the file, with defaults for missing keys."""

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

    def complete(self, server: Server) -> Server:
        """Return a server with the file's user and group, where it has none of its own."""
        groups = server.groups or ((self.group,) if self.group else ())
        return replace(server, user=server.user or self.user, groups=groups)


def config_file(home: Path | None = None) -> Path:
    """Return the path of the file, which need not exist."""
    return config_directory(home) / "config.toml"


def load_config(path: Path) -> Settings:
    """Return the settings in the file at `path`; the defaults if there is none.

    Raises `StartupError` (bad_config).
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return read_settings(table)
    except FileNotFoundError:
        return Settings()
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
    raise StartupError(Code.BAD_CONFIG, f"{path}: {reason}.")


def read_settings(table: Mapping[str, object]) -> Settings:
    """Return the settings in a parsed file. Raises `InvalidSettingError`."""
    return Settings(**_read_table(_CONFIG, "", table))


class InvalidSettingError(Exception):
    """An unknown key or an invalid value; the sentence names it and says what is expected."""


def _read_table(readers: Mapping[str, _Reader], where: str, table: object) -> dict[str, Any]:
    """Return the values of a table, each checked and converted by the reader of its key."""
    values = {}
    for key, value in _table(where, table).items():
        place = f"{where}.{key}" if where else key
        if key not in readers:
            raise InvalidSettingError(f"unknown key {place!r} ({_hint(key, readers)})")
        values[key] = readers[key](place, value)
    return values


def _hint(key: str, readers: Mapping[str, object]) -> str:
    near = get_close_matches(key, readers, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(readers)}"


def _table(where: str, value: object) -> dict[str, object]:
    return _of(dict, "a table", where, value)


def _of(kind: type[T], expected: str, where: str, value: object) -> T:
    """Return the value if its type is exactly `kind`: isinstance would accept True as an int."""
    if type(value) is not kind:
        raise InvalidSettingError(f"{where} is {value!r}; expected {expected}")
    return value


def _text(where: str, value: object) -> str:
    text = _of(str, "text in quotation marks", where, value)
    if not text.strip():
        raise InvalidSettingError(f"{where} is empty; remove the line instead")
    return text


def _name(what: str, where: str, value: object) -> str:
    try:
        return check_name(_text(where, value), what)
    except Refused as refusal:
        raise InvalidSettingError(f"{where} is {value!r}; {str(refusal).rstrip('.')}") from refusal


def _names(what: str, where: str, value: object) -> tuple[str, ...]:
    names = _of(list, 'a list: ["one", "other"]', where, value)
    return tuple(_name(what, f"{where}[{index}]", name) for index, name in enumerate(names))


def _texts(where: str, value: object) -> dict[str, str]:
    return {key: _text(f"{where}.{key}", text) for key, text in _table(where, value).items()}


def _actions(where: str, value: object) -> dict[str, str]:
    expected = 'an action in quotation marks, or "" for none'
    return {
        key: _of(str, expected, f"{where}.{key}", text)
        for key, text in _table(where, value).items()
    }


def _path(where: str, value: object) -> Path:
    try:
        return Path(native(_text(where, value))).expanduser()
    except RuntimeError as error:  # ~somebody
        raise InvalidSettingError(
            f"{where} is {value!r}; there is no such home directory"
        ) from error


def _choice(where: str, value: object) -> object:
    choice = get_args(Notifications)
    if value not in choice:
        raise InvalidSettingError(f"{where} is {value!r}; expected one of {', '.join(choice)}")
    return value


def _port(where: str, value: object) -> int:
    expected = "a number from 1 to 65535"
    port = _of(int, expected, where, value)
    if not 1 <= port <= 65535:
        raise InvalidSettingError(f"{where} is {port}; expected {expected}")
    return port


def _pin(where: str, value: object) -> bytes:
    try:
        return read_pin(_text(where, value))
    except ValueError as error:
        raise InvalidSettingError(f"{where}: {error}") from error


def _server(where: str, value: object) -> Server:
    values = _read_table(_SERVER, where, value)
    if "host" in values:
        values["host"], port = split_address(values["host"])
        if port is not None and values.setdefault("port", _port(f"{where}.host", port)) != port:
            raise InvalidSettingError(f"{where} has another port in its host")
    for key in ("host", "port"):
        if key not in values:
            raise InvalidSettingError(f"{where} has no {key}")
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

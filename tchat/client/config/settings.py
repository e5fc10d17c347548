"""Settings: load and validate the optional configuration file config.toml.

Options on the command line override it. The file is validated strictly: an unknown key or an
invalid value is a startup error that names the file and the key. Colours and key bindings are
validated by the terminal UI, which knows their syntax.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from tchat.client.config.paths import config_directory
from tchat.client.files.budget import Budget
from tchat.client.native_paths import native
from tchat.core.fingerprints import read_pin
from tchat.core.text import check_name
from tchat.errors import Refused
from tchat.net.address import split_address
from tchat.settings_file import (
    InvalidSettingError,
    flag_of,
    load_settings,
    of_type,
    path_of,
    port_of,
    read_table,
    table_of,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tchat.settings_file import Reader

Notifications = Literal["auto", "bell", "off"]

EXAMPLE = """\
user = "alice"            # your username, unless --user is given
group = "ops"             # the group to join, unless --group is given
plain = false             # true: lines of text instead of full screen, like --plain
downloads = "~/Downloads/tchat"
notifications = "auto"    # of mentions and direct messages: "auto", "bell" or "off"
mute = ["noise"]          # groups without notifications
ignore = ["mallory"]      # people whose messages are hidden

[automatic]               # files saved without /get, for each group
files = 100               # in a day; 0: none
megabytes = 200           # in a day
free = 512                # megabytes of the disk that stay free

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
    automatic: Budget = field(default_factory=Budget)
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
        return load_settings(path, read_settings)
    except FileNotFoundError:
        return Settings()


def read_settings(table: Mapping[str, object]) -> Settings:
    """Return the settings in a parsed file. Raises `InvalidSettingError`."""
    return Settings(**read_table(_CONFIG, "", table))


def _name(what: str, where: str, value: object) -> str:
    try:
        return check_name(text_of(where, value), what)
    except Refused as refusal:
        raise InvalidSettingError(f"{where} is {value!r}; {str(refusal).rstrip('.')}") from refusal


def _names(what: str, where: str, value: object) -> tuple[str, ...]:
    names = of_type(list, 'a list: ["one", "other"]', where, value)
    return tuple(_name(what, f"{where}[{index}]", name) for index, name in enumerate(names))


def _texts(where: str, value: object) -> dict[str, str]:
    return {key: text_of(f"{where}.{key}", text) for key, text in table_of(where, value).items()}


def _actions(where: str, value: object) -> dict[str, str]:
    expected = 'an action in quotation marks, or "" for none'
    return {
        key: of_type(str, expected, f"{where}.{key}", text)
        for key, text in table_of(where, value).items()
    }


def _path(where: str, value: object) -> Path:
    return path_of(where, native(text_of(where, value)))


def _choice(where: str, value: object) -> object:
    choice = get_args(Notifications)
    if value not in choice:
        raise InvalidSettingError(f"{where} is {value!r}; expected one of {', '.join(choice)}")
    return value


def _pin(where: str, value: object) -> bytes:
    try:
        return read_pin(text_of(where, value))
    except ValueError as error:
        raise InvalidSettingError(f"{where}: {error}") from error


def _server(where: str, value: object) -> Server:
    values = read_table(_SERVER, where, value)
    if "host" in values:
        values["host"], port = split_address(values["host"])
        if port is not None and values.setdefault("port", port_of(f"{where}.host", port)) != port:
            raise InvalidSettingError(f"{where} has another port in its host")
    for key in ("host", "port"):
        if key not in values:
            raise InvalidSettingError(f"{where} has no {key}")
    return Server(**values)


def _servers(where: str, value: object) -> dict[str, Server]:
    servers = table_of(where, value)
    return {nick: _server(f"{where}.{nick}", server) for nick, server in servers.items()}


def _count(where: str, value: object) -> int:
    expected = "a whole number from 0 to 1000000000"
    count = of_type(int, expected, where, value)
    if not 0 <= count <= 1_000_000_000:
        raise InvalidSettingError(f"{where} is {count}; expected {expected}")
    return count


def _automatic(where: str, value: object) -> Budget:
    return Budget(**read_table(_AUTOMATIC, where, value))


_user = partial(_name, "username")
_group = partial(_name, "group name")

_SERVER: Mapping[str, Reader] = {
    "host": text_of,
    "port": port_of,
    "user": _user,
    "groups": partial(_names, "group name"),
    "pin": _pin,
    "no_tls": flag_of,
}
_AUTOMATIC: Mapping[str, Reader] = {"files": _count, "megabytes": _count, "free": _count}
_CONFIG: Mapping[str, Reader] = {
    "user": _user,
    "group": _group,
    "plain": flag_of,
    "downloads": _path,
    "notifications": _choice,
    "colours": _texts,
    "keys": _actions,
    "mute": partial(_names, "group name"),
    "ignore": partial(_names, "username"),
    "automatic": _automatic,
    "servers": _servers,
}

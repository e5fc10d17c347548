"""The server's settings file: every option of `tchat serve`, in TOML.

The keys are the long options with underscores, and the limits are in the table `limits`. Options on
the command line override the file. Unknown keys and invalid values are errors that name the key.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, get_args

from tchat.errors import Code, StartupError
from tchat.net.address import Address, split_address
from tchat.server.limits import LIMIT_KEYS, parse_limit
from tchat.server.log import LogFormat
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
    from collections.abc import Mapping
    from pathlib import Path

    from tchat.settings_file import Reader

EXAMPLE = """\
host = "0.0.0.0"
port = 7777
data = "/srv/tchat"
log_format = "text"       # or "json", or "journal"
# cert = "/etc/tchat/fullchain.pem"
# key = "/etc/tchat/privkey.pem"
no_tls = false
insecure = false

[limits]                  # see tchat serve --help
rate_limit = "20/50"
max_file = "1G"
keep_files = "90d"
"""
"""An example of the file."""


def read_serve_file(path: Path) -> dict[str, Any]:
    """Return the values in a settings file by the names of the parsed options.

    Raises `StartupError` (bad_config).
    """
    try:
        return load_settings(path, read_serve_settings)
    except FileNotFoundError as error:
        raise StartupError(Code.BAD_CONFIG, f"{path}: there is no such file.") from error


def read_serve_settings(table: Mapping[str, object]) -> dict[str, Any]:
    """Return the values in a parsed file. Raises `InvalidSettingError`."""
    values = read_table(_SERVE, "", table)
    return {**values, **values.pop("limits", {})}


def _log_format(where: str, value: object) -> object:
    if value not in get_args(LogFormat):
        expected = ", ".join(f'"{known}"' for known in get_args(LogFormat))
        raise InvalidSettingError(f"{where} is {value!r}; expected one of {expected}")
    return value


def _metrics(where: str, value: object) -> Address:
    host, port = split_address(text_of(where, value))
    if port is None or port > 65535:
        raise InvalidSettingError(f"{where} is {value!r}; expected an address: 127.0.0.1:9464")
    return Address(host, port)


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
    "log_format": _log_format,
    "cert": path_of,
    "key": path_of,
    "no_tls": flag_of,
    "insecure": flag_of,
    "proxy_protocol": flag_of,
    "metrics": _metrics,
    "limits": _limits,
}

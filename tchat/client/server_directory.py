"""The directory of what a client keeps about one server: client ids, journals, and which key.

    servers/3f2a91c477de0b12…/server.json
    servers/3f2a91c477de0b12…/0.json

Its name is a digest of the server's name (see `Connector.names`). Nothing in it is used for any
other server: a server that makes a client count to absurd numbers harms only itself, and no server
sees the client ids of another one.

Earlier versions kept client ids for all servers together, in `slots/`. What is unsent there is
still sent; nothing new is put there.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tchat.client.shared_records import read_table
from tchat.durable_directory import make_directory
from tchat.transfer.durable import replace_file

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_ALL = "servers"
_EARLIER = "slots"  # client ids were called slots
WITHOUT_TLS = " without TLS"
"""Follows the address in the name of a server that has no key."""

_RECORD = "server.json"
_DIGITS = 32


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """Which key was used last with a server, and its address.

    `key` is the name of the server that the key was derived for, or None for the identity's own
    key.
    """

    server: str
    address: str
    key: str | None


def directory_of(state: Path, server: str) -> Path:
    """Return the directory of the server with a name; without a name, that of earlier versions."""
    if not server:
        return state / _EARLIER
    return state / _ALL / hashlib.sha256(server.encode()).hexdigest()[:_DIGITS]


def directories_of(state: Path, servers: Collection[str]) -> list[Path]:
    """Return all directories that may hold unsent messages to a server, its own one first."""
    return [directory_of(state, server) for server in dict.fromkeys([*servers, ""])]


def read_record(state: Path, server: str) -> ServerRecord | None:
    """Return the record of a server; None if there is none, or it is damaged."""
    return _record_in(directory_of(state, server))


def read_records(state: Path) -> list[ServerRecord]:
    """Return the records of all servers, the latest first."""
    files = sorted((state / _ALL).glob(f"*/{_RECORD}"), key=_changed, reverse=True)
    return [record for file in files if (record := _record_in(file.parent)) is not None]


def save_record(state: Path, record: ServerRecord) -> None:
    """Save the record of a server, if it has changed and can be written."""
    directory = directory_of(state, record.server)
    if _record_in(directory) == record:
        return
    with suppress(OSError):  # then the keys are tried again next time
        make_directory(directory)
        replace_file(directory / _RECORD, json.dumps(asdict(record)).encode())


def _changed(file: Path) -> float:
    with suppress(OSError):
        return file.stat().st_mtime
    return 0.0


def _record_in(directory: Path) -> ServerRecord | None:
    match read_table(directory / _RECORD):
        case {"server": str(server), "address": str(address), "key": str() | None as key}:
            return ServerRecord(server, address, key)
    return None

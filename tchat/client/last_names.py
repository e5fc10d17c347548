"""The username and the group that were last used with each server, offered when tchat asks.

    {"chat.example.org:7777": ["alice", "ops"]}

The file only saves typing: one that is missing, damaged or cannot be written is no error.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from tchat.client.shared_records import read_table, update_table

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.net.address import Address


class LastNames(NamedTuple):
    """A username and a group; None if none is known."""

    user: str | None = None
    group: str | None = None


def read_last_names(path: Path, address: Address) -> LastNames:
    """Return the names that were last used with a server."""
    match read_table(path).get(_key(address)):
        case [str(user), str(group)]:
            return LastNames(user, group)
    return LastNames()


def save_last_names(path: Path, address: Address, user: str, group: str) -> None:
    """Remember the names that are used with a server."""
    names = LastNames(user, group)
    if read_last_names(path, address) == names:
        return
    with suppress(OSError):
        update_table(path, lambda kept: kept.update({_key(address): names}))


def _key(address: Address) -> str:
    return str(address).lower()

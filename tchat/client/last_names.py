"""The username and the group that were last used with each server, offered when tchat asks.

    {"chat.example.org:7777": ["alice", "ops"]}

The file only saves typing: one that is missing, damaged or cannot be written is no error.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from tchat.transfer.durable import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.net.address import Address


class LastNames(NamedTuple):
    """A username and a group; None if none is known."""

    user: str | None = None
    group: str | None = None


def read_last_names(path: Path, address: Address) -> LastNames:
    """Return the names that were last used with a server."""
    match _read(path).get(_key(address)):
        case [str(user), str(group)]:
            return LastNames(user, group)
    return LastNames()


def save_last_names(path: Path, address: Address, user: str, group: str) -> None:
    """Remember the names that are used with a server."""
    kept = _read(path)
    if kept.get(_key(address)) == [user, group]:
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, json.dumps(kept | {_key(address): [user, group]}, indent=1).encode())
    except OSError:
        return


def _read(path: Path) -> dict[str, object]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _key(address: Address) -> str:
    return str(address).lower()

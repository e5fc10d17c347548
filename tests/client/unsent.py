"""Helpers for unsent messages: in a replica, in journals on disk, and in the next process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tchat.client.client_id import ClientId
from tchat.client.journal import Journal
from tests.helpers import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tests.fault_proxy import Side, Verdict


def waiting(replica: Replica) -> list[str]:
    """Return the texts of the pending messages of a group."""
    return [pending.text for pending in replica.pending]


async def delivered(session: Session, replica: Replica) -> None:
    """Wait until a group has no pending messages."""
    await until(session, lambda: not replica.pending)


def left_in(state: Path, server: object, user: str = "alice") -> list[str]:
    """Return the texts in the journals under `state`, for a person and a server."""
    outboxes = [*state.glob("slots/*.outbox"), *state.glob("servers/*/*.outbox")]
    names = [f"{server} without TLS"]
    return [entry.text for path in outboxes for entry in Journal(b"", path).entries(user, names)]


def again(client_id: ClientId) -> ClientId:
    """Return the client id as the next process loads it."""
    return ClientId(client_id._path)


def drops(**keys: object) -> Callable[[Side, dict[str, Any]], Verdict]:
    """Return a proxy's watch that drops the frames with these keys and values."""
    return lambda side, frame: "drop" if keys.items() <= frame.items() else "pass"

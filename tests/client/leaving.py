"""What is on its way when a process ends, and what the next one finds."""

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
    from tests.tap import Side, Verdict


def waiting(replica: Replica) -> list[str]:
    """Return what is on its way to a group."""
    return [pending.text for pending in replica.pending]


async def delivered(session: Session, replica: Replica) -> None:
    """Wait until nothing is on its way to a group any more."""
    await until(session, lambda: not replica.pending)


def left_in(state: Path, server: object, user: str = "alice") -> list[str]:
    """Return what the outboxes under `state` hold for a person."""
    outboxes = (state / "slots").glob("*.outbox")
    names = [f"{server} without TLS"]
    return [entry.text for path in outboxes for entry in Journal(b"", path).entries(user, names)]


def again(slot: ClientId) -> ClientId:
    """Return the slot as the next process finds it."""
    return ClientId(slot._path)


def drops(**keys: object) -> Callable[[Side, dict[str, Any]], Verdict]:
    """Return a watch that loses the frames with these keys and values."""
    return lambda side, frame: "drop" if keys.items() <= frame.items() else "pass"

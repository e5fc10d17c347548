"""Receiving the updates of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.helpers import (
    GUARD,
)

if TYPE_CHECKING:
    from tchat.client.session import Session
    from tchat.client.updates import Update


def pending_updates(session: Session) -> list[Update]:
    """Receive and return all updates that are waiting."""
    updates: list[Update] = []
    while True:
        try:
            updates.append(session.updates.receive_nowait())
        except trio.WouldBlock:
            return updates


async def next_update(session: Session, kind: type[Update]) -> Update:
    """Return the next update of this type; skip others."""
    with trio.fail_after(GUARD):
        while not isinstance(update := await session.updates.receive(), kind):
            pass
    return update

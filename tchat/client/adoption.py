"""Adoption: send what clients of the same home left unsent when they were killed.

A client that ends leaves the messages that it could not send in its journal, and the next one that
starts sends them. Where one client goes on running, nobody would start the next: so a running
client looks for such journals from time to time, and sends what they hold.

Each message is sent under the client id of its journal, whose lock is held meanwhile, on a
connection of its own. So it is stored exactly once even if it had been sent before (see `journal`).
A message that the server refuses was not stored, so it moves into the journal of the running
client, which shows it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from tchat.client.client_id import adopt_client_id
from tchat.client.session import open_session
from tchat.errors import TchatError

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.client.authenticate import Account
    from tchat.client.session import Session

ADOPTION_SECONDS = 3.0
"""Seconds between two looks for journals without a client."""


async def send_left_messages(session: Session, account: Account, state: Path) -> None:
    """Send what others left under the state directory, as long as `session` is connected."""
    while True:
        if session.connected:
            # After an error, what is left stays where it is, and is tried again.
            with suppress(OSError, TchatError):
                await _adopt_one(session, account, state)
        await trio.sleep(ADOPTION_SECONDS)


async def _adopt_one(session: Session, account: Account, state: Path) -> None:
    servers = session.connector.names()
    with adopt_client_id(state, account.user, servers) as client_id:
        if client_id is None:
            return
        courier_account = replace(account, client_id=client_id, link=None)
        try:
            async with open_session(session.connector, courier_account) as courier:
                await courier.wait_for_answers()
        except* TchatError:
            pass  # no connection, which `session` reports, or refused: then it is, too
        session.take_over(client_id.journal, servers)

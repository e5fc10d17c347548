"""Adoption: send the messages that killed clients of the same person have left in their journals.

A client that ends leaves its unsent messages in its journal, and the next client that starts sends
them. But while another client is running, the person has no reason to start one. So a running
client looks for such journals at intervals, and sends their messages.

Each message is sent under the client id of its journal, whose lock is held meanwhile, on a
connection of its own. So it is stored exactly once even if it had been sent before (see `journal`).
A message that the server refuses was not stored, so it moves into the journal of the running
client, which shows it. So does a held one, for a group that is not entered yet.
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
"""Seconds between two searches for journals that no client uses."""


async def send_left_messages(session: Session, account: Account, state: Path) -> None:
    """Send what others left under the state directory, as long as `session` is connected."""
    while True:
        if session.connected:
            # After an error, the messages stay in their journal, and are tried again later.
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
            pass  # `session` reports the lost connection, or is refused for the same reason
        session.take_over(client_id.journal, servers)

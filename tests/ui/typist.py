"""Somebody who types into a chat with a real server, without a face."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio
import trio.testing

from tchat.client.connector import Connector
from tchat.client.introduction import Account
from tchat.client.known import KnownServers
from tchat.client.session import open_session
from tchat.client.slot import Slot
from tchat.ui.chat import Chat
from tests.helpers import GROUP, GUARD, identity_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.ui.lines import Line
    from tests.helpers import RunningServer

DOWNLOADS = Path("nowhere")


@dataclass
class Typist:
    """Somebody who types into a chat, and all that it has shown."""

    chat: Chat
    lines: list[Line]

    async def types(self, line: str) -> list[str]:
        """Type a line, wait until all is done, and return what was shown, less what happened."""
        before = len(self.lines)
        self.chat.enter(line)
        assert await self.chat.finish(GUARD)
        shown = [f"{line.sort}: {line.text}" for line in self.lines[before:]]
        return [line for line in shown if "gave an invite" not in line]

    async def shows(self, text: str) -> str:
        """Return the first line with `text` in it, once it is there."""
        with trio.fail_after(GUARD):
            while not (found := [line.text for line in self.lines if text in line.text]):
                await trio.testing.wait_all_tasks_blocked()
        return found[0]


async def take_updates(chat: Chat) -> None:
    async for update in chat.session.updates:
        chat.take(update)


@asynccontextmanager
async def typing(
    server: RunningServer,
    user: str = "alice",
    *,
    device: str = "",
    plain: bool = True,
    downloads: Path = DOWNLOADS,
) -> AsyncIterator[Typist]:
    """Chat as `user`, who founds the group or is in it, for the length of the block."""
    account = Account(user, identity_of(user, device), Slot())
    connector = Connector(server.address, KnownServers(), plain=plain)
    async with open_session(connector, account) as session, trio.open_nursery() as nursery:
        replica = await session.enter(GROUP)
        lines: list[Line] = []
        chat = Chat(session, replica, downloads, nursery, lines.append)
        nursery.start_soon(take_updates, chat)
        typist = Typist(chat, lines)
        await typist.shows("; /help lists the commands")
        yield typist
        nursery.cancel_scope.cancel()

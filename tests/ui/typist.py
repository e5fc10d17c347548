"""Somebody who types into a chat with a real server, and all that a face is shown of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio
import trio.testing

from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.session import open_session
from tchat.core.text import fold
from tchat.ui.chat.chat import Chat, Start
from tests.helpers import GROUP, GUARD, identity_of, members, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tchat.ui.chat.lines import Line
    from tchat.ui.chat.window import Window
    from tests.helpers import RunningServer

DOWNLOADS = Path("nowhere")
WELCOME = "; /help lists the commands"


@dataclass
class Listener:
    """A face that keeps what it is shown; `looks` says whether the person looks at it."""

    rewrites: bool = True
    looks: bool = True
    shown: list[tuple[Window, Line]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    offers: list[str] = field(default_factory=list)
    revealed: list[tuple[str, int]] = field(default_factory=list)
    handed_out: list[str] = field(default_factory=list)

    def show(self, room: Window, line: Line) -> None:
        self.shown.append((room, line))

    def changed(self) -> None:
        pass

    def attends(self, room: Window) -> bool:
        return self.looks and room is room.chat.current and room.position is None

    def hand_out(self, text: str) -> None:
        self.handed_out.append(text)

    def offer(self, text: str) -> bool:
        self.offers.append(text)
        return self.rewrites

    def reveal(self, room: Window, seq: int) -> None:
        self.revealed.append((room.title, seq))

    def key_lines(self) -> list[str]:
        return ["Tab  completes"] if self.rewrites else []

    def notify(self, title: str, text: str) -> None:
        self.calls.append((title, text))


@dataclass
class Typist:
    """Somebody who types into a chat, and all that it has shown."""

    chat: Chat
    face: Listener

    @property
    def room(self) -> Window:
        """The room in front."""
        return self.chat.current

    @property
    def lines(self) -> list[Line]:
        """All that was shown, as it was when it was shown."""
        return [line for _, line in self.face.shown]

    @property
    def titles(self) -> list[str]:
        """The rooms, in order."""
        return [room.title for room in self.chat.rooms]

    def room_of(self, title: str) -> Window:
        return next(room for room in self.chat.rooms if room.title == title)

    def screen(self, title: str = "") -> list[str]:
        """Return the messages of a room as they read now; the one in front unless another is named.

        "alice: hello", with a star for an action, and in brackets what else there is to see.
        """
        room = self.room_of(title) if title else self.room
        return [_as_read(line) for line in [*room.lines, *room.pending()] if line.who]

    async def types(self, *lines: str) -> list[str]:
        """Type lines, each when all is done, and return what was shown, less what happened."""
        before = len(self.face.shown)
        for line in lines:
            self.chat.enter(line)
            assert await self.chat.finish(GUARD), self.lines[before:]
            await trio.testing.wait_all_tasks_blocked()
        shown = [f"{line.sort}: {line.text}" for line in self.lines[before:]]
        return [line for line in shown if "gave an invite" not in line]

    async def shows(self, text: str) -> str:
        """Return the first line with `text` in it, once it is there."""
        await self.until(lambda: any(text in line.text for line in self.lines), text)
        return next(line.text for line in self.lines if text in line.text)

    async def reads(self, text: str, title: str = "") -> None:
        """Wait until a room's messages have one that reads so."""
        await self.until(lambda: text in self.screen(title), text)

    async def reads_back(self) -> None:
        """Read up to the beginning of the room in front, page by page."""
        while self.room.past == "more":
            self.room.load_past()
            await self.types("")

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait until something is so; `what` is said if that never comes."""
        with trio.move_on_after(GUARD):
            while not condition():
                await trio.testing.wait_all_tasks_blocked()
            return
        raise AssertionError(f"{what!r} did not come, but {[line.text for line in self.lines]}")


def _as_read(line: Line) -> str:
    notes = [
        f"re {line.reply}" * bool(line.reply),
        "edited" * line.edited,
        "deleted" * line.deleted,
        "mention" * line.mention,
        line.fate,
    ]
    told = ", ".join(filter(None, notes))
    between = " * " if line.sort == "action" else ": "
    return f"{line.who}{between}{line.text}" + (f" [{told}]" if told else "")


async def take_updates(chat: Chat) -> None:
    async for update in chat.session.updates:
        chat.take(update)
        chat.mark_seen()


@asynccontextmanager
async def typing(
    server: RunningServer,
    user: str = "alice",
    *groups: str,
    device: str = "",
    plain: bool = True,
    downloads: Path = DOWNLOADS,
    rewrites: bool = True,
    until: str = WELCOME,
    recent: int | None = None,
    slot: ClientId | None = None,
    ignore: tuple[str, ...] = (),
    mute: tuple[str, ...] = (),
) -> AsyncIterator[Typist]:
    """Chat as `user`, who founds the group or is in it, for the length of the block.

    It begins when `until` is shown; without, when the server has answered.
    """
    account = Account(user, identity_of(user, device), slot or ClientId())
    connector = Connector(server.address, KnownServers(), plain=plain)
    async with open_session(connector, account, recent) as session, trio.open_nursery() as nursery:
        face = Listener(rewrites)
        hidden, quiet = frozenset(map(fold, ignore)), frozenset(mute)
        start = Start(session, groups or (GROUP,), downloads, mute=quiet, ignore=hidden)
        chat = Chat(start, nursery, face)
        nursery.start_soon(take_updates, chat)
        typist = Typist(chat, face)
        await chat.begin()
        if until:
            await typist.shows(until)
        await trio.testing.wait_all_tasks_blocked()
        yield typist
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def two_typing(rewrites: bool = True) -> AsyncIterator[tuple[Typist, Typist]]:
    """Alice, the admin, and Bob, who are in one group; of Bob's face it is said what it can."""
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server) as alice,
        typing(server, "bob", rewrites=rewrites) as bob,
    ):
        yield alice, bob

"""Chats with a real server, driven by typed lines, with a front end that records."""

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
from tchat.client.files.automatic import AutomaticSaving
from tchat.client.known_keys import KnownKeys
from tchat.client.known_servers import KnownServers
from tchat.client.preferences import Preferences
from tchat.client.searched import Searched
from tchat.client.session import open_session
from tchat.ui.chat.chat import Chat, Start
from tchat.ui.commands.table import COMMANDS
from tests.helpers import GROUP, GUARD, identity_of, members, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tchat.ui.chat.lines import Line
    from tchat.ui.chat.window import Window
    from tests.fault_proxy import FaultProxy
    from tests.helpers import RunningServer

DOWNLOADS = Path("nowhere")
WELCOME = "/help lists the commands."


@dataclass
class Listener:
    """A front end that records; `looks` is whether the person sees the newest lines."""

    rewrites: bool = True
    looks: bool = True
    itemizes: bool = False
    shown: list[tuple[Window, Line]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    typing: bool = False
    filled: list[str] = field(default_factory=list)
    revealed: list[tuple[str, int]] = field(default_factory=list)
    handed_out: list[str] = field(default_factory=list)
    given_back: list[str] = field(default_factory=list)
    inserts: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.earlier_hint = "Scroll up." if self.rewrites else ""

    def show(self, window: Window, line: Line) -> None:
        self.shown.append((window, line))

    def inserted(self, window: Window, count: int, at: int = 0) -> None:
        self.inserts.append((window.title, count))

    def cleared(self, window: Window) -> None:
        self.inserts.append((window.title, 0))

    def changed(self) -> None:
        pass

    def attends(self, window: Window) -> bool:
        return self.looks and window is window.context.current

    def hand_out(self, text: str, about: Sequence[str]) -> None:
        self.handed_out.append(text)

    def ask(self, window: Window, question: str) -> None:
        window.notice(question)

    def fill_input(self, window: Window, text: str, *, refused: bool = False) -> bool:
        self.filled += [text] if text else []
        return self.rewrites

    def complete_input(self, window: Window) -> None:
        pass

    def is_typing(self, _: Window) -> bool:
        return self.typing

    def give_back(self, window: Window, line: str) -> str:
        self.given_back.append(line)
        return "It is given back."

    def reveal(self, window: Window, seq: int) -> None:
        self.revealed.append((window.title, seq))

    def key_lines(self) -> list[str]:
        return ["Tab  completes"] if self.rewrites else []

    def notify(self, title: str, text: str) -> None:
        self.calls.append((title, text))


@dataclass
class Typist:
    """A person who types into a chat."""

    chat: Chat
    frontend: Listener

    @property
    def window(self) -> Window:
        """The current window."""
        return self.chat.current

    @property
    def lines(self) -> list[Line]:
        """All lines that were shown, as they were then."""
        return [line for _, line in self.frontend.shown]

    @property
    def titles(self) -> list[str]:
        """The titles of the windows, in order."""
        return [window.title for window in self.chat.windows]

    def window_of(self, title: str) -> Window:
        return next(window for window in self.chat.windows if window.title == title)

    def screen(self, title: str = "") -> list[str]:
        """Return the messages of a window as they are shown now; by default the current window.

        "alice: hello", with a star for an action, and followed by marks such as [edited].
        """
        window = self.window_of(title) if title else self.window
        return [_as_read(line) for line in [*window.lines, *window.pending()] if line.who]

    async def types(self, *lines: str) -> list[str]:
        """Type lines, each when the one before is done; return the lines shown, without invites."""
        before = len(self.frontend.shown)
        for line in lines:
            self.chat.enter(line)
            assert await self.chat.finish(GUARD), self.lines[before:]
            await trio.testing.wait_all_tasks_blocked()
        shown = [f"{line.sort}: {line.text}" for line in self.lines[before:]]
        return [line for line in shown if "made an invite" not in line]

    async def shows(self, text: str) -> str:
        """Wait for a line with `text` in it, and return the first."""
        await self.until(lambda: any(text in line.text for line in self.lines), text)
        return next(line.text for line in self.lines if text in line.text)

    async def reads(self, text: str, title: str = "") -> None:
        """Wait until a window has a message that reads so, as in `screen`."""
        await self.until(lambda: text in self.screen(title), text)

    async def load_all_history(self) -> None:
        """Load the history of the current window, page by page."""
        while self.window.past == "more":
            self.window.load_history()
            await self.types("")

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait until a condition holds; `what` names it in the failure."""
        with trio.move_on_after(GUARD):
            while not condition():
                await trio.testing.wait_all_tasks_blocked()
            return
        raise AssertionError(f"{what!r} did not come, but {[line.text for line in self.lines]}")


def _as_read(line: Line) -> str:
    marks = [
        f"re {line.reply}" * bool(line.reply),
        "edited" * line.edited,
        "deleted" * line.deleted,
        "mention" * line.mention,
        line.fate,
    ]
    joined = ", ".join(filter(None, marks))
    between = " * " if line.sort == "action" else ": "
    return f"{line.who}{between}{line.text}" + (f" [{joined}]" if joined else "")


async def handle_updates(chat: Chat) -> None:
    async for update in chat.session.updates:
        chat.handle(update)
        chat.mark_seen()


@asynccontextmanager
async def typing(
    server: RunningServer | FaultProxy,
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
    preferences: Path | None = None,
    searched: Path | None = None,
    known_keys: Path | None = None,
    automatic: AutomaticSaving | None = None,
    yes: bool = True,
) -> AsyncIterator[Typist]:
    """Run a chat of `user`, who founds the group or is a member, for the length of the block.

    The block begins when `until` is shown; without it, when the server has answered. With `yes`,
    nothing has to be confirmed.
    """
    account = Account(user, identity_of(user, device), slot or ClientId())
    connector = Connector(server.address, KnownServers(), plain=plain)
    async with open_session(connector, account, recent) as session, trio.open_nursery() as nursery:
        frontend = Listener(rewrites)
        kept = Preferences(preferences, connector.names(), user, ignore=ignore, mute=mute)
        start = Start(
            session,
            groups or (GROUP,),
            downloads,
            preferences=kept,
            searched=Searched(searched, connector.names(), user, kept.ignored),
            known_keys=KnownKeys(known_keys, connector.names(), user),
            automatic=automatic or AutomaticSaving(),
            assume_yes=yes,
        )
        chat = Chat(start, COMMANDS, nursery, frontend)
        nursery.start_soon(handle_updates, chat)
        typist = Typist(chat, frontend)
        await chat.begin()
        if until:
            await typist.shows(until)
        await trio.testing.wait_all_tasks_blocked()
        yield typist
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def two_typing(rewrites: bool = True) -> AsyncIterator[tuple[Typist, Typist]]:
    """Alice, the admin, and Bob in one group; `rewrites` is about Bob's front end."""
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server) as alice,
        typing(server, "bob", rewrites=rewrites) as bob,
    ):
        yield alice, bob

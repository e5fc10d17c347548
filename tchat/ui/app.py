"""The client with windows: tasks side by side in one nursery, and a model between them.

One task reads the keyboard, one follows the session, one follows the terminal's size, one
paints. The first three change the model and say so; the fourth paints what there is, at most
about thirty times a second, however much comes in.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.client.updates import Connected, Disconnected
from tchat.core.text import clean_line, fold
from tchat.ui.chat import LEAVE_SECONDS, Chat, Start
from tchat.ui.complete import offers
from tchat.ui.model import Model, Person
from tchat.ui.screen import Screen, open_screen
from tchat.ui.view import draw, height_of_last

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tchat.client.session import Session
    from tchat.client.updates import Update
    from tchat.ui.lines import Line

_FRAME_SECONDS = 1 / 30
_TRANSFER_SECONDS = 0.25


async def run_curses(start: Start) -> int:
    """Chat in a full screen until the person leaves; return the exit status."""
    session = start.session
    replica = session.follow(start.group)
    with (
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as endings,
        trio.open_signal_receiver(signal.SIGWINCH) as sizes,
        open_screen() as screen,
    ):
        async with trio.open_nursery() as nursery:
            model = Model(session.user, replica.name)
            app = App(session, model, screen)
            app.chat = Chat(
                session, replica, start.downloads, nursery, app.show, app.hand_out, app.moved
            )
            nursery.start_soon(app.paint)
            nursery.start_soon(app.follow_transfers)
            nursery.start_soon(app.follow_keyboard)
            nursery.start_soon(app.follow_session)
            nursery.start_soon(app.follow_size, sizes)
            nursery.start_soon(_end_on, endings, app.chat.done)
            nursery.start_soon(partial(session.enter, start.group, invite=start.invite))
            await app.chat.done.wait()
            done = await app.leave()
            nursery.cancel_scope.cancel()
    if not done:
        print("tchat: not everything that you typed or were sent arrived.", file=sys.stderr)
    return 0 if done else 1


class App:
    """The tasks of the client with windows, and the model they share."""

    chat: Chat

    def __init__(self, session: Session, model: Model, screen: Screen) -> None:
        self._session = session
        self._model = model
        self._screen = screen
        self._changed = trio.Event()
        self._hurry = trio.Event()
        self._aside = False

    def hand_out(self, text: str) -> None:
        """Show a text where it can be copied: on the terminal as it was before, until Enter."""
        self._screen.step_aside(text, already=self._aside)
        self._aside = True

    def show(self, line: Line) -> None:
        """Add a line at the bottom; somebody who reads further up is not moved."""
        model = self._model
        model.lines.append(line)
        if model.scroll:
            model.below += 1
            model.scroll += height_of_last(model, self._screen.size[0])
        self._changed.set()

    def moved(self) -> None:
        """Know that a file is further on its way: shown at once if it is a new one, or one less."""
        if len(self.chat.filing.transfers.active) != len(self._model.transfers):
            self._changed.set()

    async def leave(self) -> bool:
        """Give what is on its way a moment to arrive; return whether it did."""
        self._changed.set()
        done = False
        async with trio.open_nursery() as nursery:

            async def finish() -> None:
                nonlocal done
                done = await self.chat.finish(LEAVE_SECONDS)
                self._hurry.set()

            nursery.start_soon(finish)
            await self._hurry.wait()
            nursery.cancel_scope.cancel()
        return done

    async def paint(self) -> None:
        """Paint whatever has changed, not too often."""
        while True:
            self._changed = trio.Event()
            if not self._aside:
                self._refresh()
                picture = draw(self._model, *self._screen.size)
                self._model.scroll = picture.scroll
                self._screen.paint(picture)
            await trio.sleep(_FRAME_SECONDS)
            await self._changed.wait()

    async def follow_keyboard(self) -> None:
        """Take keys as they are pressed."""
        while True:
            await trio.lowlevel.wait_readable(sys.stdin.fileno())
            if self._aside:
                self._aside = False
                self._screen.come_back()
            keys = self._screen.keys()
            if not keys and not os.isatty(sys.stdin.fileno()):
                self.chat.done.set()
            for key in keys:
                self._press(key)
            self._changed.set()

    async def follow_session(self) -> None:
        """Take what the session tells."""
        async for update in self._session.updates:
            self._take(update)
            self.chat.mark_seen()
            self._changed.set()

    async def follow_transfers(self) -> None:
        """Show now and then how files get on, or do not: numbers that race cannot be read."""
        while True:
            await trio.sleep(_TRANSFER_SECONDS)
            if self.chat.filing.transfers.active:
                self._changed.set()

    async def follow_size(self, sizes: AsyncIterator[int]) -> None:
        """Take the terminal's new size as soon as it has one."""
        async for _ in sizes:
            if not self._aside:
                self._screen.resize()
            self._changed.set()

    def _press(self, key: str) -> None:
        """Do what a key means: here, in the input line, or as itself."""
        edit = self._model.edit
        action = _BINDINGS.get(key) if edit.text else _BINDINGS_ON_EMPTY.get(key)
        if action is not None:
            action(self)
        elif not edit.press(key) and len(key) == 1:
            edit.insert(key)

    def enter(self) -> None:
        """Send the message, run the command, or answer the question."""
        self.to_bottom()
        self.chat.enter(self._model.edit.take())

    def complete(self) -> None:
        """Complete the word before the cursor; again, to the next that fits."""
        self._model.edit.complete(partial(offers, self.chat))

    def newline(self) -> None:
        """Begin a new line within the message."""
        self._model.edit.insert("\n")

    def page_up(self) -> None:
        """Scroll towards the past."""
        self._model.scroll += self._page

    def page_down(self) -> None:
        """Scroll towards the present."""
        self._scroll_to(self._model.scroll - self._page)

    def to_bottom(self) -> None:
        """Show the newest messages."""
        self._scroll_to(0)

    def escape(self) -> None:
        """Show the newest messages, and answer no question."""
        self.chat.question = None
        self.to_bottom()

    def interrupt(self) -> None:
        """Answer no question, and say how to leave."""
        self.chat.question = None
        self.chat.notice("Ctrl-D or /3 leaves")

    def quit(self) -> None:
        """Leave the chat; a second time, without waiting for what is on its way."""
        if self.chat.done.is_set():
            self._hurry.set()
        self.chat.done.set()

    def redraw(self) -> None:
        """Paint the whole screen anew."""
        self._screen.redraw()

    @property
    def _page(self) -> int:
        return max(self._screen.size[1] - 4, 1)

    def _scroll_to(self, rows: int) -> None:
        self._model.scroll = max(rows, 0)
        if not self._model.scroll:
            self._model.below = 0

    def _take(self, update: Update) -> None:
        match update:
            case Connected():
                self._model.connection = ""
            case Disconnected(reason):
                self._model.connection = f"offline: {reason}"
        self.chat.take(update)

    def _refresh(self) -> None:
        """Bring into the model what the replica and the session know."""
        model, replica = self._model, self.chat.replica
        state = replica.state
        model.user = self._session.user
        model.security = "not encrypted" if self._session.connector.plain else "TLS"
        model.group = clean_line(state.name or replica.name)
        model.standing = replica.standing or ""
        if self.chat.done.is_set():
            model.question = "leaving"
        else:
            model.question = self.chat.question.question if self.chat.question else ""
        model.unanswered = self._session.unanswered
        model.transfers = self.chat.filing.transfers.progress()
        model.waiting = len(state.requests) if state.is_admin(model.user) else 0
        model.people = [
            Person(name, state.is_admin(name), fold(name) in replica.online)
            for name in (self.chat.members() if replica.standing == "member" else [])
        ]


_BINDINGS: dict[str, Callable[[App], None]] = {
    "Enter": App.enter,
    "Tab": App.complete,
    "M-Enter": App.newline,
    "C-j": App.newline,
    "PageUp": App.page_up,
    "PageDown": App.page_down,
    "Escape": App.escape,
    "C-l": App.redraw,
    "Resize": App.redraw,
}
_BINDINGS_ON_EMPTY = _BINDINGS | {
    "End": App.to_bottom,
    "C-c": App.interrupt,
    "C-d": App.quit,
}


async def _end_on(signals: AsyncIterator[int], done: trio.Event) -> None:
    async for _ in signals:
        done.set()

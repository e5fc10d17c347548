"""The client with windows: tasks side by side in one nursery, and a model between them.

One task reads the keyboard, one follows the session, one follows the terminal's size, one paints.
The first three change rooms and the model and say so; the fourth paints what there is, at most
about thirty times a second, however much comes in; only what is typed is shown at once. What keys
do is in `actions`.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

import trio

from tchat.client.config.settings import Settings, config_file
from tchat.client.updates import CaughtUp, Connected, Disconnected
from tchat.core.text import clean_line, fold
from tchat.errors import Refused, StartupError, complain
from tchat.ui.chat.chat import LEAVE_SECONDS, Chat, Start
from tchat.ui.tui.actions import asking, do
from tchat.ui.tui.keymap import OTHERWISE, bind, key_rows
from tchat.ui.tui.keys import KeyReader, Paste
from tchat.ui.tui.model import Model, Person, Tab
from tchat.ui.tui.screen import Screen, open_screen
from tchat.ui.tui.scroll import to_line
from tchat.ui.tui.styles import parse_looks
from tchat.ui.tui.terminal import Notifier
from tchat.ui.tui.view import draw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.client.session import Session
    from tchat.client.updates import Update
    from tchat.ui.chat.lines import Line
    from tchat.ui.chat.window import Window
    from tchat.ui.tui.keys import Key
    from tchat.ui.tui.styles import Look

_FRAME_SECONDS = 1 / 30
_UNFINISHED = (
    "tchat: not everything arrived in time. Messages are kept, and sent the next time; files go on"
    " from there when they are sent or saved again."
)
_TRANSFER_SECONDS = 0.25
_MOST_KEYS = 16
_ASKS_TO_LEAVE = "leave? Ctrl-D again, or y"


async def run_curses(start: Start, config: Settings | None = None) -> int:
    """Chat in a full screen until the person leaves; return the exit status."""
    config = config or Settings()
    keys, colours = _wishes(config)
    with (
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as endings,
        trio.open_signal_receiver(signal.SIGWINCH) as sizes,
        open_screen(colours) as screen,
    ):
        async with trio.open_nursery() as nursery:
            app = App(start.session, screen, keys, Notifier(screen.terminal, config.notifications))
            app.chat = Chat(start, nursery, app)
            for task in (app.paint, app.follow_transfers, app.follow_keyboard, app.follow_session):
                nursery.start_soon(task)
            nursery.start_soon(app.follow_size, sizes)
            nursery.start_soon(_end_on, endings, app.chat.done)
            nursery.start_soon(app.chat.begin)
            await app.chat.done.wait()
            done = await app.leave()
            nursery.cancel_scope.cancel()
    if not done:
        complain(_UNFINISHED)
    return 0 if done else 1


def _wishes(config: Settings) -> tuple[dict[str, str], dict[str, Look]]:
    """Return the person's keys and colours. Raises `TchatError` for what cannot be."""
    file = config_file()
    try:
        keys = bind(config.keys)
    except Refused as refusal:
        raise StartupError(refusal.code, f"{file}: {refusal.sentence}") from refusal
    return keys, parse_looks(config.colours, file)


class App:
    """The tasks of the client with windows, and the face that its chat has."""

    chat: Chat
    screen: Screen
    rewrites = True

    def __init__(
        self, session: Session, screen: Screen, keys: dict[str, str], notifier: Notifier
    ) -> None:
        self.screen = screen
        self.model = Model(session.user, "")
        self.asked_to_leave = self.at_top = False
        self._session = session
        self._keys = keys
        self._notifier = notifier
        self._changed = trio.Event()
        self._pressed = trio.Event()
        self._hurry = trio.Event()
        self._aside = False

    # ------------------------------------------------------------------ what the chat wants

    def show(self, _room: Window, _line: Line) -> None:
        """Know that a room has another line."""
        self._changed.set()

    def changed(self) -> None:
        """Know that there is something to paint."""
        self._changed.set()

    def attends(self, room: Window) -> bool:
        """Return whether a room is in front, and its newest lines in sight."""
        return room is self.chat.current and room.position is None and not self._aside

    def hand_out(self, text: str) -> None:
        """Show a text where it can be copied: on the terminal as it was before, until Enter."""
        self.screen.print_for_copying(text, already=self._aside)
        self._aside = True

    def offer(self, text: str) -> bool:
        """Put a text into the input line."""
        self.chat.current.edit.set(text)
        return True

    def reveal(self, room: Window, seq: int) -> None:
        """Scroll to a message of the room in front."""
        if (index := room.index_of(seq)) is not None:
            self.scroll_to_line(index)
        self._changed.set()

    def key_lines(self) -> list[str]:
        """Return what keys do."""
        rows = key_rows()
        width = min(max(len(keys) for keys, _ in rows), _MOST_KEYS)
        return [f"{keys:<{width}}  {text}" for keys, text in rows]

    def notify(self, title: str, text: str) -> None:
        """Ring the bell, and let the desktop show who wants something."""
        if not self._aside:
            self.screen.write_raw(self._notifier.notify(title, text, trio.current_time()))

    # ------------------------------------------------------------------ tasks

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
        """Paint whatever has changed, not too often; what was pressed, without delay."""
        while True:
            self._changed, self._pressed = trio.Event(), trio.Event()
            if not self._aside:
                self._refresh()
                picture = draw(self.model, *self.screen.size)
                self.chat.current.position, self.at_top = picture.position, picture.top
                self.screen.paint(picture)
            with trio.move_on_after(_FRAME_SECONDS):
                await self._pressed.wait()
            await self._changed.wait()

    async def follow_keyboard(self) -> None:
        """Take keys as they are pressed."""
        reader = KeyReader()
        descriptor = sys.stdin.fileno()
        while True:
            with trio.move_on_after(reader.timeout or float("inf")) as silence:
                await trio.lowlevel.wait_readable(descriptor)
            if silence.cancelled_caught:
                keys = reader.flush()
            else:
                if self._aside:
                    self._aside = False
                    self.screen.resume()
                raw = self.screen.raw()
                if not raw and not os.isatty(descriptor):
                    self.chat.done.set()
                keys = reader.feed(raw)
            for key in keys:
                self.press(key)
            self._pressed.set()
            self._changed.set()

    async def follow_session(self) -> None:
        """Take what the session tells."""
        async for update in self._session.updates:
            self._take(update)

    async def follow_transfers(self) -> None:
        """Show now and then how files get on, or do not: numbers that race cannot be read."""
        while True:
            await trio.sleep(_TRANSFER_SECONDS)
            if self.chat.transfers.active:
                self._changed.set()

    async def follow_size(self, sizes: AsyncIterator[int]) -> None:
        """Take the terminal's new size as soon as it has one."""
        async for _ in sizes:
            if not self._aside:
                self.screen.resize()
            self._changed.set()

    # ------------------------------------------------------------------ keys

    def press(self, key: Key) -> None:
        """Do what a key means; what the input line does not take is told."""
        try:
            self._press(key)
        except Refused as refusal:
            self.chat.current.fail(refusal)

    def _press(self, key: Key) -> None:
        """Do what a key means: in the input line, here, or as itself."""
        edit, asked = self.chat.current.edit, self.asked_to_leave
        self.asked_to_leave = False
        if isinstance(key, Paste):
            edit.insert(key.text)
            return
        action = self._keys.get(key)
        if asked and key in ("y", "Y", "Enter"):
            do(self, "quit")
        elif action is None:
            if len(key) == 1:
                edit.insert(key)
        elif asked and OTHERWISE.get(action, action) == "leave":
            do(self, "quit")
        elif not edit.do(action):
            do(self, OTHERWISE.get(action, action))

    def quit(self) -> None:
        """Leave the chat; a second time, without waiting for what is on its way."""
        if self.chat.done.is_set():
            self._hurry.set()
        self.chat.done.set()

    def refreshed(self) -> Model:
        """Return the model as of now."""
        self._refresh()
        return self.model

    def scroll_to_line(self, index: int) -> None:
        """Bring a line of the room in front into sight."""
        model = self.refreshed()
        self.chat.current.position = to_line(model, index, *self.screen.size)

    def _take(self, update: Update) -> None:
        match update:
            case Connected():
                self.model.connection = ""
            case Disconnected(reason):
                self.model.connection = f"offline: {reason}"
            case CaughtUp():
                gc.freeze()  # to look through a long past for garbage would hold up the keyboard
        self.chat.take(update)
        self.chat.mark_seen()

    # ------------------------------------------------------------------ the model

    def _refresh(self) -> None:
        """Bring into the model what the chat, its room in front and the session know."""
        model, chat, room = self.model, self.chat, self.chat.current
        state = room.replica.state
        model.user = self._session.user
        model.security = "not encrypted" if self._session.connector.plain else "TLS"
        model.title, model.topic, model.direct = room.title, clean_line(state.topic), room.direct
        model.lines, model.pending, model.edit = room.lines, room.pending(), room.edit
        model.position, model.below, model.new_from = room.position, room.below, room.new_from
        model.past = room.past
        model.standing = room.replica.standing or ""
        model.question = self._question()
        model.unanswered = self._session.unanswered
        model.transfers = chat.transfers.progress()
        model.requests = sum(map(asking, chat.rooms))
        model.people = _people(room)
        model.tabs = [_tab(n, other, room) for n, other in enumerate(chat.rooms, start=1)]
        self.screen.title(f"{room.title} - tchat")

    def _question(self) -> str:
        if self.chat.done.is_set():
            return "leaving"
        if self.asked_to_leave:
            return _ASKS_TO_LEAVE
        return self.chat.asked.question if self.chat.asked else ""


def _tab(number: int, room: Window, current: Window) -> Tab:
    """Return a window of the list; who asks to be let in there means this person too."""
    return Tab(number, room.title, room.unread, room.mentions + asking(room), room is current)


def _people(room: Window) -> list[Person]:
    replica = room.replica
    if replica.standing != "member":
        return []
    return [
        Person(
            name,
            replica.state.is_admin(name),
            fold(name) in replica.online,
            replica.away.get(fold(name), ""),
        )
        for name in room.members()
    ]


async def _end_on(signals: AsyncIterator[int], done: trio.Event) -> None:
    async for _ in signals:
        done.set()

"""Full-screen app: tasks for keyboard, session, resizing and painting, around one model.

One task reads the keyboard, one follows the session, one the terminal's size, and one paints. The
first three change the chat and wake the painter, which draws at most about thirty times a second,
however much arrives; only a pressed key is shown at once. `keymap` defines what keys do; `model`
defines what the screen shows of the chat.
"""

from __future__ import annotations

import gc
import signal
import sys
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import trio

from tchat.client.config.settings import Settings, config_file
from tchat.client.drafts import open_drafts
from tchat.client.updates import CaughtUp
from tchat.core.text import fold
from tchat.errors import Refused, StartupError
from tchat.streams import complain
from tchat.ui.chat.chat import QUIT_SECONDS, Chat, Start
from tchat.ui.chat.commands import Confirmation
from tchat.ui.commands.table import COMMANDS
from tchat.ui.tui.decoder import CursorPosition, Paste
from tchat.ui.tui.draft_saver import DraftSaver
from tchat.ui.tui.hint import FirstRequest, Hint
from tchat.ui.tui.keymap import OTHERWISE, bind, key_lines, run_action
from tchat.ui.tui.lineedit import LineEdit
from tchat.ui.tui.model import Model, WindowView
from tchat.ui.tui.screen import Screen, open_screen
from tchat.ui.tui.scroll import to_line, to_output
from tchat.ui.tui.styles import parse_looks
from tchat.ui.tui.terminal import Notifier
from tchat.ui.tui.view import draw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from tchat.client.drafts import Drafts
    from tchat.client.session import Session
    from tchat.ui.chat.lines import Line
    from tchat.ui.chat.window import Window
    from tchat.ui.tui.decoder import Item
    from tchat.ui.tui.styles import Look

_FRAME_SECONDS = 1 / 30
_UNFINISHED = "tchat: not everything was delivered in time."
_TRANSFER_SECONDS = 0.25
_LONGEST_TYPED = 40
"""Longest run of characters that is inserted one by one, like typing, and is undone by words."""
_QUITS_AT_ONCE = {"leave", "delete-or-leave", "interrupt"}
"""The actions of keys that end the wait for unfinished deliveries."""
_LEAVES_PAGE = {"Enter", "Escape", "C-c", "C-d", "C-j", "C-\\"}


async def run_curses(start: Start, config: Settings | None = None) -> int:
    """Chat in a full screen until the person quits; return the exit status."""
    config = config or Settings()
    keys, colours = _read_settings(config)
    session = start.session
    with (
        open_drafts(start.drafts, session.user, session.connector.names()) as drafts,
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as endings,
        trio.open_signal_receiver(signal.SIGWINCH) as sizes,
        open_screen(colours) as screen,
    ):
        async with trio.open_nursery() as nursery:
            notifier = Notifier(screen.terminal, config.notifications)
            app = App(session, screen, keys, notifier, drafts)
            app.chat = Chat(start, COMMANDS, nursery, app)
            for task in (
                app.paint,
                app.follow_transfers,
                app.follow_keyboard,
                app.follow_session,
                app.saver.run,
            ):
                nursery.start_soon(task)
            nursery.start_soon(app.follow_size, sizes)
            nursery.start_soon(_end_on, endings, app.chat.done)
            nursery.start_soon(app.chat.begin)
            await app.chat.done.wait()
            app.saver.on_typed(sent=True)
            done = await app.finish()
            left = app.chat.left
            nursery.cancel_scope.cancel()
        unsaved = app.saver.save()
    if unsaved:
        complain(f"tchat: {unsaved}")
    if not done:
        complain(_UNFINISHED)
    if left:
        complain(f"tchat: {left}")
    return 0 if done else 1


def _read_settings(config: Settings) -> tuple[dict[str, str], dict[str, Look]]:
    """Return the configured keys and colours. Raises `TchatError` for invalid ones."""
    file = config_file()
    try:
        keys = bind(config.keys)
    except Refused as refusal:
        raise StartupError(refusal.code, f"{file}: {refusal.sentence}") from refusal
    return keys, parse_looks(config.colours, file)


class App:
    """The tasks of the full-screen client, and the front end of its chat."""

    chat: Chat
    screen: Screen
    rewrites = True
    itemizes = False
    earlier_hint = "PageUp loads earlier messages."

    def __init__(
        self,
        session: Session,
        screen: Screen,
        keys: dict[str, str],
        notifier: Notifier,
        drafts: Drafts,
    ) -> None:
        self.screen = screen
        self.model = Model(session.user, "")
        self.asked_to_quit = self.at_top = False
        self.first_request = FirstRequest()
        self._hint: Hint | None = None
        self._session = session
        self._keys = keys
        self._views: WeakKeyDictionary[Window, WindowView] = WeakKeyDictionary()
        self._edits: dict[str, LineEdit] = {}
        """The input line of each group, by folded name.

        It outlives the window: what is refused after a window was closed returns to the line.
        """
        self._notifier = notifier
        self._drafts = drafts
        self.saver = DraftSaver(
            drafts, self._collect_drafts, lambda refusal: self.chat.current.fail(refusal)
        )
        self._changed = trio.Event()
        self._pressed = trio.Event()
        self._stop_waiting = trio.Event()
        self._copying = False
        self._saved_edits = 0

    def view_of(self, window: Window) -> WindowView:
        """Return the view of a window."""
        view = self._views.get(window)
        if view is None:
            view = self._views[window] = WindowView(edit=self._edit_of(window.replica.name))
            view.edit.bring_back()
        return view

    def _edit_of(self, name: str) -> LineEdit:
        """Return the input line of a group; it begins with the drafts of the group."""
        group = fold(name)
        if group not in self._edits:
            edit = self._edits[group] = LineEdit()
            edit.meaning = partial(self._complete, group)
            edit.restore(self._drafts.texts(group))
        return self._edits[group]

    def _complete(self, group: str, line: str) -> str:
        """Return the meaning of a line; one of a closed window was completed when that closed."""
        window = self.chat.window_for(group)
        return line if window is None else self.chat.complete(window, line)

    @property
    def view(self) -> WindowView:
        """The view of the current window."""
        return self.view_of(self.chat.current)

    def _collect_drafts(self) -> None:
        """Copy the unsent texts of each group into the drafts."""
        self._saved_edits = len(self.chat.unanswered_edits)
        for opened in self.chat.windows:
            self.view_of(opened)  # so that it has an input line
        for group, edit in self._edits.items():
            window = self.chat.window_for(group)
            # What was typed first comes back first: see `LineEdit.restore`.
            unsent = [*reversed(self.chat.edits_of(group)), *edit.unsent()]
            texts = (self.chat.to_save(window, text) for text in unsent)
            self._drafts.update(group, [text for text in texts if text])

    # ------------------------------------------------------------------ front end of the chat

    def show(self, window: Window, _: Line) -> None:
        """Paint an added line; the scroll position stays, unless at the bottom."""
        self.view_of(window).on_added(len(window.lines))
        self._changed.set()

    def inserted(self, window: Window, count: int, at: int = 0) -> None:
        """Keep the scroll position after lines were inserted, or removed."""
        self.view_of(window).on_inserted(count, at)
        self._changed.set()

    def cleared(self, window: Window) -> None:
        """Go to the bottom of a window that has no lines any more."""
        self.view_of(window).to_bottom()
        self._changed.set()

    def changed(self) -> None:
        """Paint what has changed, and drop the drafts of edits that were answered."""
        # They are answered in tasks of their own, so their number is compared with what was saved.
        if len(self.chat.unanswered_edits) < self._saved_edits:
            self.saver.on_typed(sent=True)
        self._changed.set()

    def attends(self, window: Window) -> bool:
        """Return whether a window is current and shows its newest lines."""
        is_at_bottom = self.view_of(window).position is None
        return window is self.chat.current and is_at_bottom and not self._copying

    def hand_out(self, text: str, about: Sequence[str]) -> None:
        """Print a text on a page without the chat, for copying, until a key is pressed."""
        self.screen.print_for_copying(text, about, already=self._copying)
        self._copying = True

    def ask(self, window: Window, question: str) -> None:
        """Show the question in the prompt, which has it from the chat."""
        self._changed.set()

    def fill_input(self, window: Window, text: str, *, refused: bool = False) -> bool:
        """Put a text into the input line; one that is being typed comes back after it."""
        edit = self.view_of(window).edit
        edit.put_aside(text)
        edit.selected = refused
        return True

    def complete_input(self, window: Window) -> None:
        """Replace the half-typed answer to a question with the command that it stands for."""
        self.view_of(window).edit.make_complete()

    def is_typing(self, window: Window) -> bool:
        """Return whether a window's input line has text."""
        return not self.view_of(window).edit.is_empty

    def give_back(self, window: Window, line: str) -> str:
        """Put a line into its group's input line; what is being typed there comes first."""
        window = self.chat.window_for(window.replica.name) or window
        edit, is_current = self._edit_of(window.replica.name), window is self.chat.current
        is_typing = not edit.is_empty
        if is_typing:
            edit.keep_for_later(line)
        else:
            edit.set(line)
            edit.selected = is_current  # elsewhere, nobody goes on typing as if it were empty
        self.saver.on_typed(sent=True)
        if not window.is_open:
            return f"What you typed is kept: {window.opening_command} brings it back."
        if not is_current:
            return f"What you typed is back in the input line of {window.title}."
        if is_typing:
            return "What you typed comes back when you have sent the line that you are typing."
        return "What you typed is back in the input line."

    def reveal(self, window: Window, seq: int) -> None:
        """Scroll to a message of the current window, and point it out until the next key."""
        self.view_of(window).found = seq
        if (index := window.index_of(seq)) is not None:
            self.scroll_to_line(index)
        self._changed.set()

    def key_lines(self) -> list[str]:
        """Return the help of the keys, in two columns."""
        return key_lines()

    def notify(self, title: str, text: str) -> None:
        """Ring the bell, and show a desktop notification if the terminal can."""
        # Neither a bell nor a notification changes the page for copying.
        self.screen.write_raw(self._notifier.notify(title, text, trio.current_time()))

    # ------------------------------------------------------------------ tasks

    async def finish(self) -> bool:
        """Wait briefly for deliveries, unless the person quits again; return whether all ended."""
        self._changed.set()
        done = False
        async with trio.open_nursery() as nursery:

            async def finish() -> None:
                nonlocal done
                done = await self.chat.finish(QUIT_SECONDS)
                self._stop_waiting.set()

            nursery.start_soon(finish)
            await self._stop_waiting.wait()
            nursery.cancel_scope.cancel()
        return done

    async def paint(self) -> None:
        """Paint what has changed, at a limited rate; after a key, without delay."""
        while True:
            self._changed, self._pressed = trio.Event(), trio.Event()
            if not self._copying:
                picture = draw(self.refreshed(), *self.screen.size)
                view, window = self.view, self.chat.current
                view.position, self.at_top = picture.position, picture.top
                if window.caught_up and picture.first:
                    view.on_shown(window.new_from, picture.first)
                self.screen.paint(picture)
            with trio.move_on_after(_FRAME_SECONDS):
                await self._pressed.wait()
            await self._changed.wait()

    async def follow_keyboard(self) -> None:
        """Handle keys as they are pressed."""
        decoder = self.screen.input_decoder()
        while True:
            deadline = float("inf") if decoder.deadline is None else decoder.deadline
            with trio.move_on_at(deadline) as silence:
                await trio.lowlevel.wait_readable(sys.stdin)
            if silence.cancelled_caught:
                items = decoder.flush()
            else:
                if (data := self.screen.read()) is None:
                    self.chat.done.set()
                    return
                items = decoder.feed(data, trio.current_time())
            for item in _joined(items):
                self.press(item)
            self.saver.on_typed(sent="Enter" in items)
            self._pressed.set()
            self._changed.set()

    async def follow_session(self) -> None:
        """Handle the updates of the session."""
        async for update in self._session.updates:
            if isinstance(update, CaughtUp):
                # A full garbage collection over a long log would freeze the keyboard for a moment.
                gc.freeze()
            self.chat.handle(update)
            self.chat.mark_seen()

    async def follow_transfers(self) -> None:
        """Repaint the progress of transfers periodically, even if one stalls; and hints."""
        while True:
            await trio.sleep(_TRANSFER_SECONDS)
            if self.chat.transfers.active or self._hint is not None:
                self._changed.set()

    async def follow_size(self, sizes: AsyncIterator[int]) -> None:
        """Resize the screen when the terminal's size changes."""
        async for _ in sizes:
            self.screen.resize()
            if self._copying:
                self.screen.redraw_page()
            self._changed.set()

    # ------------------------------------------------------------------ keys

    def press(self, item: Item) -> None:
        """Handle a key or a paste; show its refusal."""
        if isinstance(item, CursorPosition):
            self.screen.learn(item)
            return
        if self._copying and self._handle_on_page(item):
            return
        for key in self._separated(item):
            try:
                self._press(key)
            except Refused as refusal:
                self.chat.current.fail(refusal)

    def _separated(self, item: str | Paste) -> list[str | Paste]:
        """Return Alt with a character as Escape and that character, unless it is bound.

        Both send the same bytes. Escape and "/" are typed one after the other, and the character
        must not be lost.
        """
        is_character = isinstance(item, str) and len(item) == 3 and item.startswith("M-")
        if isinstance(item, Paste) or not is_character or item in self._keys:
            return [item]
        return ["Escape", item[2]]

    def _press(self, key: str | Paste) -> None:
        """Run a key's action on the input line or else on the app, or insert a character."""
        edit, asked = self.view.edit, self.asked_to_quit
        self.asked_to_quit, self._hint, self.view.found = False, None, 0
        if isinstance(key, Paste):
            edit.insert(key.text)
            return
        action = self._keys.get(key)
        if self.chat.done.is_set():
            self._press_while_quitting(key, action)
            return
        if asked and self._answers_quit(key, action):
            return
        if action is None:
            if len(key) == 1:
                edit.insert(key)
        elif action == "interrupt" and self._is_answering():
            # Cancel the question together with the half-typed answer: otherwise the next line would
            # answer it, although the person has cleared the line.
            self.chat.cancel_question()
            edit.discard()
        elif not edit.do(action):
            run_action(self, action)

    def _is_answering(self) -> bool:
        """Return whether Ctrl-C withdraws a question; on an empty line it also says how to quit."""
        question, edit = self.chat.question, self.view.edit
        is_asked = isinstance(question, Confirmation) or bool(question and edit.text)
        return is_asked and edit.searching is None

    def _handle_on_page(self, key: str | Paste) -> bool:
        """Return from the page of `hand_out` to the chat, or suspend; return whether that was all.

        Any other key, such as the first of a message, is handled as usual.
        """
        if isinstance(key, str) and self._keys.get(key) == "suspend":
            self.screen.suspend()
            return True
        self._copying = False
        self.screen.resume()
        return key in _LEAVES_PAGE

    def _press_while_quitting(self, key: str, action: str | None) -> None:
        """Quit at once, or edit the input line, which is saved as a draft.

        The person may already type for the shell: nothing is sent any more, and Enter only ends a
        line of the draft.
        """
        edit = self.view.edit
        if action in _QUITS_AT_ONCE:
            self.quit()
        elif action == "enter":
            edit.do("newline")
        elif action is not None:
            edit.do(action)
        elif len(key) == 1:
            edit.insert(key)

    def _answers_quit(self, key: str, action: str | None) -> bool:
        """Handle a key that answers the question whether to quit; return whether it does.

        The person quits by pressing the key that asked once more, or by entering only "y". The line
        "n" withdraws the question, and is not sent. A message that begins with "yes" is typed as
        usual: its second key withdraws the question.
        """
        edit = self.view.edit
        leaves = OTHERWISE.get(action or "", action) == "leave"
        answer = edit.text.lower() if action == "enter" else ""
        if leaves or answer == "y":
            edit.set("")
            self.quit()
        elif action is None and not edit.text and key in ("y", "Y", "n", "N"):
            edit.insert(key)
            self.asked_to_quit = True  # until Enter, or another key
        elif answer == "n":
            edit.set("")
            self.chat.unanswered = ""
        elif action in ("interrupt", "bottom"):
            edit.set("")
        else:
            return False
        return True

    def show_hint(self, text: str) -> None:
        """Show a sentence in the status bar until the next key, or for a few seconds."""
        self._hint = Hint(text, self.refreshed(), trio.current_time())

    def quit(self) -> None:
        """End the chat; the second time, do not wait for unfinished deliveries."""
        if self.chat.done.is_set():
            self._stop_waiting.set()
        self.chat.done.set()

    def refreshed(self) -> Model:
        """Return the model as of now."""
        window = self.chat.current
        self.model.refresh(self.chat, self.view, asked_to_quit=self.asked_to_quit)
        now = trio.current_time()
        self.model.hint = self._hint.text_at(self.model, now) if self._hint else ""
        self._hint = self._hint if self.model.hint else None
        self.first_request.watch(window.title, next(iter(window.requests), ""), now)
        self.screen.title(f"{window.title} - tchat")
        return self.model

    def scroll_to_line(self, index: int) -> None:
        """Scroll the current window to a line, with some lines before it above."""
        model = self.refreshed()
        self.view.position = to_line(model, index, *self.screen.size)

    def scroll_to_output(self, index: int) -> None:
        """Show the lines from `index` on: all of them, or else as many as fit."""
        model = self.refreshed()
        self.view.position = to_output(model, index, *self.screen.size)


def _joined(items: list[Item]) -> Iterator[Item]:
    """Join long runs of characters, which come from pasting, so that each is inserted at once."""
    for is_text, run in groupby(items, lambda item: isinstance(item, str) and len(item) == 1):
        found = list(run)
        if is_text and len(found) > _LONGEST_TYPED:
            yield Paste("".join(map(str, found)))
        else:
            yield from found


async def _end_on(signals: AsyncIterator[int], done: trio.Event) -> None:
    async for _ in signals:
        done.set()

"""Plain front end: the chat as lines of text, for pipes, scripts, screen readers, or by choice.

One line is printed for each event:

    [HH:MM] <alice> text        a message; line breaks in it are printed as ↵, tabs as they are
    [HH:MM] * alice waves       an action ("/me waves")
    [HH:MM] -- notice           anything else that happened
    [HH:MM] ! error             something that was refused
    [HH:MM] > in reply to bob: text   quotes the message that the next line replies to

No message can look like a notice or an error. With several windows, the lines of all but the first
group have their window's title in front: `#ops ` or `@bob `. A notice is printed when the date
changes, and when the next line of input goes to another window. `JsonFormat` prints a JSON object
instead of each line. Programs rely on both formats: do not change them by accident.

Events that were seen before are not printed again. Of a group that is new to the person, only the
latest events are printed. A deletion is printed once; a message that was deleted before is not
printed.

Each line of input is a message or a command. A pipe may contain text of other people, so its lines
are never commands, unless the option `--commands` is given. At the end of the input, the program
still delivers all messages and prints the backlog before it ends.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import trio

from tchat.client.config.options import HISTORY
from tchat.client.updates import CaughtUp, EventReceived
from tchat.core.group.feature import Event
from tchat.core.group.messages import Erased, Posted
from tchat.core.text import TEXT_LIMIT, clean_line
from tchat.errors import Refused
from tchat.ui.chat.chat import QUIT_SECONDS, Chat, Start
from tchat.ui.chat.lines import gathered, literal_text
from tchat.ui.commands.table import COMMANDS
from tchat.ui.plain.backlog import Backlog
from tchat.ui.plain.formats import JsonFormat, TextFormat
from tchat.ui.plain.output import print_now, print_patiently, wait_writable
from tchat.ui.plain.progress import ProgressReporter
from tchat.ui.plain.typed import split_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.client.updates import Update
    from tchat.ui.chat.lines import Line
    from tchat.ui.chat.window import Window
    from tchat.ui.plain.typed import TypedLine, TypedLines

_HOW_TO_QUIT = "/quit or Ctrl-D on an empty line quits; Ctrl-C quits at once. You stay a member."
_GOODBYE = "Quitting when everything is sent; Ctrl-C quits at once."
_STAYING = " You stay a member."

_COMMAND = re.compile(r"(?<![\w/])/(?!help\b)[a-z]+\b")
"""A command in a sentence; the welcome names /help to everybody."""

_CONTEXT_LINES = 3
"""How many lines around a search result are printed."""

_QUOTE_SECONDS = 5.0
"""How long a reply waits for the message that it quotes, if that is not loaded."""


@dataclass(frozen=True, slots=True)
class PlainOptions:
    """How the plain front end reads and prints.

    `commands` says that input lines may be commands. `history` is how many of the latest messages
    are printed at the start, even if the person has seen them, with what happened between them;
    None for `HISTORY` on the first visit of a group, and for what is unread on later ones. At a
    `terminal`, the person is told that the program ends.
    """

    commands: bool = True
    json: bool = False
    history: int | None = None
    terminal: bool = False


class PlainFrontend:
    """Prints lines. Printed lines cannot be changed, so edits and deletions are new lines."""

    rewrites = False
    earlier_hint = ""

    def __init__(self, nursery: trio.Nursery, options: PlainOptions) -> None:
        self._nursery = nursery
        self._history = options.history
        self._json = self.itemizes = options.json
        self._explains_commands = not (options.commands or options.json)
        self._format = JsonFormat() if options.json else TextFormat()
        self._reporter: ProgressReporter | None = None
        self._chat: Chat | None = None
        self._current: Window | None = None
        self._backlogs: WeakKeyDictionary[Window, Backlog] = WeakKeyDictionary()

    def attach(self, chat: Chat) -> None:
        """Report the transfers of a chat, and the changes of its current window."""
        self._chat, self._current = chat, chat.current
        self._reporter = ProgressReporter(chat.transfers, lambda text: chat.current.notice(text))

    def show(self, window: Window, line: Line) -> None:
        """Print a line, unless it was seen before or is about something that was deleted.

        Lines of the log wait in the backlog until the window has caught up.
        """
        event = _event_at(window.replica, line.seq)
        is_gone = line.deleted or (event is not None and isinstance(event.body, Erased))
        if is_gone:
            return
        if event is not None and not window.caught_up:
            self._backlog_of(window).hold(line, event)
        elif not line.history:
            print_now(self._format.lines(window, line, event))
            self._explain_commands(window, line)

    def _explain_commands(self, window: Window, line: Line) -> None:
        """Say once that a command which a line of the program names would be posted as text."""
        if not self._explains_commands or line.who:
            return
        if named := [word for word in _COMMAND.findall(line.text) if COMMANDS.find(word)]:
            self._explains_commands = False
            window.notice(
                f"Lines of this input are messages, also {named[0]}: commands work at a terminal,"
                " or with --commands."
            )

    def _backlog_of(self, window: Window) -> Backlog:
        """Return the backlog of a window."""
        backlog = self._backlogs.get(window)
        if backlog is None or backlog.resets != window.replica.resets:
            is_first_visit = not window.replica.read and not window.direct
            count = self._history
            if count is None:
                count = HISTORY if is_first_visit else 0
            self._backlogs[window] = Backlog(window, count, only=is_first_visit)
        return self._backlogs[window]

    async def print_backlog(self, window: Window) -> None:
        """Print what was held of a window's log, after a summary of what is unread."""
        if window.caught_up:
            return
        backlog = self._backlog_of(window)
        await backlog.load()
        lines = list(backlog.release())
        if not self.itemizes:
            lines = _with_gathered_requests(lines)
        window.tell_missed()
        if backlog.is_cut and self._history is None:
            window.notice("Earlier messages are not shown; --history N shows the N latest.")
        earlier = lines[: backlog.count_earlier(lines)]
        # What is new needs no frame of its own, nor do other events; and a program has the times.
        is_framed = not self._json and any(isinstance(event.body, Posted) for _, event in earlier)
        if is_framed:
            window.notice("Earlier messages:")
        await self._print_events(window, earlier)
        if is_framed:
            window.notice("End of the earlier messages.")
        new = lines[len(earlier) :]
        if is_framed and new:
            window.notice("New messages:")
        await self._print_events(window, new)

    async def _print_events(self, window: Window, lines: Iterable[tuple[Line, Event]]) -> None:
        await print_patiently(
            printed for line, event in lines for printed in self._format.lines(window, line, event)
        )

    def inserted(self, window: Window, count: int, at: int = 0) -> None:
        """Do nothing: history is not printed."""

    def cleared(self, window: Window) -> None:
        """Do nothing: printed lines stay."""

    def changed(self) -> None:
        """Report transfers that are new, and another current window."""
        if self._reporter is not None:
            self._reporter.watch_new(self._nursery)
        if self._chat is not None and self._chat.current is not self._current:
            self._current = self._chat.current
            print_now(self._format.switched(self._current))

    def attends(self, _: Window) -> bool:
        """Return True: a printed line counts as seen."""
        return True

    def hand_out(self, _: str, about: Sequence[str]) -> None:
        """Do nothing: a printed line can be copied."""

    def ask(self, window: Window, question: str) -> None:
        """Print the question: there is no prompt to show it."""
        window.notice(question)

    def fill_input(self, window: Window, _: str, *, refused: bool = False) -> bool:
        """Return False: the terminal's own input line cannot be filled in."""
        return False

    def complete_input(self, window: Window) -> None:
        """Do nothing: a line is entered as a whole."""

    def is_typing(self, _: Window) -> bool:
        """Return False: a line is entered as a whole."""
        return False

    def give_back(self, window: Window, line: str) -> str:
        """Return a sentence with the line."""
        return f"What you typed was not sent; it was: {clean_line(line)}"

    def reveal(self, window: Window, seq: int) -> None:
        """Print a search result and the messages around it."""
        spoken = [line for line in window.lines if line.who]
        at = next((index for index, line in enumerate(spoken) if line.seq == seq), None)
        if at is not None:
            for line in spoken[max(0, at - _CONTEXT_LINES) : at + _CONTEXT_LINES + 1]:
                print_now(self._format.found(window, line, _event_at(window.replica, line.seq)))

    def key_lines(self) -> list[str]:
        """Return what the terminal does with keys."""
        return [
            "Plain mode has no keys of its own: Enter sends the line.",
            _HOW_TO_QUIT,
        ]

    def notify(self, title: str, text: str) -> None:
        """Do nothing: there is no bell."""


def _with_gathered_requests(lines: list[tuple[Line, Event]]) -> list[tuple[Line, Event]]:
    """Return the lines with their events, with one line for each run of requests to join."""
    events = {line.seq: event for line, event in lines}
    return [(line, events[line.seq]) for line in gathered(line for line, _ in lines)]


def _event_at(replica: Replica, seq: int) -> Event | None:
    """Return an event of the loaded log."""
    place = seq - replica.first
    return replica.log[place] if seq and 0 <= place < len(replica.log) else None


async def run_plain(start: Start, typed: TypedLines, options: PlainOptions) -> int:
    """Chat until the input ends or the person quits; return the exit status.

    It is 1 if something was not delivered in time, or if the input ended and anything was refused,
    so that a script notices.
    """
    session = start.session
    async with trio.open_nursery() as nursery:
        frontend = PlainFrontend(nursery, options)
        chat = Chat(start, COMMANDS, nursery, frontend)
        frontend.attach(chat)
        nursery.start_soon(_follow_session, session, chat, frontend)
        if options.terminal:  # what is typed while the server is absent is held in the journal
            nursery.start_soon(chat.begin)
        else:  # a program learns first whether its lines have a group
            await chat.begin()
        ended = await _read(chat, typed, options)
        if options.terminal and not options.json:
            is_member = chat.current.replica.standing == "member"
            chat.current.notice(_GOODBYE + _STAYING * is_member)
        done = await chat.finish(math.inf if ended else QUIT_SECONDS, everything=ended)
        chat.tell_unsent()
        nursery.cancel_scope.cancel()
    return 1 if not done or (ended and chat.refusals) else 0


# ---------------------------------------------------------------------- input


async def _read(chat: Chat, typed: TypedLines, options: PlainOptions) -> bool:
    """Enter lines until the person quits, or until there are no more: then return True."""
    ended = False

    async def read(scope: trio.CancelScope) -> None:
        nonlocal ended
        try:
            await (_read_commands if options.commands else _read_messages)(chat, typed)
        except Refused as refusal:  # the input cannot be read
            chat.current.fail(refusal)
        chat.end_of_input()
        ended = not chat.done.is_set()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, nursery.cancel_scope)
        await chat.done.wait()
        nursery.cancel_scope.cancel()
    return ended


async def _read_commands(chat: Chat, typed: TypedLines) -> None:
    """Enter each line: a message, a command, or the answer to a question."""
    text = ""
    while (line := await typed.receive()) is not None:
        if len(text) <= TEXT_LIMIT:  # a longer one is refused anyway, and must not fill the memory
            text += line.text
        if not line.more:
            await chat.prepare(text)
            chat.enter(text)
            text = ""


async def _read_messages(chat: Chat, typed: TypedLines) -> None:
    """Post each line as a message, whatever it looks like; blank lines are skipped."""
    number, parts, was_damaged = 1, 0, False
    while (line := await typed.receive()) is not None:
        if line.damaged and not was_damaged:
            was_damaged = True
            chat.current.notice(
                f"Line {number} of the input is not valid UTF-8; invalid bytes were replaced by"
                " \ufffd, here and below."
            )
        await chat.prepare("")
        parts += _post(chat, line)
        if not line.more:
            if parts > 1:
                chat.current.notice(
                    f"Line {number} of the input is longer than a message may be; it was split"
                    f" into {parts} messages."
                )
            number, parts = number + 1, 0


def _post(chat: Chat, line: TypedLine) -> int:
    """Post a line of the input, in as many messages as it takes; return how many."""
    count = 0
    for text in split_text(literal_text(line.text)):
        if not text.strip():
            continue
        try:
            chat.current.say(text)
        except Refused as refusal:
            chat.current.fail(refusal)
        count += 1
    return count


# ---------------------------------------------------------------------- updates


async def _follow_session(session: Session, chat: Chat, frontend: PlainFrontend) -> None:
    async for update in session.updates:
        await wait_writable()
        await _load_quoted(chat, update)
        if isinstance(update, CaughtUp):
            for window in chat.windows:
                if window.replica is update.replica:
                    await frontend.print_backlog(window)
        chat.handle(update)
        chat.mark_seen()


async def _load_quoted(chat: Chat, update: Update) -> None:
    """Load the message that a new message replies to: its printed line cannot be changed later."""
    match update:
        case EventReceived(replica, Event(body=Posted(reply=int(target))), True):
            window = next((one for one in chat.windows if one.replica is replica), None)
            if window is not None and chat.session.connected:
                with trio.move_on_after(_QUOTE_SECONDS), suppress(Refused):
                    await window.load_quote_to_print(target)

"""Plain front end: the chat as lines of text, for pipes, scripts, screen readers, or by choice.

One line is printed for each event:

    [HH:MM] <alice> text        a message; line breaks in it are printed as ↵
    [HH:MM] * alice waves       an action ("/me waves")
    [HH:MM] * notice            any other event
    [HH:MM] ! error             a refusal

and one line is read for each message or command. With several windows, the lines of all but the
first are prefixed with the window's title: `#ops ` or `@bob `. Programs parse this format: keep it
stable. Events that were seen before are not printed again. At the end of the input, everything
typed is still delivered and the backlog is still printed before the program ends.
"""

from __future__ import annotations

import codecs
import math
import os
import time
from typing import TYPE_CHECKING

import trio

from tchat.ui.chat.chat import QUIT_SECONDS, Chat, Start
from tchat.ui.commands.table import COMMANDS
from tchat.ui.plain.progress import ProgressReporter

if TYPE_CHECKING:
    from tchat.client.session import Session
    from tchat.ui.chat.lines import Line
    from tchat.ui.chat.window import Window

_CONTEXT_LINES = 3
"""How many lines around a search result are printed."""


class TypedLines:
    """Reads lines from a file descriptor: a terminal, a pipe, a file, or nothing.

    Not through `sys.stdin`: a thread that blocks there holds the buffer's lock, which the
    interpreter needs to exit. A thread that blocks in `os.read` may be abandoned.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._text = ""
        self._ended = False

    def read(self) -> str | None:
        """Return the next line without its end; None when there are no more. Blocks."""
        while "\n" not in self._text and not self._ended:
            data = os.read(self._descriptor, 65536)
            self._ended = not data
            self._text += self._decode(data, final=self._ended)
        line, newline, self._text = self._text.partition("\n")
        return line.removesuffix("\r") if line or newline else None

    async def receive(self) -> str | None:
        """Return the next line without its end; None when there are no more."""
        return await trio.to_thread.run_sync(self.read, abandon_on_cancel=True)


def format_line(line: Line) -> str:
    """Return a line as it is printed."""
    stamp = time.strftime("%H:%M", time.localtime(line.at / 1000))
    text = line.text.replace("\n", "↵")
    match line.sort:
        case "message" if line.deleted:
            return f"[{stamp}] * {line.who} wrote a message that was deleted"
        case "message":
            return f"[{stamp}] <{line.who}> {text}"
        case "action":
            return f"[{stamp}] * {line.who} {text}"
    return f"[{stamp}] {'*' if line.sort == 'notice' else '!'} {text}"


class PlainFrontend:
    """Prints lines. Printed lines cannot be changed, so edits and deletions are new lines."""

    rewrites = False

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._reporter: ProgressReporter | None = None
        self._first: Window | None = None

    def attach(self, chat: Chat) -> None:
        """Report the transfers of a chat."""
        self._reporter = ProgressReporter(chat.transfers, lambda text: chat.current.notice(text))

    def show(self, window: Window, line: Line) -> None:
        """Print a line, unless it was seen before."""
        if line.history:
            return
        self._first = self._first or window  # permanent: no prefix, even once it is closed
        prefix = "" if window is self._first else f"{window.title} "
        print(prefix + format_line(line), flush=True)

    def inserted(self, window: Window, count: int) -> None:
        """Do nothing: history is not printed."""

    def cleared(self, window: Window) -> None:
        """Do nothing: printed lines stay."""

    def changed(self) -> None:
        """Start to report new transfers."""
        if self._reporter is not None:
            self._reporter.watch_new(self._nursery)

    def attends(self, _: Window) -> bool:
        """Return True: a printed line counts as seen."""
        return True

    def hand_out(self, _: str) -> None:
        """Do nothing: a printed line can be copied."""

    def fill_input(self, _: str) -> bool:
        """Return False: the terminal's own input line cannot be filled in."""
        return False

    def reveal(self, window: Window, seq: int) -> None:
        """Print a search result and the messages around it."""
        spoken = [line for line in window.lines if line.who]
        at = next((index for index, line in enumerate(spoken) if line.seq == seq), None)
        if at is not None:
            for line in spoken[max(0, at - _CONTEXT_LINES) : at + _CONTEXT_LINES + 1]:
                print(f"{window.title} {format_line(line)}", flush=True)

    def key_lines(self) -> list[str]:
        """Return nothing: only the terminal handles keys."""
        return []

    def notify(self, title: str, text: str) -> None:
        """Do nothing: there is no bell."""


async def run_plain(start: Start, typed: TypedLines) -> int:
    """Chat until the input ends or the person quits; return the exit status.

    It is 1 if something was not delivered in time, or if the input ended and anything was refused,
    so that a script notices.
    """
    session = start.session
    async with trio.open_nursery() as nursery:
        frontend = PlainFrontend(nursery)
        chat = Chat(start, COMMANDS, nursery, frontend)
        frontend.attach(chat)
        nursery.start_soon(_follow_session, session, chat)
        await chat.begin()
        ended = await _read(chat, typed)
        done = await chat.finish(math.inf if ended else QUIT_SECONDS, everything=ended)
        nursery.cancel_scope.cancel()
    return 1 if not done or (ended and chat.refusals) else 0


async def _read(chat: Chat, typed: TypedLines) -> bool:
    """Enter lines until the person quits or the input ends; return whether it ended."""
    ended = False

    async def read(scope: trio.CancelScope) -> None:
        nonlocal ended
        while (line := await typed.receive()) is not None:
            await chat.prepare(line)
            chat.enter(line)
        chat.end_of_input()
        ended = not chat.done.is_set()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, nursery.cancel_scope)
        await chat.done.wait()
        nursery.cancel_scope.cancel()
    return ended


async def _follow_session(session: Session, chat: Chat) -> None:
    async for update in session.updates:
        chat.handle(update)
        chat.mark_seen()

"""The client as lines of text: for pipes, scripts, screen readers, tests, and by choice.

One line comes out for each thing that happens:

    [HH:MM] <alice> text        a message; a line break inside it is shown as ↵
    [HH:MM] * alice waves       what somebody does ("/me waves")
    [HH:MM] * notice            anything else that happened
    [HH:MM] ! error             something that was refused

and one line goes in for each message or command. With several groups, or somebody who writes to
this person alone, what is not of the first group has its name in front: `#ops ` or `@bob `.
Programs rely on this form: it is changed on purpose or not at all. What was seen before is not
shown again. When the input ends, what was typed is still delivered, and what waits is still shown,
before the program does.

Lines from standard input, whatever it is: a terminal, a pipe, a file, nothing.
"""

from __future__ import annotations

import codecs
import math
import os
import time
from typing import TYPE_CHECKING

import trio

from tchat.ui.chat.chat import LEAVE_SECONDS, Chat, Start
from tchat.ui.chat.files import ProgressReporter

if TYPE_CHECKING:
    from tchat.client.session import Session
    from tchat.ui.chat.lines import Line
    from tchat.ui.chat.window import Window


class TypedLines:
    """Reads lines from a file descriptor.

    Not through `sys.stdin`: a thread that waits in its buffer when the program ends holds a lock
    that the interpreter then wants, whereas one that waits in `os.read` may be left behind.
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


_AROUND = 3


def format_line(line: Line) -> str:
    """Return one line of the plain form."""
    stamp = time.strftime("%H:%M", time.localtime(line.at / 1000))
    text = line.text.replace("\n", "↵")
    match line.sort:
        case "message" if line.deleted:
            return f"[{stamp}] * {line.who} said something that was deleted"
        case "message":
            return f"[{stamp}] <{line.who}> {text}"
        case "action":
            return f"[{stamp}] * {line.who} {text}"
    return f"[{stamp}] {'*' if line.sort == 'notice' else '!'} {text}"


class PlainFrontend:
    """Writes lines. What was written cannot be changed; so changes are told."""

    rewrites = False

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._teller: ProgressReporter | None = None
        self._first: Window | None = None

    def attach(self, chat: Chat) -> None:
        """Tell of the transfers of a chat."""
        self._teller = ProgressReporter(chat.transfers, lambda text: chat.current.notice(text))

    def show(self, room: Window, line: Line) -> None:
        """Write a line, unless it was seen before."""
        if line.history:
            return
        self._first = self._first or room  # and no other, when it is closed
        prefix = "" if room is self._first else f"{room.title} "
        print(prefix + format_line(line), flush=True)

    def changed(self) -> None:
        """Tell of transfers that are new."""
        if self._teller is not None:
            self._teller.take_new(self._nursery)

    def attends(self, _: Window) -> bool:
        """Return True: what was written can be read."""
        return True

    def hand_out(self, _: str) -> None:
        """Do nothing: a line that was written can be copied."""

    def offer(self, _: str) -> bool:
        """Return False: the terminal's own line cannot be filled in."""
        return False

    def reveal(self, room: Window, seq: int) -> None:
        """Write a message that was found, and what was said around it."""
        said = [line for line in room.lines if line.who]
        at = next((index for index, line in enumerate(said) if line.seq == seq), None)
        if at is not None:
            for line in said[max(0, at - _AROUND) : at + _AROUND + 1]:
                print(f"{room.title} {format_line(line)}", flush=True)

    def key_lines(self) -> list[str]:
        """Return nothing: the keys are the terminal's."""
        return []

    def notify(self, title: str, text: str) -> None:
        """Do nothing: a bell is no line."""


async def run_plain(start: Start, typed: TypedLines) -> int:
    """Chat until the input ends or the person leaves; return the exit status.

    That is 1 when something of what was typed could not be delivered, or, if the input ended, was
    refused, so that a script knows.
    """
    session = start.session
    async with trio.open_nursery() as nursery:
        face = PlainFrontend(nursery)
        chat = Chat(start, nursery, face)
        face.attach(chat)
        nursery.start_soon(_show_updates, session, chat)
        await chat.begin()
        ended = await _read(chat, typed)
        done = await chat.finish(math.inf if ended else LEAVE_SECONDS, everything=ended)
        nursery.cancel_scope.cancel()
    return 1 if not done or (ended and chat.refusals) else 0


async def _read(chat: Chat, typed: TypedLines) -> bool:
    """Take lines until the person leaves, or until there are no more: then return True."""
    ended = False

    async def read(reading: trio.CancelScope) -> None:
        nonlocal ended
        while (line := await typed.receive()) is not None:
            await chat.prepare(line)
            chat.enter(line)
        chat.end_of_input()
        ended = not chat.done.is_set()
        reading.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, nursery.cancel_scope)
        await chat.done.wait()
        nursery.cancel_scope.cancel()
    return ended


async def _show_updates(session: Session, chat: Chat) -> None:
    async for update in session.updates:
        chat.take(update)
        chat.mark_seen()

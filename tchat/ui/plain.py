"""The client as lines of text: for pipes, scripts, screen readers, tests, and by choice.

One line comes out for each thing that happens:

    [HH:MM] <alice> text        a message; a line break inside it is shown as ↵
    [HH:MM] * notice            anything else that happened
    [HH:MM] ! error             something that was refused

and one line goes in for each message or command. Programs rely on this form: it is changed on
purpose or not at all. What was seen before is not shown again. When the input ends, what was
typed is still delivered, and what waits is still shown, before the program does.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import trio

from tchat.ui.chat import Chat

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

    from tchat.client.session import Session
    from tchat.ui.lines import Line
    from tchat.ui.typed import TypedLines


def format_line(line: Line) -> str:
    """Return one line of the plain form."""
    stamp = time.strftime("%H:%M", time.localtime(line.at / 1000))
    text = line.text.replace("\n", "↵")
    if line.sort == "message":
        return f"[{stamp}] <{line.who}> {text}"
    return f"[{stamp}] {'*' if line.sort == 'notice' else '!'} {text}"


async def run_plain(session: Session, group: str, downloads: Path, typed: TypedLines) -> int:
    """Chat until the input ends or the person leaves; return the exit status.

    That is 1 when the input ended and something in it was refused, so that a script knows.
    """
    replica = session.follow(group)
    ended = False
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as work:
            chat = Chat(session, replica, downloads, work, _print)
            nursery.start_soon(_show_updates, session, chat)
            await session.enter(group)
            with trio.CancelScope() as reading:
                nursery.start_soon(_cancel_when_done, chat, reading)
                await _read(chat, typed)
                ended = True
            if chat.done.is_set():
                work.cancel_scope.cancel()
            elif replica.standing == "member":
                await chat.caught_up.wait()
        if not chat.done.is_set():
            await session.settle()
        nursery.cancel_scope.cancel()
    _show_rest(session, chat)
    return 1 if ended and chat.refusals else 0


async def _read(chat: Chat, typed: TypedLines) -> None:
    while (line := await typed.receive()) is not None:
        chat.enter(line)
        await trio.lowlevel.checkpoint()


async def _cancel_when_done(chat: Chat, reading: trio.CancelScope) -> None:
    await chat.done.wait()
    reading.cancel()


async def _show_updates(session: Session, chat: Chat) -> None:
    async for update in session.updates:
        chat.take(update)
        session.mark_seen(chat.replica)


def _show_rest(session: Session, chat: Chat) -> None:
    while True:
        try:
            chat.take(session.updates.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            break
    session.mark_seen(chat.replica)


def _print(line: Line, stream: TextIO | None = None) -> None:
    if not line.history:
        print(format_line(line), file=stream or sys.stdout, flush=True)

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

import math
import time
from typing import TYPE_CHECKING

import trio

from tchat.ui.chat import LEAVE_SECONDS, Chat, Start

if TYPE_CHECKING:
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


async def run_plain(start: Start, typed: TypedLines) -> int:
    """Chat until the input ends or the person leaves; return the exit status.

    That is 1 when something of what was typed could not be delivered, or, if the input ended, was
    refused, so that a script knows.
    """
    session = start.session
    replica = session.follow(start.group)
    async with trio.open_nursery() as nursery:
        chat = Chat(session, replica, start.downloads, nursery, _print)
        nursery.start_soon(_show_updates, session, chat)
        await session.enter(start.group, invite=start.invite)
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


def _print(line: Line) -> None:
    if not line.history:
        print(format_line(line), flush=True)

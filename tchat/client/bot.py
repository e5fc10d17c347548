"""Bots: one coroutine that is called for every message, on the same session as people use.

    async def echo(message: Message) -> None:
        if message.text.startswith("!echo "):
            await message.reply(message.text.removeprefix("!echo "))

    run_bot(echo)

`run_bot` takes the command line: `HOST PORT --group GROUP --user NAME`. A bot joins like a
person: it founds the group, or waits until the admin approves it. It is called only for what
others say from then on, never for history, so it does not answer yesterday's questions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.client.home import state_directory
from tchat.client.session import open_session
from tchat.client.slot import take_slot
from tchat.client.updates import CaughtUp, Happened
from tchat.core.events import Posted
from tchat.core.text import fold
from tchat.errors import Refused, run_reporting
from tchat.net.address import Address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.events import Event


@dataclass(frozen=True, slots=True)
class Message:
    """Something that somebody said: `at` is in ms since the Unix epoch."""

    session: Session
    replica: Replica
    author: str
    text: str
    at: int

    async def reply(self, text: str) -> None:
        """Say something to the same group; returns when the server has it on disk."""
        await self.session.post(self.replica, text).wait()


Handler = Callable[[Message], Awaitable[None]]


async def serve_bot(session: Session, group: str, handler: Handler) -> None:
    """Join a group and call `handler` for each new message of others, in order, for ever."""
    await session.enter(group)
    history_ends: int | None = None
    async for update in session.updates:
        if isinstance(update, CaughtUp) and history_ends is None:
            history_ends = update.replica.head
        elif isinstance(update, Happened):
            event = update.event
            if history_ends is not None and event.seq > history_ends:
                await _call(session, update.replica, event, handler)
            session.mark_seen(update.replica, event.seq)


async def _call(session: Session, replica: Replica, event: Event, handler: Handler) -> None:
    if isinstance(event.body, Posted) and fold(event.actor) != fold(session.user):
        try:
            await handler(Message(session, replica, event.actor, event.body.text, event.at))
        except Refused as refusal:  # a reply that cannot be sent is no reason to go silent
            print(f"refused ({refusal.code}): {refusal}", file=sys.stderr)


async def _run(address: Address, user: str, group: str, handler: Handler) -> None:
    with take_slot(state_directory()) as slot:
        async with open_session(address, user, slot) as session:
            await serve_bot(session, group, handler)


def run_bot(handler: Handler, arguments: Sequence[str] | None = None) -> None:
    """Run a bot from the command line until it is interrupted; exits 1 if it cannot go on."""
    parser = argparse.ArgumentParser(description=handler.__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--group", required=True)
    parser.add_argument("--user", default=handler.__name__)
    given = parser.parse_args(arguments)
    address = Address(given.host, given.port)
    run = partial(_run, address, given.user, given.group, handler)
    sys.exit(run_reporting(partial(trio.run, run)))

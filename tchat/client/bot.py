"""Bots: one coroutine that is called for every message, on the same session as people use.

    async def echo(message: Message) -> None:
        if message.text.startswith("!echo "):
            await message.reply(message.text.removeprefix("!echo "))

    run_bot(echo)

`run_bot` takes the command line: `HOST PORT --group GROUP --user NAME`, and the options of `join`
that say which server that is. A bot joins like a person: it founds the group, or waits until the
admin approves it. It is called only for what
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

from tchat.client.connector import meeting
from tchat.client.options import add_server_options, invite_token, session_for
from tchat.client.updates import CaughtUp, Happened, ServerMet
from tchat.core.events import Approved, Created, Joined, Posted
from tchat.core.text import fold
from tchat.errors import Refused, run_reporting

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


async def serve_bot(
    session: Session, group: str, handler: Handler, invite: bytes | None = None
) -> None:
    """Join a group and call `handler` for each new message of others, in order, for ever."""
    await session.enter(group, invite=invite)
    me = fold(session.user)
    history: list[Event] | None = []
    async for update in session.updates:
        match update:
            case ServerMet(met):
                print(f"{meeting(met)}.", file=sys.stderr)
            case Happened(replica, event) if history is not None:
                history.append(event)
            case CaughtUp(replica) if history is not None:
                start = replica.head
                if replica.came_as != "member":  # it is new, and hears what is said since it is in
                    start = max((e.seq for e in history if _admits(e, me)), default=start)
                for event in history:
                    if event.seq > start:
                        await _call(session, replica, event, handler)
                history = None
                session.mark_seen(replica, replica.state.seq)
            case Happened(replica, event):
                await _call(session, replica, event, handler)
                session.mark_seen(replica, event.seq)


def _admits(event: Event, me: str) -> bool:
    """Return whether an event made this person a member."""
    match event.body:
        case Approved(name):
            return fold(name) == me
        case Created() | Joined():
            return fold(event.actor) == me
    return False


async def _call(session: Session, replica: Replica, event: Event, handler: Handler) -> None:
    if isinstance(event.body, Posted) and fold(event.actor) != fold(session.user):
        try:
            await handler(Message(session, replica, event.actor, event.body.text, event.at))
        except Refused as refusal:  # a reply that cannot be sent is no reason to go silent
            print(f"refused ({refusal.code}): {refusal}", file=sys.stderr)


async def _run(given: argparse.Namespace, handler: Handler) -> None:
    async with session_for(given, given.user) as session:
        await serve_bot(session, given.group, handler, invite_token(given))


def run_bot(handler: Handler, arguments: Sequence[str] | None = None) -> None:
    """Run a bot from the command line until it is interrupted; exits 1 if it cannot go on."""
    parser = argparse.ArgumentParser(description=handler.__doc__)
    add_server_options(parser)
    parser.add_argument("--group", required=True)
    parser.add_argument("--user", default=handler.__name__)
    run = partial(_run, parser.parse_args(arguments), handler)
    sys.exit(run_reporting(partial(trio.run, run)))

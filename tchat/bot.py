"""Bots: one coroutine that is called for every message, on the same session as people use.

    async def echo(message: Message) -> None:
        if message.text.startswith("!echo "):
            await message.reply(message.text.removeprefix("!echo "))

    run_bot(echo)

`run_bot` takes the command line: `HOST PORT --group GROUP --user NAME`, and the options of `join`
that say which server that is. A bot joins like a person: it founds the group, or waits until the
admin approves it. It is called only for what others say from then on, in the group or to the bot
alone, and never for history, so it does not answer yesterday's questions. What was said while its
connection was broken is no history; what was said while the program did not run is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.client.config.options import add_server_options, invite_token, session_for
from tchat.client.connector import first_visit_notice
from tchat.client.updates import CaughtUp, Connected, EventReceived, JournalDamaged, NewServer
from tchat.core.group.commands import Delete
from tchat.core.group.direct import is_direct, other_of
from tchat.core.group.events import Approved, Created, Joined, Posted
from tchat.core.protocol.frames import Ok
from tchat.core.text import fold
from tchat.errors import Refused, complain, run_reporting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.client.updates import Update
    from tchat.core.group.events import Event


@dataclass(frozen=True, slots=True)
class Message:
    """Something that somebody said, as event `seq` of its group, at `at` (ms since the Unix epoch).

    `replica` is the group; for what is said to the bot alone, that conversation.
    """

    session: Session
    replica: Replica
    author: str
    text: str
    at: int
    seq: int

    async def reply(self, text: str) -> int | None:
        """Say something in the same place; returns when the server has it on disk.

        Returns its seq, by which it can be edited or deleted; None if only an earlier connection
        knew that. Raises `Refused`.
        """
        return await self._say(text, None)

    async def answer(self, text: str) -> int | None:
        """Do as `reply` does, and let people see that it is an answer to this message."""
        return await self._say(text, self.seq)

    async def delete(self) -> None:
        """Take this message away, as the admin of the group. Raises `Refused`."""
        await self.session.request(lambda i, n: Delete(i, n, self.replica.name, self.seq))

    async def _say(self, text: str, reply: int | None) -> int | None:
        pending = self.session.post(self.replica, text, reply)
        try:
            answer = await pending.wait()
        except Refused:
            self.session.discard(pending)  # a bot does not look at it later
            raise
        return answer.seq if isinstance(answer, Ok) else None


Handler = Callable[[Message], Awaitable[None]]


async def serve_bot(
    session: Session, group: str, handler: Handler, invite: bytes | None = None
) -> None:
    """Join a group and call `handler` for each new message of others, in order, for ever."""
    bot = _Bot(session, await session.enter(group, invite=invite), handler)
    async with trio.open_nursery() as nursery:
        async for update in session.updates:
            if isinstance(update, Connected):
                nursery.start_soon(bot.find_conversations)
            await bot.take(update)


class _Bot:
    """Calls `handler` for what is news: in each group, what comes behind its event in `_starts`.

    What there is of `group` at first waits until all of it has come and that event is known. The
    conversations of two that were there before the bot begin where they were, others at 0.
    """

    def __init__(self, session: Session, group: Replica, handler: Handler) -> None:
        self._session = session
        self._group = group
        self._handler = handler
        self._starts: dict[Replica, int] = {}
        self._waiting: list[Event] = []
        self._knows_conversations = False

    async def find_conversations(self) -> None:
        """Follow what people say to the bot alone, also what they began while it was cut off."""
        session = self._session
        groups = [group for group in await session.my_groups() if is_direct(group.name)]
        knew, self._knows_conversations = self._knows_conversations, True
        for group in groups:
            if fold(group.name) not in session.groups:
                self._starts[session.follow(group.name)] = 0 if knew else group.seq
                await session.write_to(other_of(group.name, session.user))

    async def take(self, update: Update) -> None:
        """Do what follows from what the session tells."""
        match update:
            case NewServer(pin):
                complain(first_visit_notice(pin))
            case JournalDamaged(sentence):
                complain(sentence)
            case EventReceived(replica, event) if replica is self._group and not self._has_begun:
                self._waiting.append(event)
            case EventReceived(replica, event):
                await self._hear(replica, event)
            case CaughtUp(replica) if replica is self._group and not self._has_begun:
                self._starts[replica] = self._start(replica)
                for event in self._waiting:
                    await self._hear(replica, event)

    @property
    def _has_begun(self) -> bool:
        return self._group in self._starts

    def _start(self, replica: Replica) -> int:
        """Return the last event that is history: one that is new hears what is said since then."""
        if replica.initial_standing == "member":
            return replica.head
        me = fold(self._session.user)
        return max((e.seq for e in self._waiting if _admits(e, me)), default=replica.head)

    async def _hear(self, replica: Replica, event: Event) -> None:
        if event.seq > self._starts.get(replica, 0):
            await _call(self._session, replica, event, self._handler)
        self._session.mark_seen(replica, event.seq)


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
            said = event.body.text
            await handler(Message(session, replica, event.actor, said, event.at, event.seq))
        except Refused as refusal:  # a reply that cannot be sent is no reason to go silent
            complain(f"refused ({refusal.code}): {refusal}")


async def _run(given: argparse.Namespace, handler: Handler) -> None:
    async with session_for(given, given.user, recent=0) as session:
        await serve_bot(session, given.group, handler, invite_token(given))


def run_bot(handler: Handler, arguments: Sequence[str] | None = None) -> None:
    """Run a bot from the command line until it is interrupted; exits 1 if it cannot go on."""
    parser = argparse.ArgumentParser(description=handler.__doc__)
    add_server_options(parser)
    parser.add_argument("--group", required=True)
    parser.add_argument("--user", default=handler.__name__)
    run = partial(_run, parser.parse_args(arguments), handler)
    sys.exit(run_reporting(partial(trio.run, run)))

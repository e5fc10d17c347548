"""Bots: run one coroutine for every new message, on the same session that people use.

    async def echo(message: Message) -> None:
        if message.text.startswith("!echo "):
            await message.reply(message.text.removeprefix("!echo "))

    run_bot(echo)

`run_bot` parses the command line: `HOST PORT --group GROUP --user NAME`, and the options of `join`
for the server. A bot joins like a person: it waits until the admin approves it. A group that does
not exist is an error, since its name was probably mistyped; with `--create` the bot founds it. The
coroutine is called for new messages of others, in the group or directly to the bot. It is never
called for history, so that the bot does not answer yesterday's questions. A message that was sent
while the connection was broken counts as new; a message that was sent while the program did not run
counts as history.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.client.config.options import (
    CREATE_HINT,
    AddressParser,
    add_create,
    add_server_options,
    invite_token,
    session_for,
)
from tchat.client.connector import first_visit_notice
from tchat.client.updates import (
    Addressed,
    CaughtUp,
    Connected,
    EventReceived,
    JournalDamaged,
    NewServer,
    RefusalFound,
    StandingChanged,
)
from tchat.core.group.direct import is_direct, other_of
from tchat.core.group.membership import Approved, Created, Joined
from tchat.core.group.messages import Delete, Posted
from tchat.core.protocol.frames import Ok
from tchat.core.text import clean_line, fold
from tchat.errors import Code, Refused, root_of
from tchat.streams import complain, open_standard_streams, run_reporting

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.client.updates import Update
    from tchat.core.group.feature import Event
    from tchat.core.protocol.frames import MembershipChange, Standing


@dataclass(frozen=True, slots=True)
class Message:
    """A message of `author`, posted as event `seq` of its group, at `at` (ms since the Unix epoch).

    `replica` is the group, or the direct conversation with the bot.
    """

    session: Session
    replica: Replica
    author: str
    text: str
    at: int
    seq: int

    async def reply(self, text: str) -> int | None:
        """Post a message in the same group, and return its seq once the server has it on disk.

        The seq is needed to edit or delete the message. It is None if the connection broke and the
        answer was lost. Raises `Refused`.
        """
        return await self._say(text, None)

    async def answer(self, text: str) -> int | None:
        """Post a message that is shown as a reply to this one; see `reply` for the rest."""
        return await self._say(text, self.seq)

    async def delete(self) -> None:
        """Delete this message; the bot has to be the admin of the group. Raises `Refused`."""
        await self.session.request(lambda i, n: Delete(i, n, self.replica.name, self.seq))

    async def _say(self, text: str, reply: int | None) -> int | None:
        pending = self.session.post(self.replica, text, reply)
        try:
            answer = await pending.wait()
        except Refused:
            self.session.discard(pending)  # a bot has no person who could send it again
            raise
        return answer.seq if isinstance(answer, Ok) else None


Handler = Callable[[Message], Awaitable[None]]


async def serve_bot(
    session: Session,
    group: str,
    handler: Handler,
    invite: bytes | None = None,
    *,
    create: bool = False,
) -> None:
    """Join a group and call `handler` for each new message of others, in order, until cancelled.

    With `create`, a group that does not exist is founded. Raises `Refused`.
    """
    bot = _Bot(session, await session.enter(group, invite=invite, create=create), handler)
    async with trio.open_nursery() as nursery:
        async for update in session.updates:
            if isinstance(update, Connected):
                nursery.start_soon(bot.find_conversations)
            await bot.handle(update)


class _Bot:
    """Calls `handler` for new events; `_starts` has the last seq of each group's history.

    Events of `group` are held back until catch-up is complete and that seq is known. For a direct
    conversation that existed when the bot started, it is the last seq at that time; for others, 0.
    """

    def __init__(self, session: Session, group: Replica, handler: Handler) -> None:
        self._session = session
        self._group = group
        self._handler = handler
        self._starts: dict[Replica, int] = {}
        self._held_back: list[Event] = []
        self._knows_conversations = False
        self._standings: dict[Replica, Standing | None] = {}

    async def find_conversations(self) -> None:
        """Subscribe to the bot's direct conversations, also those begun while disconnected."""
        session = self._session
        groups = [group for group in await session.my_groups() if is_direct(group.name)]
        known, self._knows_conversations = self._knows_conversations, True
        for group in groups:
            if fold(group.name) not in session.groups:
                self._starts[session.follow(group.name)] = 0 if known else group.last
                await session.write_to(other_of(group.name, session.user))

    async def _begin_conversation(self, group: str, seq: int) -> None:
        """Subscribe to a direct conversation in which message `seq` is new."""
        self._starts.setdefault(self._session.follow(group), seq - 1)
        try:
            await self._session.write_to(other_of(group, self._session.user))
        except Refused as refusal:
            complain(f"refused ({refusal.code}): {refusal}")

    async def handle(self, update: Update) -> None:  # a table: one case per update
        """Handle an update of the session."""
        match update:
            case NewServer(pin):
                complain(first_visit_notice(pin))
            case JournalDamaged(sentence):
                complain(sentence)
            case RefusalFound(pending, failure):  # nobody could send it again
                complain(f"refused ({failure.code}), left by another process: {failure}")
                self._session.discard(pending)
            case Addressed(group, seq) if is_direct(group):
                await self._begin_conversation(group, seq)
            case StandingChanged(replica, news):
                self._report_standing(replica, news)
            case EventReceived(replica, event) if replica is self._group and not self._has_started:
                self._held_back.append(event)
            case EventReceived(replica, event):
                await self._handle_event(replica, event)
            case CaughtUp(replica) if replica is self._group and not self._has_started:
                self._starts[replica] = self._start_of(replica)
                for event in self._held_back:
                    await self._handle_event(replica, event)

    def _report_standing(self, replica: Replica, news: MembershipChange | None) -> None:
        """Log a standing that matters to the operator: the bot waits, was admitted, or is out."""
        before = self._standings.get(replica)
        now = self._standings[replica] = replica.standing
        sentence = ""
        if now == "waiting":
            sentence = f"waiting for {replica.admin or 'the admin'} to approve"
        elif now == "member":
            sentence = "a member" if before is not None else ""
        elif news is not None:
            sentence = f"no longer a member ({news.reason} by {news.by})"
        elif replica.banned:
            sentence = "banned; only the admin can lift the ban"
        elif replica.kicked:
            sentence = "kicked; an invite lets the bot in again"
        elif before is not None:
            sentence = "no longer a member" if before == "member" else "not approved"
        if sentence:
            complain(clean_line(f"{self._session.user} in {replica.name}: {sentence}"))

    @property
    def _has_started(self) -> bool:
        return self._group in self._starts

    def _start_of(self, replica: Replica) -> int:
        """Return the last seq that is history: if the bot just joined, the seq of its admission."""
        if replica.initial_standing == "member":
            return replica.head
        me = fold(self._session.user)
        return max((e.seq for e in self._held_back if _admits(e, me)), default=replica.head)

    async def _handle_event(self, replica: Replica, event: Event) -> None:
        if event.seq > self._starts.get(replica, 0):
            await _call_handler(self._session, replica, event, self._handler)
        self._session.mark_seen(replica, event.seq)


def _admits(event: Event, me: str) -> bool:
    """Return whether an event made the person with this folded name a member."""
    match event.body:
        case Approved(name):
            return fold(name) == me
        case Created() | Joined():
            return fold(event.actor) == me
    return False


async def _call_handler(session: Session, replica: Replica, event: Event, handler: Handler) -> None:
    if isinstance(event.body, Posted) and fold(event.actor) != fold(session.user):
        try:
            text = event.body.text
            await handler(Message(session, replica, event.actor, text, event.at, event.seq))
        except Refused as refusal:  # a reply that is refused must not stop the bot
            complain(f"refused ({refusal.code}): {refusal}")


async def _run(given: argparse.Namespace, handler: Handler) -> None:
    async with session_for(given, given.user, recent=0) as session:
        try:
            await serve_bot(session, given.group, handler, invite_token(given), create=given.create)
        except* Refused as refusals:
            refusal = root_of(refusals)
            if isinstance(refusal, Refused) and refusal.code == Code.NO_SUCH_GROUP:
                raise Refused(refusal.code, f"{refusal} {CREATE_HINT}") from refusal
            raise


def run_bot(handler: Handler, arguments: Sequence[str] | None = None) -> None:
    """Run a bot with the options on the command line until it is interrupted; exit 1 on errors."""
    open_standard_streams()
    parser = AddressParser(description=handler.__doc__)
    add_server_options(parser)
    add_create(parser)
    parser.add_argument("--group", metavar="NAME", required=True, help="the group to join")
    parser.add_argument(
        "--user",
        metavar="NAME",
        default=handler.__name__,
        help="the bot's username (default: %(default)s)",
    )
    sys.exit(run_reporting(lambda: trio.run(partial(_run, parser.parse_args(arguments), handler))))

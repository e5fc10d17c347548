"""One task per active group, and the group's only writer.

A turn: take what waits in the inbox, decide, append once, apply, broadcast, answer. The order in
which the actor takes commands is the group's order; there are no locks, because nothing else
changes the group. What it broadcasts and acknowledges has been committed: nobody ever sees a
message that a crash then unsays.

The actor never waits for a reader. A subscription is *live* when it has everything up to the
group's head and is fed by the broadcast; otherwise it is *catching up*, fed in pages from the
store at the pace of its own socket. A live one whose outbox is full goes back to catching up and
costs a cursor, not memory. Both changes happen where no other task can run in between, at a
known seq, so nothing is missed and nothing comes twice.

Decisions are taken on a copy of the state, which becomes the state when the append has returned
and is forgotten when it has failed. Refused or not, every command is answered once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tchat.core.events import (
    Approved,
    Denied,
    Event,
    Joined,
    Kicked,
    Left,
    Withdrawn,
    decode_event,
    encode_event,
)
from tchat.core.frames import Attach, Attached, Failed, Membership, Ok, encode, failed
from tchat.core.framing import split_frames
from tchat.core.group import DEFAULT_LIMITS, GroupLimits, decide
from tchat.core.state import Author, Group
from tchat.core.text import fold
from tchat.errors import Refused
from tchat.server.audience import Audience, Subscription
from tchat.server.effects import CHANGES_AUDIENCE, effects_of
from tchat.store.base import Page, StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tchat.core.commands import Command
    from tchat.core.frames import Standing
    from tchat.server.log import Log
    from tchat.server.outbox import Outbox
    from tchat.store.base import Store

INBOX_LIMIT = 256
IDLE_SECONDS = 30.0
_MOST_IN_A_TURN = 1000
_MOST_BYTES_IN_A_TURN = 256 * 1024


@dataclass(frozen=True, slots=True)
class Execute:
    """A command to decide. `checks` may refuse it once it is known not to be a repetition."""

    author: Author
    command: Command
    outbox: Outbox
    checks: Sequence[Callable[[], None]] = ()


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A connection wants to follow the group."""

    subscription: Subscription
    request: Attach


@dataclass(frozen=True, slots=True)
class Saw:
    """A person has seen the events up to `seq`."""

    name: str
    seq: int


@dataclass(frozen=True, slots=True)
class Consult:
    """Call `look` with the committed state, which it must not change; it answers to `outbox`."""

    look: Callable[[Group], None]
    outbox: Outbox


@dataclass(frozen=True, slots=True)
class Wake:
    """Take a turn: something changed that was not said through the inbox."""


Item = Execute | Subscribe | Saw | Consult | Wake


@dataclass(slots=True)
class _Turn:
    """What one turn will append, and what it will then say to whom."""

    draft: Group
    events: list[Event] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    answers: list[tuple[Execute, Ok | Failed]] = field(default_factory=list)
    taken: list[Item] = field(default_factory=list)
    seen: list[Saw] = field(default_factory=list)
    size: int = 0
    independent: int = 0

    def add_answer(self, item: Execute, answer: Ok | Failed) -> None:
        """Note what to answer once the events so far are committed."""
        self.answers.append((item, answer))
        if not self.events:
            self.independent = len(self.answers)

    def fail(self, refusal: Refused) -> None:
        """Refuse every command from the first that had events on.

        What was answered behind that one was decided on a state that never came to be, even
        where the answer added nothing. The first `independent` answers hold.
        """
        for index in range(self.independent, len(self.answers)):
            item, _ = self.answers[index]
            self.answers[index] = (item, failed(refusal, item.command.id))


class GroupActor:
    """The task of the group that is folded to `key`.

    `clock` gives ms since the Unix epoch; `moved` is called with whoever became something else
    to the group; `retire` is called, at a moment when the inbox is empty, before an idle actor
    ends.
    """

    def __init__(
        self,
        key: str,
        store: Store,
        log: Log,
        clock: Callable[[], int],
        retire: Callable[[GroupActor], None],
        moved: Callable[[str, Mapping[str, Standing]], None],
        limits: GroupLimits = DEFAULT_LIMITS,
    ) -> None:
        self.key = key
        self.group = Group()
        self.inbox: trio.MemorySendChannel[Item]
        self.inbox, self._arriving = trio.open_memory_channel[Item](INBOX_LIMIT)
        self._waiting: deque[Item] = deque()
        self._turn = _Turn(self.group)
        self._store = store
        self._log = log
        self._clock = clock
        self._retire = retire
        self._moved = moved
        self._limits = limits
        self._audience = Audience(store, key)
        self._read: dict[str, int] = {}
        self._unsaved_reads: dict[str, int] = {}

    async def run(self) -> None:
        """Work until the inbox is closed, or until nobody has cared for `IDLE_SECONDS`."""
        with self._arriving:
            try:
                await self._work()
            except BaseException:
                self._abandon()
                raise

    async def _work(self) -> None:
        await self._load()
        async with trio.open_nursery() as feeders:
            self._audience.open(self.group, feeders)
            while await self._take():
                await self._take_turn()
            await self._save_reads()
            feeders.cancel_scope.cancel()

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscription whose connection has ended or detached. Safe from any task."""
        subscription.gone = True
        self._audience.drop(subscription)
        if self._arriving.statistics().tasks_waiting_receive:
            self.inbox.send_nowait(Wake())

    def _abandon(self) -> None:
        """Close every connection this actor owes something: they will come back and ask again."""
        self._audience.close()
        items = [*self._turn.taken, *self._waiting]
        while True:
            try:
                items.append(self._arriving.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        for item in items:
            if isinstance(item, Execute | Consult):
                item.outbox.close()
            elif isinstance(item, Subscribe):
                item.subscription.outbox.close()

    async def _load(self) -> None:
        after = 0
        while (page := await self._store.read(self.key, after)) is not None:
            for body in split_frames(page.frames):
                self.group.apply(decode_event(body))
            after = page.last
        self._read = await self._store.cursors(self.key)

    async def _take(self) -> bool:
        """Gather everything that waits; return False when it is time to end."""
        if not (self._waiting or self._audience.unsettled):
            patience = float("inf") if self._audience else IDLE_SECONDS if self.group.seq else 0
            with trio.move_on_after(patience):
                try:
                    self._waiting.append(await self._arriving.receive())
                except trio.EndOfChannel:
                    return False
        while len(self._waiting) < _MOST_IN_A_TURN:
            try:
                self._waiting.append(self._arriving.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        # Looked at behind the inbox, which may have been filled while the time ran out.
        if self._waiting or self._audience.unsettled:
            return True
        self._retire(self)
        return False

    async def _take_turn(self) -> None:
        turn = self._decide()
        if turn.events:
            page = Page(self.group.seq + 1, turn.draft.seq, b"".join(turn.frames))
            effects = effects_of(self.group, turn.draft, turn.events)
            try:
                await self._store.append(
                    self.key, self.group.seq, len(turn.events), page.frames, effects
                )
            except StorageFull as full:
                self._log.line("fault", where=f"group {self.key}", reason=full.sentence)
                turn.fail(full)
            else:
                self._publish(turn, page)
            people = effects.standings
            self._moved(self.key, {person: self.group.standing(person) for person in people})
        for item, answer in turn.answers:
            item.outbox.push(encode(answer))
        for saw in turn.seen:
            self._note_read(fold(saw.name), min(saw.seq, self.group.seq))
        if self._audience.settle():
            await self._save_reads()

    def _decide(self) -> _Turn:
        """Work through what waits, in order, and return what there is to append and to answer.

        The turn ends early at an event that changes who may hear the rest, and at an item that
        has to find the commands before it done.
        """
        commands = any(isinstance(item, Execute) for item in self._waiting)
        self._turn = turn = _Turn(self.group.copy() if commands else self.group)
        now = self._clock()
        while self._waiting and turn.size < _MOST_BYTES_IN_A_TURN:
            if turn.answers and isinstance(self._waiting[0], Subscribe | Consult):
                break
            item = self._waiting.popleft()
            turn.taken.append(item)
            if isinstance(item, Saw):
                turn.seen.append(item)
            elif not isinstance(item, Execute):
                self._attend(item)
            elif self._decide_one(turn, item, now):
                break
        return turn

    def _decide_one(self, turn: _Turn, item: Execute, now: int) -> bool:
        """Add a command's events and answer to the turn; return whether the audience changes."""
        command = item.command
        try:
            events = decide(turn.draft, item.author, command, now, self._limits)
            if events:
                for check in item.checks:
                    check()
        except Refused as refusal:
            turn.add_answer(item, failed(refusal, command.id))
            return False
        for event in events:
            turn.draft.apply(event)
            turn.frames.append(encode_event(event))
            turn.size += len(turn.frames[-1])
        turn.events += events
        turn.add_answer(item, Ok(command.id, events[-1].seq if events else None))
        return any(isinstance(event.body, CHANGES_AUDIENCE) for event in events)

    def _publish(self, turn: _Turn, page: Page) -> None:
        """Make the committed events the group's state and send them to everybody. Never waits."""
        self.group = turn.draft
        self._audience.broadcast(page, self.group)
        for event in turn.events:
            self._log.event(event)
            self._tell_concerned(event)

    def _tell_concerned(self, event: Event) -> None:
        """Tell a person whose standing an event changed, on all their connections."""
        by, group, audience = event.actor, event.group, self._audience
        match event.body:
            case Approved(name):
                self._tell_admitted(fold(name), Membership(group, "member", "approved", by))
            case Joined(by=inviter):
                self._tell_admitted(fold(by), Membership(group, "member", "joined", inviter or by))
            case Denied(name):
                audience.dismiss(fold(name), Membership(group, "outsider", "denied", by))
            case Kicked(name):
                audience.dismiss(fold(name), Membership(group, "outsider", "kicked", by))
            case Left() | Withdrawn():
                audience.dismiss(fold(by), Membership(group, "outsider", "left", by))
                if not self.group.members:
                    audience.dismiss_all(Membership(group, "outsider", "closed", by))

    def _tell_admitted(self, person: str, news: Membership) -> None:
        for subscription in self._audience.of(person):
            subscription.outbox.push(encode(news))
        self._audience.unsettled = True

    def _attend(self, item: Item) -> None:
        match item:
            case Subscribe(subscription, request):
                self._subscribe(subscription, request)
            case Consult(look, _):
                look(self.group)

    def _subscribe(self, subscription: Subscription, request: Attach) -> None:
        author, group = subscription.author, self.group
        standing = group.standing(author.name)
        key = fold(author.name)
        # A group that is closed has a name no more: who founds it anew may spell it otherwise.
        name = group.name if group.members else request.group
        admin = group.admin_name or None
        answer = Attached(request.id, name, standing, admin=admin, kicked=key in group.kicked)
        if standing == "member":
            answer = Attached(
                request.id, name, standing, group.seq, group.counted(author), self._read.get(key, 0)
            )
        subscription.outbox.push(encode(answer))
        if standing == "outsider" or subscription.gone:
            return
        self._audience.add(subscription)
        if standing == "member":
            after = min(max(request.after, group.floor - 1), group.seq)
            self._audience.admit(subscription, after)

    def _note_read(self, key: str, seq: int) -> None:
        if key in self.group.members and seq > self._read.get(key, 0):
            self._read[key] = self._unsaved_reads[key] = seq

    async def _save_reads(self) -> None:
        """Keep what people have seen. Losing this in a crash shows them a few lines again."""
        reads, self._unsaved_reads = self._unsaved_reads, {}
        if reads:
            try:
                await self._store.set_cursors(self.key, reads)
            except StorageFull:
                self._unsaved_reads = reads | self._unsaved_reads

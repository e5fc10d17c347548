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
from typing import TYPE_CHECKING

import trio

from tchat.core.group.commands import Delete, Edit
from tchat.core.group.events import (
    Approved,
    Banned,
    Deleted,
    Denied,
    Event,
    Joined,
    Kicked,
    Left,
    Posted,
    Withdrawn,
    decode_event,
    encode_event,
)
from tchat.core.group.rules import DEFAULT_LIMITS, GroupLimits, decide
from tchat.core.group.state import Group
from tchat.core.protocol.frames import (
    Attach,
    Attached,
    ConversationStarted,
    MembershipChange,
    Ok,
    encode,
    failed,
)
from tchat.core.text import fold
from tchat.errors import Code, Refused
from tchat.server.groups.inbox import Batch, Execute, Item, Query, ReadReceipt, Subscribe, Wake
from tchat.server.groups.side_effects import CHANGES_AUDIENCE, begins_talk, effects_of
from tchat.server.groups.state_cache import StateCache, snapshot_of
from tchat.server.groups.subscriptions import Subscription, Subscriptions
from tchat.store.base import Page, StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tchat.core.group.commands import Command
    from tchat.core.protocol.frames import Standing
    from tchat.server.log import Log
    from tchat.server.presence import Presence
    from tchat.store.base import SideEffects, Store

INBOX_LIMIT = 1024
IDLE_SECONDS = 30.0
_ENDS_TURN = {*CHANGES_AUDIENCE, Deleted}
_MOST_IN_A_TURN = 1000
_MOST_BYTES_IN_A_TURN = 256 * 1024


class GroupActor:
    """The task of the group that is folded to `key`.

    `clock` gives ms since the Unix epoch; `crowd` is whom a conversation of two is announced to,
    and knows who is away; `moved` is called with whoever became something else to the group;
    `retire` is called, at a moment when the inbox is empty, before an idle actor ends.
    """

    def __init__(
        self,
        key: str,
        store: Store,
        log: Log,
        clock: Callable[[], int],
        crowd: Presence,
        retire: Callable[[GroupActor], None],
        moved: Callable[[str, Mapping[str, Standing]], None],
        limits: GroupLimits = DEFAULT_LIMITS,
    ) -> None:
        self.key = key
        self.group = Group.unwritten(key)
        self.inbox: trio.MemorySendChannel[Item]
        self.inbox, self._arriving = trio.open_memory_channel[Item](INBOX_LIMIT)
        self._waiting: deque[Item] = deque()
        self._turn = Batch(self.group)
        self._store = store
        self._log = log
        self._clock = clock
        self._crowd = crowd
        self._retire = retire
        self._moved = moved
        self._limits = limits
        self._states = StateCache(store, key)
        self._audience = Subscriptions(store, key, crowd.away)
        self._snapshot = (0, b"")
        self._read: dict[str, int] = {}
        self._unsaved_reads: dict[str, int] = {}

    @property
    def erasures(self) -> int:
        """How often something was erased here."""
        return self._audience.erasures

    def read_by(self, person: str) -> int:
        """Return the last event that a person (folded) saw."""
        return self._read.get(person, 0)

    async def run(self) -> None:
        """Work until the inbox is closed, or until nobody has cared for `IDLE_SECONDS`."""
        with self._arriving:
            try:
                await self._work()
            except BaseException:
                self._abandon()
                raise

    async def _work(self) -> None:
        self.group, self._read = await self._states.load()
        async with trio.open_nursery() as feeders:
            self._audience.open(self.group, feeders)
            while await self._take():
                await self._take_turn()
                self._states.keep_beside(self.group, feeders)
            await self._save_reads()
            await self._states.keep(self.group)
            feeders.cancel_scope.cancel()

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscription whose connection has ended or detached. Safe from any task."""
        subscription.gone = True
        self._audience.drop(subscription)
        self._wake()

    def stir(self) -> None:
        """Look again who of the audience is away. Safe from any task."""
        self._audience.unsettled = True
        self._wake()

    def _wake(self) -> None:
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
            if isinstance(item, Execute | Query):
                item.send_queue.close()
            elif isinstance(item, Subscribe):
                item.subscription.send_queue.close()

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
        turn = await self._begin_turn()
        self._decide(turn)
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
                self._publish(turn, page, effects)
            people = effects.standings
            self._moved(self.key, {person: self.group.standing(person) for person in people})
        turn.tell()
        for saw in turn.seen:
            self._note_read(fold(saw.name), min(saw.seq, self.group.seq))
        if self._audience.settle():
            await self._save_reads()

    async def _begin_turn(self) -> Batch:
        """Return a turn that has what its commands are decided by, and is not in the state."""
        commands = [item.command for item in self._waiting if isinstance(item, Execute)]
        self._turn = turn = Batch(self.group.copy() if commands else self.group)
        if targets := _targets_of(commands):
            found = await self._store.find(self.key, targets)
            turn.targets = {seq: decode_event(body) for seq, body in found.items()}
        if commands and self.group.direct and not self.group.seq:
            turn.acquainted = await self._store.share_a_group(*self.group.members)
        return turn

    def _decide(self, turn: Batch) -> None:
        """Work through what waits, in order, and note what there is to append and to answer.

        The turn ends early at an event that changes who may hear the rest, and at an item that
        has to find the commands before it done.
        """
        now = self._clock()
        while self._waiting and turn.size < _MOST_BYTES_IN_A_TURN:
            if turn.answers and self._comes_after(turn, self._waiting[0]):
                break
            item = self._waiting.popleft()
            turn.taken.append(item)
            if isinstance(item, ReadReceipt):
                turn.seen.append(item)
            elif not isinstance(item, Execute):
                self._attend(item)
            elif self._decide_one(turn, item, now):
                break

    def _comes_after(self, turn: Batch, item: Item) -> bool:
        """Return whether an item has to wait until what is in the turn so far is committed.

        So has a deletion, for which this is one more reason to be in a turn of its own: nothing is
        told to anybody in the same breath in which it is erased.
        """
        match item:
            case Subscribe() | Query() | Execute(command=Delete()):
                return True
            case Execute(command=Edit(target=target)):
                return self.group.seq < target <= turn.draft.seq
        return False

    def _decide_one(self, turn: Batch, item: Execute, now: int) -> bool:
        """Add a command's events and answer to the turn; return whether it ends with them."""
        command = item.command
        target = turn.targets.get(command.target) if isinstance(command, Edit | Delete) else None
        try:
            with item.in_turn(self.key):
                events = decide(turn.draft, item.author, command, now, self._limits, target)
                if events:
                    item.check()
                    _require_acquainted(turn)
        except Refused as refusal:
            turn.add_answer(item, failed(refusal, command.id))
            return False
        ends = False
        for event in events:
            turn.draft.apply(event)
            frame = encode_event(event)
            turn.frames.append(frame)
            turn.size += len(frame)
            ends = ends or type(event.body) in _ENDS_TURN
        turn.events += events
        turn.add_answer(item, Ok(command.id, events[-1].seq if events else None))
        return ends

    def _publish(self, turn: Batch, page: Page, effects: SideEffects) -> None:
        """Make the committed events the group's state and send them to everybody. Never waits."""
        before, self.group = self.group, turn.draft
        if effects.redacted:
            self._audience.erase(effects.redacted)
        if begins_talk(before, self.group):
            self._crowd.tell(self.group.members, ConversationStarted(self.group.name))
        self._audience.broadcast(page, self.group)
        for event in turn.events:
            if not isinstance(event.body, Posted):  # which changes nobody's standing
                self._log.event(event)
                self._tell_concerned(event)

    def _tell_concerned(self, event: Event) -> None:
        """Tell a person whose standing an event changed, on all their connections."""
        by, group, audience = event.actor, event.group, self._audience
        match event.body:
            case Approved(name):
                self._tell_admitted(fold(name), MembershipChange(group, "member", "approved", by))
            case Joined(by=inviter):
                self._tell_admitted(
                    fold(by), MembershipChange(group, "member", "joined", inviter or by)
                )
            case Denied(name):
                audience.dismiss(fold(name), MembershipChange(group, "outsider", "denied", by))
            case Kicked(name):
                audience.dismiss(fold(name), MembershipChange(group, "outsider", "kicked", by))
            case Banned(name):
                audience.dismiss(fold(name), MembershipChange(group, "outsider", "banned", by))
            case Left() | Withdrawn():
                audience.dismiss(fold(by), MembershipChange(group, "outsider", "left", by))
                if not self.group.members:
                    audience.dismiss_all(MembershipChange(group, "outsider", "closed", by))

    def _tell_admitted(self, person: str, news: MembershipChange) -> None:
        for subscription in self._audience.of(person):
            subscription.send_queue.push(encode(news))
        self._audience.unsettled = True

    def _attend(self, item: Item) -> None:
        match item:
            case Subscribe(subscription, request):
                self._subscribe(subscription, request)
            case Query(look, _):
                look(self.group)

    def _subscribe(self, subscription: Subscription, request: Attach) -> None:
        group, name = self.group, subscription.author.name
        standing = group.standing(name)
        if standing == "member":
            self._subscribe_member(subscription, request)
            return
        # A group that is closed has a name no more: who founds it anew may spell it otherwise.
        shown = group.name if group.members else request.group
        admin, kicked = group.admin_name or None, fold(name) in group.kicked
        subscription.send_queue.push(
            encode(Attached(request.id, shown, standing, admin=admin, kicked=kicked))
        )
        if standing == "waiting" and not subscription.gone:
            self._audience.add(subscription)

    def _subscribe_member(self, subscription: Subscription, request: Attach) -> None:
        """Say where the log stands and send what of it was asked for.

        A conversation of two that has not begun is not followed: everybody may ask for as many as
        there are names. Both are told when it begins.
        """
        group, author, send_queue = self.group, subscription.author, subscription.send_queue
        read = self._read.get(fold(author.name), 0)
        in_state = request.after == 0 and request.recent is not None
        first = self._first_of(request, read)
        counted = group.counted(author)
        answer = Attached(request.id, group.name, "member", group.seq, counted, read, first)
        send_queue.push(encode(answer))
        if subscription.gone or not group.seq:
            return
        if in_state:
            send_queue.push(self._frozen())
        self._audience.add(subscription)
        self._audience.admit(subscription, first - 1)

    def _first_of(self, request: Attach, read: int) -> int:
        """Return the first event to send: at least all unread ones, and none of a former life.

        One who has seen nothing yet of a group is new there: he gets the latest, if he wants some.
        """
        begin, end = max(self.group.floor, 1), self.group.seq + 1
        if request.after == 0 and request.recent is not None:
            is_new = not (read or self.group.direct)
            unread = end if is_new and request.recent else read + 1
            return max(begin, min(end - request.recent, unread))
        return min(max(request.after + 1, begin), end)

    def _frozen(self) -> bytes:
        """Return the state in frames, made anew only if something has happened since."""
        if self._snapshot[0] != self.group.seq:
            self._snapshot = (self.group.seq, snapshot_of(self.group))
        return self._snapshot[1]

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


def _targets_of(commands: list[Command]) -> set[int]:
    """Return which events the commands speak of, up to the first deletion: that ends the turn."""
    targets: set[int] = set()
    for command in commands:
        if isinstance(command, Edit | Delete):
            targets.add(command.target)
        if isinstance(command, Delete):
            break
    return targets


def _require_acquainted(turn: Batch) -> None:
    # Nobody learns from this who exists: it is the same for those who do not.
    if not turn.acquainted:
        raise Refused(Code.NO_COMMON_GROUP, "You can write to people with whom you share a group.")

"""Actor of one active group, its only writer: turns commands into events, commits, publishes.

For each batch, the actor takes the items in its inbox, *validates* the commands against the group's
rules, *commits* the resulting events in one append, *publishes* them to the subscribers, and sends
the replies. The order in which the actor takes commands is the order of the log. The actor needs no
locks, because nothing else changes the group. Only committed events are published and
acknowledged, so nobody ever sees a message that a crash then loses.

The actor never waits for a reader: see `subscriptions` for fan-out with backpressure. Nor does who
only reads wait for the disk: the committed state is there while the next batch is written.

Commands are validated against a copy of the state. The copy becomes the state once the append has
returned, and is dropped if the append failed. Every command gets exactly one reply, refused or not.

A damaged log: without a state nothing can be decided, so if it cannot be loaded, everything is
refused with `log_damaged` for a while, and then tried again. But a state from a snapshot with a
whole tail is all that posting and live delivery need: what is before it changes no decision, and
new events are added behind it. So the group goes on, and only what reads the damaged part is
refused: history, a client that resumes before it, an edit or a deletion of a message in it.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING

import trio

from tchat.core.group.compaction import last_forgotten_edit
from tchat.core.group.features import decode_event, encode_event
from tchat.core.group.log_digest import extend
from tchat.core.group.membership import wait_after_denial
from tchat.core.group.messages import Delete, Posted
from tchat.core.group.operation import Closed
from tchat.core.group.rules import apply, decide
from tchat.core.group.snapshots import SNAPSHOT_LIMIT
from tchat.core.group.state import Group
from tchat.core.protocol.frames import (
    Activity,
    Attach,
    Attached,
    MembershipChange,
    Ok,
    encode,
    failed,
)
from tchat.core.text import fold
from tchat.errors import Code, Refused
from tchat.server.costs import DELETED
from tchat.server.faults import is_storage
from tchat.server.groups.inbox import (
    Batch,
    Execute,
    Inbox,
    Item,
    Query,
    ReadReceipt,
    Subscribe,
)
from tchat.server.groups.side_effects import side_effects_of
from tchat.server.groups.state_cache import StateCache, is_large, too_large_refusal
from tchat.server.groups.subscriptions import Subscription, Subscriptions
from tchat.server.groups.unsubscribed import UnsubscribedMembers
from tchat.store.base import (
    UNFOUNDED,
    DataDamaged,
    GroupLookalike,
    LogHead,
    Page,
    StorageFull,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from tchat.core.group.feature import Command, Event
    from tchat.server.groups.environment import GroupEnvironment
    from tchat.store.base import SideEffects

IDLE_SECONDS = 30.0
DAMAGED_SECONDS = 30.0
"""How long a group whose log is damaged is refused, before somebody makes it be read again."""

SAVE_SECONDS = 5.0
"""After so long, a read position is on disk: a crash makes little unread again."""

# A batch is one transaction and one broadcast; its size is bounded so that neither takes long.
_BATCH_ITEMS = 1000
_BATCH_BYTES = 256 * 1024


class GroupActor:
    """The task of the group with the folded name `key`.

    `retire` is called before an idle actor ends, while its inbox is empty. `entries` is the number
    of entries of the state, which says how long it takes to copy it. `last_erasure` is the number
    of its latest erasure, counted over all groups; 0 if there was none.
    """

    def __init__(
        self, key: str, environment: GroupEnvironment, retire: Callable[[GroupActor], None]
    ) -> None:
        self.key = key
        self.group = Group.unwritten(key)
        self.entries = 0  # of the state
        self._head = UNFOUNDED
        self.inbox = Inbox(environment.inbox_limit, environment.inbox_bytes)
        self._waiting: deque[Item] = deque()
        self._batch = Batch(self.group)
        self._store = environment.store
        self._log = environment.log
        self._clock = environment.clock
        self._timer = environment.timer
        self._presence = environment.presence
        self._on_standing_changed = environment.on_standing_changed
        self._environment = environment  # its limits may change
        self._retire = retire
        self._states = StateCache(self._store, key)
        self._read_positions: dict[str, int] = {}
        self._subscriptions = Subscriptions(
            self._store, key, self._presence.away, self._read_positions, self._wake
        )
        self.last_erasure = 0
        self._unsaved_positions: dict[str, int] = {}
        self._will_save_positions = False
        self._saving_positions = trio.Lock()
        self._unsubscribed = UnsubscribedMembers(self._presence, self._subscriptions)
        self._is_writing = False  # to the disk, which may be slow

    @property
    def listeners(self) -> int:
        """The number of subscribers that get the next event when it is committed."""
        return self._subscriptions.listeners

    @property
    def entries_to_encode(self) -> int:
        """The entries of the state, if a snapshot of it has yet to be encoded; otherwise 0."""
        return 0 if self._subscriptions.has_snapshot else self.entries

    def last_read(self, person: str) -> int:
        """Return the seq of the last event that a person (folded) has read."""
        return self._read_positions.get(person, 0)

    async def run(self, on_loaded: Callable[[], None]) -> None:
        """Process batches until the inbox is closed, or the group was idle for `IDLE_SECONDS`.

        `on_loaded` is called once the state is loaded, or could not be.
        """
        refusal: DataDamaged | None = None
        try:
            try:
                self.group, positions, self._head = await self._states.load()
                self.entries = self.group.count_entries()
            except DataDamaged as damaged:
                refusal = damaged
            finally:
                on_loaded()
            if refusal is not None:
                await self._refuse_all(refusal)
                return
            self._read_positions.update(positions)
            await self._work()
        except BaseException as error:
            if isinstance(error, Exception) and is_storage(error):
                # First: whoever is disconnected next gets a goodbye.
                self._environment.on_fatal(f"group {self.key}", error)
            self._abort()
            raise
        finally:
            self.inbox.abandon()

    async def _refuse_all(self, damaged: DataDamaged) -> None:
        """Refuse everything for `DAMAGED_SECONDS`, or until the inbox is closed; then retire."""
        with trio.move_on_after(DAMAGED_SECONDS), suppress(trio.EndOfChannel):
            while True:
                (await self.inbox.take()).refuse(damaged)
        # An item may have arrived when the timeout expired. There is no checkpoint from here on,
        # unless somebody waits for space.
        while (item := self.inbox.try_take()) is not None or self.inbox.is_wanted:
            if item is None:
                await trio.lowlevel.checkpoint()
            else:
                item.refuse(damaged)
        self._retire(self)

    async def _work(self) -> None:
        async with trio.open_nursery() as tasks:
            self._subscriptions.start(self.group)
            while await self._gather():
                await self._process_batch()
                self._states.save_in_background(self.group, tasks)
                if self._unsaved_positions and not self._will_save_positions:
                    self._will_save_positions = True
                    tasks.start_soon(self._save_read_positions_later)
            await self._save_read_positions()
            await self._states.save(self.group)
            tasks.cancel_scope.cancel()

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription. May be called from any task."""
        subscription.gone = True
        self._subscriptions.remove(subscription)
        self._wake()

    def refresh_presence(self) -> None:
        """Announce who went away or came back. May be called from any task."""
        self._subscriptions.presence_changed = True
        self._wake()

    async def try_read(self, item: Item) -> bool:
        """Handle an item that only reads, while this waits for the disk; return whether it did.

        So a slow disk does not hold up who only reads. Whoever has sent commands gets the answers
        in their order: what is behind a command sees what it changed. May be called from any task.
        """
        if not self._is_writing:
            return False
        if isinstance(item, Query) and not item.send_queue.unanswered:
            item.run(self.group)
            return True
        if isinstance(item, Subscribe) and not item.subscription.send_queue.unanswered:
            is_new = self.group.direct and not self.group.seq
            if is_new or (self._needs_snapshot(item) and is_large(self.group)):
                return False
            batch = Batch(self.group)
            batch.digests = await self._find_digests([item])
            if not self._still_writes_after(batch.draft):
                return False  # it was written meanwhile
            self._subscribe(batch, item.subscription, item.request)
            return True
        return False

    def _still_writes_after(self, group: Group) -> bool:
        return self._is_writing and self.group is group

    def _wake(self) -> None:
        # An actor that is not waiting checks its subscriptions anyway before it waits again.
        self.inbox.wake()

    def _abort(self) -> None:
        """Close the connections of all subscribers, and of all items without a reply.

        The clients reconnect and resend their unanswered commands.
        """
        self._subscriptions.close_connections()
        items = [*self._batch.items, *self._waiting]
        while (item := self.inbox.try_take()) is not None:
            items.append(item)
        for item in items:
            if isinstance(item, Execute | Query):
                item.send_queue.close()
            elif isinstance(item, Subscribe):
                item.subscription.send_queue.close()

    async def _gather(self) -> bool:
        """Wait for an item, then take all waiting items; return False if the actor has to end."""
        is_needed = self._waiting or self._subscriptions.presence_changed
        if not is_needed and not await self._wait_for_item():
            return False
        # Decide only now whether to retire: an item may have arrived when the timeout expired.
        if self._take_items():
            return True
        # Another actor of the group may load them as soon as this one has retired.
        await self._save_read_positions()
        if self._take_items():
            return True
        self._retire(self)
        return False

    def _take_items(self) -> bool:
        """Take the items in the inbox; return whether there is something to do."""
        size = sum(item.size for item in self._waiting)
        while len(self._waiting) < _BATCH_ITEMS and size < _BATCH_BYTES:
            if (item := self.inbox.try_take()) is None:
                break
            self._waiting.append(item)
            size += item.size
        return bool(self._waiting or self._subscriptions.presence_changed or self.inbox.is_wanted)

    async def _wait_for_item(self) -> bool:
        """Wait for an item, or until the group has been idle for too long.

        Return False if the inbox is closed.
        """
        try:
            if self._subscriptions:
                self._waiting.append(await self.inbox.take())
                return True
            # A client may ask about any name, so the actor of a group that does not exist ends at
            # once.
            with (
                trio.move_on_after(IDLE_SECONDS if self.group.seq else 0) as scope,
                self._environment.idle.waiting(scope, self.entries),
            ):
                self._waiting.append(await self.inbox.take())
        except trio.EndOfChannel:
            return False
        return True

    async def _process_batch(self) -> None:
        batch = await self._begin_batch()
        self._validate(batch)
        if batch.events:
            await self._commit(batch)
        batch.send_replies()
        for receipt in batch.read_receipts:
            self._record_read(receipt)
        if self._subscriptions.announce_presence():
            self._is_writing = True
            try:
                await self._save_read_positions()
            finally:
                self._is_writing = False

    async def _begin_batch(self) -> Batch:
        """Return a batch with the data that its commands are validated against."""
        commands = [item.command for item in self._waiting if isinstance(item, Execute)]
        # Assign the batch before anything can fail: `_abort` closes the connections of its items.
        # The items of the previous batch already have their replies.
        self._batch = batch = Batch(self.group.copy() if commands else self.group)
        if targets := _targets_of(commands):
            await self._find_targets(batch, targets)
            batch.older_edits = await self._find_older_edits(batch)
        batch.digests = await self._find_digests(self._waiting)
        await self._prepare_snapshot()
        if self._waiting and self.group.direct and not self.group.seq:
            try:
                batch.acquainted = await self._store.share_a_group(*self.group.members)
            except DataDamaged as damaged:
                batch.acquainted, batch.damaged = False, damaged
        return batch

    async def _find_targets(self, batch: Batch, targets: set[int]) -> None:
        """Load the events that commands refer to; what is damaged is `unreadable`."""
        try:
            found = await self._store.find(self.key, targets)
        except DataDamaged as damaged:
            batch.damaged, found = damaged, {}
            for target in targets:
                try:
                    found |= await self._store.find(self.key, [target])
                except DataDamaged:
                    batch.unreadable.add(target)
        batch.targets = {seq: decode_event(body) for seq, body in found.items()}

    async def _find_older_edits(self, batch: Batch) -> tuple[int, ...]:
        """Return the edits of the message that a batch begins with deleting, from the log.

        The state has forgotten them if the message is very old. A deletion that is not the first
        command of this batch is in the next one. The search takes time in proportion to the log, so
        it was done before, unless the message has become so old since, or the deletion was not
        allowed: anybody can ask for one, and nobody waits for what is refused.
        """
        item = next(item for item in self._waiting if isinstance(item, Execute))
        command, forgotten = item.command, last_forgotten_edit(self.group)
        if not isinstance(command, Delete) or command.target >= forgotten:
            return ()
        if item.older_edits is not None and item.older_edits.upto >= forgotten:
            return item.older_edits.seqs  # later edits are in the state
        target, limits = batch.targets.get(command.target), self._environment.limits
        try:
            is_new = decide(self.group, item.author, command, self._clock(), limits, target)
        except Refused:
            return ()
        if not is_new:
            return ()
        try:
            return await self._store.edits_of(self.key, command.target, forgotten)
        except DataDamaged as damaged:  # it cannot be deleted with all of its edits
            batch.damaged = damaged
            batch.unreadable.add(command.target)
            return ()

    def _validate(self, batch: Batch) -> None:
        """Process the waiting items in order, and collect the events to commit and the replies.

        The batch ends early after a command that erases or changes somebody's standing, and before
        an item that has to wait until the commands before it are committed.
        """
        now = self._clock()
        while self._waiting and batch.size < _BATCH_BYTES:
            if batch.replies and self._comes_after(batch, self._waiting[0]):
                break
            item = self._waiting.popleft()
            batch.items.append(item)
            match item:
                case Execute():
                    if self._decide_one(batch, item, now):
                        break
                case ReadReceipt():
                    batch.read_receipts.append(item)
                case Subscribe(subscription, request):
                    self._subscribe(batch, subscription, request)
                case Query(run, _, _):
                    run(self.group)

    async def _commit(self, batch: Batch) -> None:
        """Commit the batch's events and publish them, or refuse their commands.

        They are refused if the disk is full, or another group looks like a new one.
        """
        page = Page(self.group.seq + 1, batch.draft.seq, b"".join(batch.frames))
        effects = side_effects_of(self.group, batch.draft, batch.events, batch.older_edits)
        head = LogHead(self._head.identity, extend(self._head.digest, batch.events))
        try:
            self._is_writing = True
            try:
                await self._store.append(
                    self.key, self.group.seq, len(batch.events), page.frames, effects, head
                )
            finally:
                self._is_writing = False
        except StorageFull as full:
            self._log.line("fault", where=f"group {self.key}", reason=full.sentence)
            batch.fail(full)
        except (GroupLookalike, DataDamaged) as refusal:
            batch.fail(refusal)
        else:
            self._head = head
            self._publish(batch, page, effects)
        # Report the standings after a failed commit, too. A person whose join was not stored is
        # reported as an outsider; this releases the quota that was reserved for the join.
        people = effects.standings
        self._on_standing_changed(
            self.key, {person: self.group.standing(person) for person in people}
        )

    def _comes_after(self, batch: Batch, item: Item) -> bool:
        """Return whether an item has to wait until the batch's commands are committed.

        A command that erases gets a batch of its own, so that no broadcast contains a message that
        the same batch erases. A command about a message of this batch has to wait until the message
        is in the log.
        """
        if not isinstance(item, Execute):
            return isinstance(item, Subscribe | Query)
        command = item.command
        if command.erases:
            return True
        target = command.refers_to
        return target is not None and self.group.seq < target <= batch.draft.seq

    def _decide_one(self, batch: Batch, item: Execute, now: int) -> bool:
        """Add a command's events and reply to the batch; return whether the batch has to end."""
        command = item.command
        seq = command.refers_to
        target = None if seq is None else batch.targets.get(seq)
        try:
            limits = self._environment.limits
            if batch.damaged and target is None and seq is not None:
                _require_readable(batch, seq)
            timer = self._timer() if command.needs_timer else 0
            events = decide(batch.draft, item.author, command, now, limits, target, timer)
            if events:
                item.check()
                _require_acquainted(batch)
        except Refused as refusal:
            batch.add_reply(item, failed(refusal, command.id))
            return command.erases
        # A command that erases ends the batch even if it changes nothing, because `_targets_of`
        # has not loaded the targets of the commands after it.
        ends = command.erases
        if events and isinstance(command, Delete) and target and isinstance(target.body, Posted):
            item.charge(DELETED * len(target.body.text))
        for event in events:
            if event.body.changes_standing and (change := event.body.standing_change(event)):
                ends = ends or change.changes_audience
                if change.standing == "outsider" and not batch.draft.is_known_to(change.person):
                    batch.strangers.add(change.person)
                else:
                    batch.strangers.discard(change.person)
            apply(batch.draft, event)
            frame = encode_event(event)
            batch.frames.append(frame)
            batch.size += len(frame)
        batch.events += events
        batch.add_reply(item, Ok(command.id, events[-1].seq if events else None))
        return ends

    def _publish(self, batch: Batch, page: Page, effects: SideEffects) -> None:
        """Make the batch's draft the state; send its events to all subscribers. Never waits."""
        before, self.group = self.group, batch.draft
        self.entries = self.group.count_entries()
        self._environment.events += len(batch.events)
        if effects.erased or effects.closed_after:
            self._environment.erasures += 1
            self.last_erasure = self._environment.erasures
        if effects.erased:
            self._subscriptions.erase(effects.erased)
        if effects.closed_after:
            self._subscriptions.forget()
            self._read_positions.clear()
            self._unsaved_positions.clear()
        self._subscriptions.broadcast(page, self.group)
        for event in batch.events:
            if event.body.has_side_effects:
                self._log.event(event)
                self._notify_affected(event, batch.strangers)
        self._notify_unsubscribed(batch.events)
        if effects.closed_after:
            self._notify_former_members(before, batch.events[-1])

    def _notify_former_members(self, before: Group, last: Event) -> None:
        """Tell people that the group has ended: memberships and requests end without events."""
        for person in before.members:
            self._unsubscribed.memberships.add(person)
        end = MembershipChange(before.name, "outsider", "closed", last.actor)
        for person in before.requests:
            self._tell(person, end)
        if isinstance(last.body, Closed):  # by the operator, for everybody
            for person in before.members:
                self._tell(person, end)

    def _notify_unsubscribed(self, events: Sequence[Event]) -> None:
        """Tell members what is meant for them, on their connections without a subscription."""
        unsubscribed = self._unsubscribed.names(self.group)
        if not unsubscribed:
            return
        texts = (event.body.message_text for event in events)
        # Most batches mention nobody, which one look at all of their texts shows.
        has_mentions = self.group.direct or unsubscribed.may_be_in(texts)
        for event in events:
            body = event.body
            if body.has_addressees and (has_mentions or not body.message_text):
                for person in body.addressees(self.group, unsubscribed):
                    if self.group.direct or person != fold(event.actor):
                        self._announce(event, person)

    def _announce(self, event: Event, person: str) -> None:
        notice = Activity(event.group, event.seq, event.actor)
        for connection in self._unsubscribed.connections_of(person):
            connection.announce(self.key, notice)

    def _notify_affected(self, event: Event, strangers: Collection[str]) -> None:
        """Notify a person whose standing an event changed, unless they do not know the group.

        Anybody can be banned: a person who never joined or asked to is not told that it exists.
        The client whose own command let them in, or asked for it, learns it from the answer. If
        nobody is left, the group was closed, and there is nothing to ask to join again.
        """
        change = event.body.standing_change(event)
        if change is None:
            return
        self._unsubscribed.memberships.add(change.person)
        if change.person in strangers:
            return
        is_own = change.person == fold(event.actor) and change.standing != "outsider"
        reason = change.reason if self.group.members else "closed"
        notice = MembershipChange(event.group, change.standing, reason, change.by)
        self._tell(change.person, notice, except_client=event.client if is_own else b"")

    def _tell(self, person: str, notice: MembershipChange, except_client: bytes = b"") -> None:
        """Tell a person's standing on all their connections, subscribed to the group or not.

        Devices that were told of a kick, for example, have no subscription any more, and have to
        learn that the person is a member again. Outsiders lose their subscriptions.
        """
        self._presence.notify((person,), notice, except_client)
        if notice.standing == "outsider":
            self._subscriptions.dismiss(person)
        elif notice.standing == "member":
            self._subscriptions.presence_changed = True

    def _subscribe(self, batch: Batch, subscription: Subscription, request: Attach) -> None:
        """Reply with the person's standing, and start the subscription if they are allowed one.

        A new direct conversation that is not allowed is refused here, before its first message.
        """
        group, name = self.group, subscription.author.name
        try:
            _require_acquainted(batch)
        except Refused as refusal:
            subscription.send_queue.push(encode(failed(refusal, request.id)))
            return
        standing = group.standing(name)
        if standing == "member":
            try:
                self._subscribe_member(subscription, request, batch.digests)
            except Refused as refusal:
                subscription.send_queue.push(encode(failed(refusal, request.id)))
            return
        # A closed group has no display name: its next founder may spell the name differently.
        shown = group.name if group.members else request.group
        answer = Attached(
            request.id,
            shown,
            standing,
            counted=group.counted(subscription.author),
            admin=group.admin_name or None,
            kicked=fold(name) in group.kicked,
            banned=group.ban_on(name, subscription.author.key) is not None or None,
            wait=wait_after_denial(group, name, subscription.author.key, self._timer()) or None,
        )
        subscription.send_queue.push(encode(answer))
        if standing == "waiting" and not subscription.gone:
            self._subscriptions.add(subscription)

    def _subscribe_member(
        self, subscription: Subscription, request: Attach, digests: Mapping[int, bytes]
    ) -> None:
        """Reply with the position of the log, and send the part of it that was asked for.

        If the client has events that are not in this log, the reply says so, and nothing is sent:
        the client has to drop them, and to attach again from the beginning.

        Raises `Refused` (group_too_large) if no client would accept the state.

        There are no subscriptions to a direct conversation without messages, because a client could
        request any number of them. Both people are notified when the conversation begins.
        """
        group, author, send_queue = self.group, subscription.author, subscription.send_queue
        read = self.last_read(fold(author.name))
        first = self._first_to_send(request, author.name)
        counted = group.counted(author)
        joined = group.joined.get(fold(author.name))
        diverged = self._has_diverged(request, digests)
        with_state = begins_with_state(request)
        if with_state and self._subscriptions.snapshot_size > SNAPSHOT_LIMIT:
            raise too_large_refusal(group)
        answer = Attached(
            *(request.id, group.name, "member", group.seq, counted, read, first),
            joined=joined,
            log=(group.seq and self._head.identity) or None,
            digest=(group.seq and digests.get(first - 1)) or None,
            diverged=diverged or None,
        )
        send_queue.push(encode(answer))
        subscription.read = read
        if subscription.gone or not group.seq or diverged:
            return
        self._subscriptions.add(subscription)
        self._subscriptions.feed_from(subscription, first - 1, with_state=with_state)

    def _has_diverged(self, request: Attach, digests: Mapping[int, bytes]) -> bool:
        """Return whether a client has events of another log than this, as after a restore.

        Clients of earlier versions do not tell.
        """
        if request.log is None:
            return False
        digest = digests.get(request.after)
        return (
            request.log != self._head.identity
            or request.after > self.group.seq
            or (request.digest is not None and digest is not None and request.digest != digest)
        )

    async def _find_digests(self, waiting: Iterable[Item]) -> dict[int, bytes]:
        """Return the digests at the positions of those who subscribe in front of all commands."""
        found = {self.group.seq: self._head.digest} if self._head.digest else {}
        wanted: set[int] = set()
        for item in takewhile(lambda item: not isinstance(item, Execute), waiting):
            if isinstance(item, Subscribe) and self.group.seq:
                name = item.subscription.author.name
                if self.group.standing(name) == "member":
                    wanted.add(self._first_to_send(item.request, name) - 1)
                    if item.request.digest is not None:
                        wanted.add(item.request.after)
        if missing := wanted - found.keys():
            # Without them, a client is resumed as one that has none.
            with suppress(DataDamaged):
                found |= await self._store.digests(self.key, missing)
        return found

    def _first_to_send(self, request: Attach, name: str) -> int:
        """Return the seq of the first event to send, never one from before the group's founding.

        A client that resumes gets the events after `request.after`. A client that begins with
        `request.recent` gets all unread events, and at least the latest `recent` events. If the
        member has never read the group, the events since their admission (`joined`) are unread;
        with `recent` 0, such a member gets all events.
        """
        read, joined = self.last_read(fold(name)), self.group.joined.get(fold(name), 0)
        begin, end = max(self.group.floor, 1), self.group.seq + 1
        if request.recent is not None and begins_with_state(request):
            if request.unread is False:
                return max(begin, end - request.recent)
            known = max(read, joined) if read or request.recent else 0
            return max(begin, min(end - request.recent, known + 1))
        return min(max(request.after + 1, begin), end)

    async def _prepare_snapshot(self) -> None:
        """Encode a large state if a member waits for it, to know whether clients accept it.

        Only those in front of all commands subscribe in this batch (`_comes_after`).
        """
        before_commands = takewhile(lambda item: not isinstance(item, Execute), self._waiting)
        if any(map(self._needs_snapshot, before_commands)) and is_large(self.group):
            await self._subscriptions.prepare_snapshot()

    def _needs_snapshot(self, item: Item) -> bool:
        return (
            isinstance(item, Subscribe)
            and begins_with_state(item.request)
            and self.group.standing(item.subscription.author.name) == "member"
        )

    def _record_read(self, receipt: ReadReceipt) -> None:
        """Advance a member's read position, and report it to their other clients."""
        person, seq = fold(receipt.name), min(receipt.seq, self.group.seq)
        if person in self.group.members and seq > self.last_read(person):
            self._read_positions[person] = self._unsaved_positions[person] = seq
            self._subscriptions.announce_read(person, receipt.send_queue)

    async def _save_read_positions_later(self) -> None:
        await trio.sleep(SAVE_SECONDS)
        self._will_save_positions = False
        await self._save_read_positions()

    async def _save_read_positions(self) -> None:
        """Save the read positions that have changed; if the disk is full, try again later."""
        async with self._saving_positions:  # so that nothing is being saved once this returns
            positions, self._unsaved_positions = self._unsaved_positions, {}
            if positions:
                try:
                    await self._store.set_cursors(self.key, positions)
                except StorageFull:
                    self._unsaved_positions = positions | self._unsaved_positions
                except DataDamaged:
                    return  # they are still right here, until the group is loaded again


def begins_with_state(request: Attach) -> bool:
    """Return whether a subscription begins with a snapshot, if the person is a member."""
    return request.after == 0 and request.recent is not None


def _targets_of(commands: list[Command]) -> set[int]:
    """Return the targets of the commands, up to the first that erases, which ends the batch."""
    targets: set[int] = set()
    for command in commands:
        if (target := command.refers_to) is not None:
            targets.add(target)
        if command.erases:
            break
    return targets


def _require_readable(batch: Batch, target: int) -> None:
    """Raise `DataDamaged` if an event is in a damaged part of the log."""
    if target in batch.unreadable and batch.damaged:
        raise batch.damaged


def _require_acquainted(batch: Batch) -> None:
    """Raise `Refused` unless the two people of a new direct conversation share a group.

    The refusal is the same for names that nobody has, so it does not reveal which names exist.
    """
    if not batch.acquainted and batch.damaged:
        raise batch.damaged
    if not batch.acquainted:
        raise Refused(
            Code.NO_COMMON_GROUP,
            "Nobody of this name is in a group with you, so you cannot write to them.",
        )

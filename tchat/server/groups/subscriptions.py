"""Fan-out to subscribers, live or catching up, with backpressure; presence within a group.

A *live* subscription has been sent everything up to the group's head, and gets each page of events
when it is committed. If its send queue is full, it falls back to *catching up*: the feeder of its
connection sends it pages from the store at the pace of its socket, in turns with the connection's
other subscriptions, until it has reached the head and is live again (see `send_queue`). So a slow
reader costs a cursor and no memory, and delays nobody. A snapshot of the state is not made before
its turn, and sent at the same pace; a connection holds one at a time. So is the presence of all
members, which follows once the subscription is live.

All methods that are not coroutines run without a checkpoint, so they are atomic for every other
task. That makes it safe to compare a cursor with the group's head and act on the result: no event
is missed and none is sent twice.
"""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.core.group.state import Author, Group
from tchat.core.protocol.frames import (
    OnlineMember,
    PresenceUpdate,
    ReadPosition,
    SubscriptionEnded,
    encode,
    encode_all,
)
from tchat.core.text import fold
from tchat.server.groups.state_cache import EncodedState, encode_state, is_large
from tchat.server.recent import RecentChanges
from tchat.store.base import DataDamaged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from tchat.server.send_queue import SendQueue
    from tchat.store.base import Page, Store

_RECENT_LIMIT = 256 * 1024
# Small, because each name may come with a reason for being away that is three times as long.
_NAMES_PER_FRAME = 100


class Subscription:
    """One connection's subscription to a group; it has been sent the events up to `cursor`.

    `read` is the person's read position as far as the client knows it. `gone` is set when the
    connection ends or unsubscribes, which may happen before the group's actor has processed the
    subscription. `announced` are the groups with an unanswered notice to the connection. With
    `needs_state`, a snapshot of the state comes before the events.
    """

    __slots__ = (
        "announced",
        "author",
        "cursor",
        "gone",
        "key",
        "needs_state",
        "read",
        "send_queue",
    )

    def __init__(
        self, author: Author, send_queue: SendQueue, announced: set[str] | None = None
    ) -> None:
        self.author = author
        self.announced = set() if announced is None else announced
        self.key = fold(author.name)
        self.send_queue = send_queue
        self.cursor = 0
        self.read = 0
        self.gone = False
        self.needs_state = False


class Subscriptions:
    """The subscriptions of the group with the folded name `key`.

    If `presence_changed` is set, the actor processes a batch and calls `announce_presence`. `away`
    maps people (folded) to their reasons, `read` to their read positions; `wake` wakes the actor
    after a subscription has ended here. `changes` are the
    people whose subscriptions were added or removed, `erasures` counts the calls of `erase` and of
    `forget`.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        away: Mapping[str, str] | None = None,
        read: Mapping[str, int] | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._wake = wake
        self.presence_changed = False
        self.changes = RecentChanges()
        self.erasures = 0
        self._away: Mapping[str, str] = {} if away is None else away
        self._read: Mapping[str, int] = {} if read is None else read
        self._store = store
        self._key = key
        self._group = Group()
        # Dicts serve as ordered sets, so that the order of the fan-out is reproducible.
        self._by_person: dict[str, dict[Subscription, None]] = {}
        self._live: dict[Subscription, None] = {}
        self._recent: deque[Page] = deque()
        self._recent_size = 0
        self._snapshot: EncodedState | None = None
        self._encoding = trio.Lock()
        self._announced: dict[str, tuple[str, str]] = {}
        self._someone_left = False

    def __bool__(self) -> bool:
        return bool(self._by_person)

    @property
    def listeners(self) -> int:
        """The number of live subscriptions."""
        return len(self._live)

    @property
    def has_snapshot(self) -> bool:
        """Whether a snapshot of the present state is encoded."""
        return self._snapshot is not None and self._snapshot.seq == self._group.seq

    def start(self, group: Group) -> None:
        """Start with the loaded state."""
        self._group = group

    def of(self, person: str) -> list[Subscription]:
        """Return a person's subscriptions."""
        return list(self._by_person.get(person, ()))

    def add(self, subscription: Subscription) -> None:
        """Add a subscription of a member, or of somebody who waits for approval."""
        self._by_person.setdefault(subscription.key, {})[subscription] = None
        # A notice may have been sent while the subscription was on its way.
        subscription.announced.discard(self._key)
        self.changes.add(subscription.key)
        self.presence_changed = True

    def remove(self, subscription: Subscription) -> None:
        """Remove a subscription, if it is there."""
        devices = self._by_person.get(subscription.key, {})
        if subscription not in devices:
            return
        del devices[subscription]
        if not devices:
            del self._by_person[subscription.key]
        self._live.pop(subscription, None)
        self.changes.add(subscription.key)
        self.presence_changed = self._someone_left = True

    def dismiss(self, person: str) -> None:
        """Remove the subscriptions of a person who is no longer in the group."""
        for subscription in self.of(person):
            self.remove(subscription)

    def close_connections(self) -> None:
        """Close the connections of all subscriptions."""
        for devices in self._by_person.values():
            for subscription in devices:
                subscription.send_queue.close()

    def feed_from(
        self, subscription: Subscription, after: int, *, with_state: bool = False
    ) -> None:
        """Send a member the log after `after`, and then each event when it is committed.

        With `with_state`, a snapshot of the state comes first.
        """
        subscription.cursor = after
        subscription.needs_state = with_state
        self.presence_changed = True
        self._catch_up(subscription)

    def broadcast(self, page: Page, group: Group) -> None:
        """Send a page of committed events to every live subscription; `group` is the new state."""
        self._group = group
        self._remember(page)
        lagging: list[Subscription] = []
        for subscription in self._live:
            if subscription.cursor >= page.first:
                # This subscription has caught up from the store, and found this page there.
                continue
            if subscription.send_queue.offer(page.frames):
                subscription.cursor = page.last
            else:
                lagging.append(subscription)
        self._fall_back(lagging)

    def erase(self, seqs: Collection[int]) -> None:
        """Erase the content of these events from the cached pages."""
        self.erasures += 1
        self._recent = deque(page.erase(seqs) for page in self._recent)
        self._recent_size = sum(len(page.frames) for page in self._recent)

    def forget(self) -> None:
        """Forget the cached pages: the group was closed, and all its events are erased."""
        self.erasures += 1
        self._recent.clear()
        self._recent_size = 0

    def announce_presence(self) -> bool:
        """Send presence changes to live subscriptions; return whether a subscription ended."""
        if not self.presence_changed:
            return False
        members = self._group.members
        online = {
            person: (members[person], self._away.get(person, ""))
            for person in self._by_person
            if person in members
        }
        came = [shown for person, shown in online.items() if self._announced.get(person) != shown]
        went = [name for person, (name, _) in self._announced.items() if person not in online]
        self._announced = online
        if (came or went) and self._live:
            update = encode_all(self._updates(came, went, reset=False))
            # If a full queue refuses the update, its subscription falls back to catching up. When
            # it goes live again, it gets the presence of all members.
            self._fall_back([s for s in self._live if not s.send_queue.offer(update)])
        someone_left = self._someone_left
        self.presence_changed = self._someone_left = False
        return someone_left

    def announce_read(self, person: str, reporter: SendQueue) -> None:
        """Send a person's read position to their clients, except the one that reported it.

        Clients that are catching up, or whose queue is full, get it once they are live.
        """
        for subscription in self.of(person):
            if subscription.send_queue is reporter:
                subscription.read = self._read[person]
            elif subscription.send_queue.full and subscription in self._live:
                self._fall_back([subscription])
            elif subscription in self._live:
                self._push_read(subscription)

    def _push_read(self, subscription: Subscription) -> None:
        position = self._read.get(subscription.key, 0)
        if position > subscription.read:
            subscription.send_queue.push(encode(ReadPosition(self._group.name, position)))
            subscription.read = position

    def _updates(
        self, came: list[tuple[str, str]], went: list[str], *, reset: bool
    ) -> Iterator[PresenceUpdate]:
        """Yield presence frames; with `reset`, the first one makes clients clear their presence."""
        group = self._group.name
        for start in range(0, max(len(came), int(reset)), _NAMES_PER_FRAME):
            part = came[start : start + _NAMES_PER_FRAME]
            online = tuple(OnlineMember(name, reason or None) for name, reason in part)
            yield PresenceUpdate(group, online, (), reset and start == 0)
        for start in range(0, len(went), _NAMES_PER_FRAME):
            yield PresenceUpdate(group, (), tuple(went[start : start + _NAMES_PER_FRAME]))

    def _fall_back(self, lagging: Iterable[Subscription]) -> None:
        for subscription in lagging:
            del self._live[subscription]
            self._catch_up(subscription)

    def _catch_up(self, subscription: Subscription) -> None:
        is_behind = subscription.needs_state or subscription.cursor < self._group.seq
        if is_behind or subscription.send_queue.congested:
            subscription.send_queue.feed(partial(self._feed, subscription))
        else:
            self._go_live(subscription)

    async def _feed(self, subscription: Subscription) -> bool:
        """Send the next page to a subscription that is behind; return whether it is not any more.

        If it has reached the head of the log, it goes live.
        """
        if not self._is_subscribed(subscription):
            return True
        if subscription.needs_state:
            await self._send_snapshot(subscription)
            return False
        if subscription.cursor >= self._group.seq:
            # There is no checkpoint between this comparison and going live, so no event is missed.
            self._go_live(subscription)
            return True
        page = self._recent_page(subscription.cursor)
        if page is None:
            await subscription.send_queue.wait_for_budget()
            erasures = self.erasures
            try:
                page = await self._store.read(self._key, subscription.cursor)
            except DataDamaged as damaged:
                self._end(subscription, damaged)
                return True
            if self.erasures != erasures:
                return False  # the page may have been read just before the erasure
        if page is None or not self._is_subscribed(subscription):
            return True
        subscription.send_queue.push(page.frames)
        subscription.cursor = page.last
        return False

    def _end(self, subscription: Subscription, refusal: DataDamaged) -> None:
        """End a subscription whose events cannot be read; the connection's others go on."""
        if self._is_subscribed(subscription):
            ended = SubscriptionEnded(self._group.name, refusal.code, refusal.sentence)
            subscription.send_queue.push(encode(ended))
            self.remove(subscription)
            self._wake()

    async def _send_snapshot(self, subscription: Subscription) -> None:
        """Send the whole present state at the pace of the socket, unless the subscription ends.

        It is not interrupted by other sources, so a connection holds one snapshot at a time, and of
        a long one only a file; see `state_cache`.
        """
        subscription.needs_state = False
        snapshot = await self.prepare_snapshot()
        for number in range(snapshot.count):
            await subscription.send_queue.wait_for_space()
            if number:  # most states have one frame, which belongs to the cost of an attach
                await subscription.send_queue.wait_for_budget()
            frame = await snapshot.frame(number)
            if not self._is_subscribed(subscription):
                return
            subscription.send_queue.push(frame)

    async def prepare_snapshot(self) -> EncodedState:
        """Return the state as it is now or a little later, encoded once for many subscribers."""
        wanted = self._group.seq
        # A small state is encoded at once, and nobody has to wait for the others.
        async with self._encoding if is_large(self._group) else nullcontext():
            if self._snapshot is None or self._snapshot.seq < wanted:
                self._snapshot = await encode_state(self._group, self._store.blobs)
            return self._snapshot

    @property
    def snapshot_size(self) -> int:
        """The size of the present state if it is encoded; otherwise 0."""
        return self._snapshot.size if self._snapshot and self.has_snapshot else 0

    def _is_subscribed(self, subscription: Subscription) -> bool:
        return subscription in self._by_person.get(subscription.key, ())

    def _go_live(self, subscription: Subscription) -> None:
        """Make a subscription live, and send it the presence of all members.

        In a large group, that is more than a connection may hold. What does not fit into its queue
        now is sent at the pace of the socket; changes are announced meanwhile, as to all others.
        """
        self._live[subscription] = None
        people = deque(self._announced)
        self._push_presence(subscription, people, reset=True)
        while people and not subscription.send_queue.congested:
            self._push_presence(subscription, people)
        if people:
            subscription.send_queue.feed(partial(self._feed_presence, subscription, people))
        self._push_read(subscription)

    async def _feed_presence(self, subscription: Subscription, people: deque[str]) -> bool:
        """Send the presence of some people; return whether all of them have been sent.

        A subscription that falls back meanwhile gets the presence of all when it is live again.
        """
        if subscription in self._live:
            self._push_presence(subscription, people)
            return not people
        return True

    def _push_presence(
        self, subscription: Subscription, people: deque[str], *, reset: bool = False
    ) -> None:
        """Send the present state of the next people; whoever has left since needs no mention."""
        part = [people.popleft() for _ in range(min(len(people), _NAMES_PER_FRAME))]
        online = [self._announced[person] for person in part if person in self._announced]
        if online or reset:
            updates = self._updates(online, [], reset=reset)
            subscription.send_queue.push(encode_all(updates))

    def _remember(self, page: Page) -> None:
        """Cache the latest pages, so that a subscription slightly behind needs no disk access."""
        self._recent.append(page)
        self._recent_size += len(page.frames)
        while self._recent_size > _RECENT_LIMIT:
            self._recent_size -= len(self._recent.popleft().frames)

    def _recent_page(self, cursor: int) -> Page | None:
        """Return the cached events after `cursor`, if the next one is cached."""
        for page in self._recent:
            if page.first <= cursor + 1 <= page.last:
                return page.after(cursor)
        return None

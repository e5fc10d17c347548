"""Who listens to a group: its subscriptions, live or catching up, and who is online.

All methods that are not coroutines run without a checkpoint, so to every other task they are one
step; that is what makes it safe to compare a cursor with the group's head and act upon it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tchat.core.group.state import Author, Group
from tchat.core.protocol.frames import (
    MembershipChange,
    OnlineMember,
    PresenceUpdate,
    encode,
    encode_all,
)
from tchat.core.text import fold
from tchat.server.send_queue import SendQueue, SendQueueClosed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    import trio

    from tchat.store.base import Page, Store

_RECENT_LIMIT = 256 * 1024
_NAMES_IN_A_FRAME = 100  # which may have a word beside it that is three times as long


class Subscription:
    """One connection's view of one group: it has been sent the events up to `cursor`.

    `gone` is set when the connection ends or detaches, which may be before the group's actor has
    even seen the subscription.
    """

    __slots__ = ("author", "cursor", "gone", "key", "send_queue")

    def __init__(self, author: Author, send_queue: SendQueue) -> None:
        self.author = author
        self.key = fold(author.name)
        self.send_queue = send_queue
        self.cursor = 0
        self.gone = False


class Subscriptions:
    """The subscriptions of one group; `unsettled` asks the actor for a turn that calls `settle`.

    `away` has who is away (folded), and why; `erasures` counts how often something was erased.
    """

    def __init__(self, store: Store, key: str, away: Mapping[str, str] | None = None) -> None:
        self.unsettled = False
        self.erasures = 0
        self._away: Mapping[str, str] = {} if away is None else away
        self._store = store
        self._key = key
        self._group = Group()
        self._feeders: trio.Nursery
        self._people: dict[str, dict[Subscription, None]] = {}
        self._live: dict[Subscription, None] = {}
        self._recent: deque[Page] = deque()
        self._recent_size = 0
        self._announced: dict[str, tuple[str, str]] = {}
        self._someone_left = False

    def __bool__(self) -> bool:
        return bool(self._people)

    def open(self, group: Group, feeders: trio.Nursery) -> None:
        """Begin with the loaded state; tasks that catch up run in `feeders`."""
        self._group = group
        self._feeders = feeders

    def of(self, key: str) -> list[Subscription]:
        """Return a person's subscriptions."""
        return list(self._people.get(key, ()))

    def add(self, subscription: Subscription) -> None:
        """Know a subscription: of a member, or of somebody who waits to become one."""
        self._people.setdefault(subscription.key, {})[subscription] = None
        self.unsettled = True

    def drop(self, subscription: Subscription) -> None:
        """Forget a subscription, if it is known."""
        mine = self._people.get(subscription.key, {})
        if subscription not in mine:
            return
        del mine[subscription]
        if not mine:
            del self._people[subscription.key]
        self._live.pop(subscription, None)
        self.unsettled = self._someone_left = True

    def dismiss(self, key: str, news: MembershipChange) -> None:
        """Tell a person that they are out, and forget their subscriptions."""
        for subscription in self.of(key):
            subscription.send_queue.push(encode(news))
            self.drop(subscription)

    def dismiss_all(self, news: MembershipChange) -> None:
        """Tell everybody who is left."""
        for key in list(self._people):
            self.dismiss(key, news)

    def close(self) -> None:
        """Close the connections of all subscriptions."""
        for subscriptions in self._people.values():
            for subscription in subscriptions:
                subscription.send_queue.close()

    def admit(self, subscription: Subscription, after: int) -> None:
        """Send a member the log behind `after`, and then everything as it happens."""
        subscription.cursor = after
        self.unsettled = True
        self._catch_up(subscription)

    def broadcast(self, page: Page, group: Group) -> None:
        """Take the new state, and hand its committed events to every live subscription."""
        self._group = group
        self._remember(page)
        lagging: list[Subscription] = []
        for subscription in self._live:
            if subscription.cursor >= page.first:
                # It caught up from the store, which was ahead of the actor by this very page.
                continue
            if subscription.send_queue.offer(page.frames):
                subscription.cursor = page.last
            else:
                lagging.append(subscription)
        self._fall_back(lagging)

    def erase(self, seqs: Collection[int]) -> None:
        """Have nothing any more of what was in these events."""
        self.erasures += 1
        self._recent = deque(page.erase(seqs) for page in self._recent)
        self._recent_size = sum(len(page.frames) for page in self._recent)

    def settle(self) -> bool:
        """Tell the live who came, went, or is away since the last time; return if anybody went."""
        if not self.unsettled:
            return False
        self._announce()
        someone_left = self._someone_left
        self.unsettled = self._someone_left = False
        return someone_left

    def _announce(self) -> None:
        members = self._group.members
        online = {
            key: (members[key], self._away.get(key, "")) for key in self._people if key in members
        }
        came = [shown for key, shown in online.items() if self._announced.get(key) != shown]
        went = [name for key, (name, _) in self._announced.items() if key not in online]
        self._announced = online
        if came or went:
            news = encode_all(self._presence(came, went, reset=False))
            self._fall_back([s for s in self._live if not s.send_queue.offer(news)])

    def _presence(
        self, came: list[tuple[str, str]], went: list[str], *, reset: bool
    ) -> Iterator[PresenceUpdate]:
        name = self._group.name
        for start in range(0, max(len(came), int(reset)), _NAMES_IN_A_FRAME):
            part = came[start : start + _NAMES_IN_A_FRAME]
            online = tuple(OnlineMember(who, why or None) for who, why in part)
            yield PresenceUpdate(name, online, (), reset and start == 0)
        for start in range(0, len(went), _NAMES_IN_A_FRAME):
            yield PresenceUpdate(name, (), tuple(went[start : start + _NAMES_IN_A_FRAME]))

    def _fall_back(self, lagging: Iterable[Subscription]) -> None:
        for subscription in lagging:
            del self._live[subscription]
            self._catch_up(subscription)

    def _catch_up(self, subscription: Subscription) -> None:
        if subscription.cursor >= self._group.seq and not subscription.send_queue.full:
            self._go_live(subscription)
        else:
            self._feeders.start_soon(self._feed, subscription)

    async def _feed(self, subscription: Subscription) -> None:
        """Bring a subscription to the head at its reader's pace, then make it live."""
        send_queue = subscription.send_queue
        try:
            await send_queue.room()
            while self._knows(subscription) and subscription.cursor < self._group.seq:
                page = self._recall(subscription.cursor)
                if page is None:
                    erasures = self.erasures
                    page = await self._store.read(self._key, subscription.cursor)
                    if self.erasures != erasures:
                        continue  # it may have been read just before that
                if page is None or not self._knows(subscription):
                    return
                send_queue.push(page.frames)
                subscription.cursor = page.last
                await send_queue.room()
        except SendQueueClosed:
            return
        if self._knows(subscription):
            self._go_live(subscription)

    def _knows(self, subscription: Subscription) -> bool:
        return subscription in self._people.get(subscription.key, ())

    def _go_live(self, subscription: Subscription) -> None:
        self._live[subscription] = None
        online = list(self._announced.values())
        subscription.send_queue.push(encode_all(self._presence(online, [], reset=True)))

    def _remember(self, page: Page) -> None:
        """Keep the latest pages, so that one who is nearly there need not ask the disk."""
        self._recent.append(page)
        self._recent_size += len(page.frames)
        while self._recent_size > _RECENT_LIMIT:
            self._recent_size -= len(self._recent.popleft().frames)

    def _recall(self, cursor: int) -> Page | None:
        for page in self._recent:
            if page.first <= cursor + 1 <= page.last:
                return page.after(cursor)
        return None

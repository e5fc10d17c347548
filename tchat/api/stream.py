"""Streams of events: several groups merged, from any point of their logs, with a durable cursor.

A stream holds hardly any events. For each group it knows the seq of the next one, and takes it from
the latest events, which the client has in memory, or else from a page that it asks the server for.
So a program that reads slowly, or begins far back, needs no more memory than one that keeps up.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Literal

import trio

from tchat.api.groups import event_of
from tchat.core.group.messages import Erased
from tchat.core.text import fold

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from tchat.api.follower import Follower
    from tchat.api.groups import Event, Group
    from tchat.client.replica import Replica
    from tchat.core.group import feature

Since = int | Literal["now", "seen", "start"]

_PAGE = 200  # events that are asked for at once, if they are short


@dataclass(slots=True)
class _Place:
    """A stream's place in one group: the seq of the next event, and a page that begins there."""

    next: int
    page: deque[feature.Event] = field(default_factory=deque)


class Events:
    """The events of several groups, the earliest first; made by `Client.events`.

    Use it in `async with`, and iterate over it, or call `receive`.
    """

    def __init__(
        self, follower: Follower, groups: Sequence[Group], since: Since, *, own: bool, cursor: str
    ) -> None:
        self._follower = follower
        self._chosen = [group.replica for group in groups]
        self._since = since
        self._own = own
        self._cursor = cursor
        self._places: dict[Replica, _Place] = {}
        self._at_start: frozenset[Replica] = frozenset()
        self._closed = False

    async def __aenter__(self) -> Self:
        """Begin: with "now", events from here on are delivered, however late they are read."""
        follower = self._follower
        if not self._chosen:
            await follower.find_conversations()
        self._at_start = frozenset(self._followed())
        await follower.wait_until(lambda: not any(map(follower.is_loading, self._at_start)))
        self._find_places()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the stream: a task that waits for an event gets `trio.ClosedResourceError`."""
        self._closed = True
        self._follower.wake()

    def __aiter__(self) -> Self:
        """Iterate over the events, for ever."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event."""
        return await self.receive()

    async def receive(self) -> Event:
        """Wait for the next event, and return it.

        Raises `Refused`, and `trio.ClosedResourceError` after the end of the `async with` block.
        """
        while not self._closed:
            updates = self._follower.updates
            self._find_places()
            while (replica := await self._next_replica()) is not None:
                entry = self._take(replica)
                if not self._is_skipped(entry):
                    return self._event(replica, entry)
            await self._follower.wait_past(updates)
        raise trio.ClosedResourceError

    async def ack(self, event: Event) -> None:
        """Acknowledge an event and all before it in its group: they have been handled.

        They count as read on all devices of the user. With `since="seen"`, the cursor is on disk
        when this returns, and the next run begins after the event.
        """
        replica, session = event.group.replica, self._follower.session
        if self._since == "seen":
            server = session.connector.names()[0]
            session.programs.save_cursor(
                server, session.user, replica.name, self._cursor, event.seq
            )
        session.mark_seen(replica, event.seq)

    # ------------------------------------------------------------------ places

    def _followed(self) -> Sequence[Replica]:
        return self._chosen or list(self._follower.session.groups.values())

    def _find_places(self) -> None:
        """Find the place of each group that has none, once the user is a member of it."""
        for replica in self._followed():
            if replica not in self._places and replica.caught_up:
                self._places[replica] = _Place(max(self._first(replica), replica.state.floor, 1))

    def _first(self, replica: Replica) -> int:
        """Return the seq of the first event to deliver."""
        session = self._follower.session
        if self._since == "start":
            return 1
        if self._since == "seen":
            names = session.connector.names()
            seq = session.programs.cursor(names, session.user, replica.name, self._cursor)
            return (replica.position if seq is None else seq) + 1
        if replica not in self._at_start:
            if replica.state.direct:
                return 1  # the conversation began meanwhile
            joined = replica.initial_standing != "member"
            return (replica.position if joined else replica.head) + 1
        return (self._since if isinstance(self._since, int) else replica.last) + 1

    # ------------------------------------------------------------------ events

    async def _next_replica(self) -> Replica | None:
        """Return the group whose next event is the earliest; None if there is no event now."""
        times: dict[Replica, int] = {}
        for replica, place in list(self._places.items()):
            entry = await self._peek(replica, place)
            if entry is not None:
                times[replica] = entry.at
        return min(times, key=times.__getitem__, default=None)

    async def _peek(self, replica: Replica, place: _Place) -> feature.Event | None:
        """Return the next event of a group without taking it; None if it does not exist yet."""
        if not place.page and place.next < replica.first:
            await self._load_page(replica, place)
        if place.page:
            return place.page[0]
        # A server that was restored from a backup has a shorter log than before.
        place.next = min(max(place.next, replica.first), replica.last + 1)
        return replica.log[place.next - replica.first] if place.next <= replica.last else None

    async def _load_page(self, replica: Replica, place: _Place) -> None:
        """Load the events from the next one on, as far as they are not in memory, or a page."""
        end = min(place.next + _PAGE, replica.first) - 1
        entries: deque[feature.Event] = deque()
        last = end
        while last >= place.next:
            page = await self._follower.session.events_until(replica.name, last)
            if not page:
                break  # the user may not read what is before
            entries.extendleft(entry for entry in reversed(page) if entry.seq >= place.next)
            last = page[0].seq - 1
        place.page = entries
        place.next = entries[0].seq if entries else end + 1

    def _take(self, replica: Replica) -> feature.Event:
        """Take the event that `_peek` has just returned."""
        place = self._places[replica]
        entry = place.page.popleft() if place.page else replica.log[place.next - replica.first]
        place.next = entry.seq + 1
        return entry

    def _is_skipped(self, entry: feature.Event) -> bool:
        mine = fold(entry.actor) == fold(self._follower.session.user)
        return isinstance(entry.body, Erased) or (mine and not self._own)

    def _event(self, replica: Replica, entry: feature.Event) -> Event:
        follower, key_of_reply = self._follower, None
        if self._since == "seen":
            keys = (f"reply {self._cursor} {entry.seq} {number}" for number in count(1))
            key_of_reply = partial(next, keys)
        return event_of(entry, follower.group_of(replica), follower.session.user, key_of_reply)

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

from tchat.api.groups import event_of, ms_of
from tchat.core.group.messages import Erased
from tchat.core.text import fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from tchat.api.follower import Follower
    from tchat.api.groups import Event, Group
    from tchat.client.replica import Replica
    from tchat.core.group import feature

Since = int | Literal["now", "seen", "unread", "start"]

_PAGE = 200  # events that are asked for at once, if they are short
_NO_MEMBER = (Code.NOT_MEMBER, Code.NOT_APPROVED, Code.BANNED)


@dataclass(slots=True)
class _Place:
    """A stream's place in one group: the seq of the next event, and a page that begins there.

    `at` is the time of the event before, in ms since the epoch, or 0 if that is not known.
    `replacements` is that of the replica when the place was found. `has_gap` says that the server
    did not send events before the next one.
    """

    next: int
    at: int
    replacements: int
    page: deque[feature.Event] = field(default_factory=deque)
    has_gap: bool = False


class Events(trio.abc.ReceiveChannel["Event"]):
    """The events of several groups, the earliest first; made by `Client.events`.

    Use it in `async with`, and iterate over it, or call `receive`. After the block, a task that
    waits for an event gets `trio.ClosedResourceError`.
    """

    def __init__(
        self,
        follower: Follower,
        groups: Sequence[Group],
        since: Since,
        *,
        own: bool,
        cursor: str,
        while_member: bool,
    ) -> None:
        if isinstance(since, int) and len(groups) != 1:
            raise ValueError("A seq is one of a certain group: give one group.")
        if while_member and not groups:
            raise ValueError("Without groups, nobody knows whose membership is meant: give some.")
        self._follower = follower
        self._chosen = [group.replica for group in groups]
        self._since = since
        self._own = own
        self._cursor = cursor
        self._while_member = while_member
        self._places: dict[Replica, _Place] = {}
        self._set_aside: dict[str, tuple[int, int]] = {}
        """`next` and `at` of the places in conversations that are not followed, by folded name."""
        self._members: frozenset[Replica] = frozenset()
        self._outside: frozenset[Replica] = frozenset()
        self._receiving = trio.Lock()
        self._closed = False

    async def __aenter__(self) -> Self:
        """Begin: with "now", events from here on are delivered, however late they are read.

        With `while_member`, raises `Refused` if the user is not a member of all groups.
        """
        follower = self._follower
        if not self._chosen:
            follower.add_stream(self)
            await follower.find_conversations()
        followed = frozenset(self._followed())
        await follower.wait_until(lambda: not any(map(follower.is_loading, followed)))
        self._members = frozenset(replica for replica in followed if replica.caught_up)
        self._outside = followed - self._members
        for replica in followed:
            self._require_member(replica)
        await self._find_places()
        return self

    async def aclose(self) -> None:
        """End the stream: a task that waits for an event gets `trio.ClosedResourceError`."""
        self._closed = True
        self._follower.remove_stream(self)
        self._follower.wake()
        await trio.lowlevel.checkpoint()

    async def receive(self) -> Event:
        """Wait for the next event, and return it.

        Raises `Refused`, with `while_member` also after the last event of a group that the user is
        no longer a member of; and `trio.ClosedResourceError` after the end of the `async with`
        block or of the client.
        """
        async with self._receiving:
            while not self._closed:
                updates = self._follower.updates
                event = await self._take_ready()
                if event is not None:
                    return event
                await self._follower.wait_past(updates)
        raise trio.ClosedResourceError

    async def receive_ready(self) -> Event | None:
        """Return the next event; None if there is none yet: all that was said was received.

        Waits while another task waits in `receive`. Raises what that raises.
        """
        async with self._receiving:
            if self._closed:
                raise trio.ClosedResourceError
            return await self._take_ready()

    async def _take_ready(self) -> Event | None:
        while True:
            await self._find_places()
            while (replica := await self._next_replica()) is not None:
                entry = self._take(replica)
                if not self._is_skipped(entry):
                    return self._event(replica, entry)
            if self._chosen or not await self._follower.follow_waiting():
                return None

    def has_delivered(self, replica: Replica) -> bool:
        """Return whether all events of a group that are in the client were delivered."""
        place = self._places.get(replica)
        return place is not None and not place.page and place.next > replica.last

    def set_aside(self, replica: Replica) -> None:
        """Remember only the place in a conversation that is not followed any more."""
        if (place := self._places.pop(replica, None)) is not None:
            self._set_aside[fold(replica.name)] = place.next, place.at

    def has_read(self, group: Group, seq: int) -> bool:
        """Return whether all events of a group up to `seq` were received, or are deleted.

        They were not if the server announced them, but did not send them when it was asked.
        """
        place = self._places.get(group.replica)
        return place is not None and place.next > seq and not place.has_gap

    async def ack(self, event: Event) -> None:
        """Acknowledge an event and all before it in its group: they have been handled.

        They count as read on all devices of the user. With `since="seen"`, the cursor is on disk
        when this returns (some milliseconds), and the next run begins after the event. To
        acknowledge only every tenth event costs less, and up to ten may be handled again.
        """
        await trio.lowlevel.checkpoint()
        self._follower.live_session()
        if self._since == "seen":
            self._save(event.group.replica, event.seq, ms_of(event.at))
        event.group.mark_read(event)

    # ------------------------------------------------------------------ places

    def _followed(self) -> Sequence[Replica]:
        followed = self._follower.session.groups
        # A group that was unfollowed, after a denied request, has another replica when it is back.
        chosen = [followed.get(fold(replica.name), replica) for replica in self._chosen]
        return chosen or list(followed.values())

    async def _find_places(self) -> None:
        """Find the place of each group that has none, once the user is a member of it."""
        for replica in self._followed():
            if replica not in self._places and replica.caught_up:
                self._places[replica] = await self._former_place(replica) or await self._find_place(
                    replica
                )

    async def _former_place(self, replica: Replica) -> _Place | None:
        """Take the place in a former replica of the same group, if there is one."""
        for former in list(self._places):
            if fold(former.name) == fold(replica.name):
                place = self._places.pop(former)
                return _Place(place.next, place.at, replica.replacements)
        if (aside := self._set_aside.get(fold(replica.name))) is not None:
            place = _Place(*aside, replica.replacements)
            if place.at and not await self._is_at(replica, place.next - 1, place.at):
                await self._move_after(replica, place)
            self._set_aside.pop(fold(replica.name), None)
            return place
        return None

    async def _find_place(self, replica: Replica) -> _Place:
        if self._since == "seen":
            seq, at = await self._cursor_in(replica)
        else:
            # A seq beyond the end is no place to wait at: the events up to it would be lost.
            seq, at = min(self._begin(replica), replica.last), 0
        place = _Place(seq + 1, at, replica.replacements)
        if at and not await self._is_at(replica, seq, at):
            await self._move_after(replica, place)
        place.next = max(place.next, replica.state.floor, 1)
        return place

    def _begin(self, replica: Replica) -> int:
        """Return the seq of the event before the first one to deliver."""
        if isinstance(self._since, int):
            return self._since
        if self._since == "start":
            return 0
        if self._since == "unread":
            return max(replica.position, replica.seen)
        if self._since == "seen":
            return replica.position
        if replica in self._members:
            return replica.last
        if replica.state.direct:
            return self._follower.before_news(replica)  # it may have begun meanwhile
        was_outside = replica in self._outside or replica.initial_standing != "member"
        return replica.position if was_outside else replica.head

    async def _cursor_in(self, replica: Replica) -> tuple[int, int]:
        """Return the seq and the time of the saved cursor. If there is none, save where it is.

        Otherwise it would be moved by what the user reads on other devices.
        """
        session = self._follower.session
        names = session.connector.names()
        found = session.programs.cursor(names, session.user, replica.name, self._cursor)
        if found is None:
            seq = min(self._begin(replica), replica.last)
            found = seq, await self._time_of(replica, seq)
            self._save(replica, *found)
        elif not found[1]:
            found = min(found[0], replica.last), 0
        return found

    def _save(self, replica: Replica, seq: int, at: int) -> None:
        session = self._follower.session
        server = session.connector.names()[0]
        session.programs.save_cursor(server, session.user, replica.name, self._cursor, seq, at)

    # ------------------------------------------------------------------ restored servers

    async def _is_at(self, replica: Replica, seq: int, at: int) -> bool:
        """Return whether the log still has the event with a seq that had this time.

        A server that was restored from a backup has a shorter log than before, in which later
        events have the same numbers again.
        """
        if seq > replica.last:
            return False
        if seq < max(replica.state.floor, 1):
            return True  # the group was founded anew
        return await self._time_of(replica, seq) in (at, 0)

    async def _time_of(self, replica: Replica, seq: int) -> int:
        """Return the time of an event in ms since the epoch; 0 if the user may not read it."""
        if seq < max(replica.state.floor, 1):
            return 0
        if replica.first <= seq <= replica.last:
            return replica.log[seq - replica.first].at
        page = await self._read_until(replica, seq)
        return page[-1].at if page else 0

    async def _move_after(self, replica: Replica, place: _Place) -> None:
        """Move to the first event that is later than those that were delivered.

        If their time is not known, that is the first live event: none may be delivered again.
        """
        place.next = (replica.last if place.at else replica.head) + 1
        place.replacements = replica.replacements
        place.page.clear()
        while place.at and place.next > max(replica.state.floor, 1):
            page = await self._read_until(replica, place.next - 1) or ()
            later = [entry.seq for entry in page if entry.at > place.at]
            if later:
                place.next = later[0]
            if len(later) < len(page) or not page:
                break

    # ------------------------------------------------------------------ events

    async def _next_replica(self) -> Replica | None:
        """Return the group whose next event is the earliest; None if there is no event now."""
        times: dict[Replica, int] = {}
        for replica, place in list(self._places.items()):
            entry = await self._peek(replica, place)
            if entry is not None:
                times[replica] = entry.at
            else:
                self._require_member(replica)
        return min(times, key=times.__getitem__, default=None)

    async def _peek(self, replica: Replica, place: _Place) -> feature.Event | None:
        """Return the next event of a group without taking it; None if it does not exist yet."""
        # A log that was reset may have grown past the place since.
        was_replaced = place.replacements != replica.replacements or place.next > replica.last + 1
        if replica.caught_up and was_replaced:
            await self._move_after(replica, place)
        if not place.page and place.next < replica.first:
            if replica.standing != "member":
                return None  # it may not be read, until the user is admitted again
            await self._load_page(replica, place)
        if place.page:
            return place.page[0]
        if replica.first <= place.next <= replica.last:
            return replica.log[place.next - replica.first]
        return None

    def _require_member(self, replica: Replica) -> None:
        """Raise `Refused` if a chosen group is unusable.

        With `while_member`, also if the user is not a member (any more).
        """
        if self._chosen and replica.unusable:
            raise replica.unusable
        if self._while_member and replica.standing != "member":
            raise replica.not_member_refusal()

    async def _load_page(self, replica: Replica, place: _Place) -> None:
        """Load the events from the next one on, as far as they are not in memory, or a page."""
        end = min(place.next + _PAGE, replica.first) - 1
        entries: deque[feature.Event] = deque()
        last = end
        while last >= place.next:
            page = await self._read_until(replica, last)
            if page is None:
                return
            if not page:
                place.has_gap = True  # the user may not read what is before
                break
            entries.extendleft(entry for entry in reversed(page) if entry.seq >= place.next)
            last = page[0].seq - 1
        place.page = entries
        place.next = entries[0].seq if entries else end + 1

    async def _read_until(self, replica: Replica, seq: int) -> Sequence[feature.Event] | None:
        """Return a page of events that ends with `seq`; None if the user is not a member now.

        The user can be removed while the request is on its way. Then the stream goes on with its
        other groups, or waits until the user is admitted again.
        """
        try:
            return await self._follower.session.events_until(replica.name, seq)
        except Refused as refusal:
            if refusal.code in _NO_MEMBER:
                return None
            raise

    def _take(self, replica: Replica) -> feature.Event:
        """Take the event that `_peek` has just returned."""
        place = self._places[replica]
        entry = place.page.popleft() if place.page else replica.log[place.next - replica.first]
        place.next, place.at = entry.seq + 1, entry.at
        return entry

    def _is_skipped(self, entry: feature.Event) -> bool:
        mine = fold(entry.actor) == fold(self._follower.session.user)
        return isinstance(entry.body, Erased) or (mine and not self._own)

    def _event(self, replica: Replica, entry: feature.Event) -> Event:
        follower, next_key = self._follower, None
        if self._since == "seen":
            # With the time, since a server that was restored counts from a lower seq again.
            about = f"about {self._cursor} {entry.seq} {entry.at}"
            keys = (f"{about} {number}" for number in count(1))
            next_key = partial(next, keys)
        return event_of(entry, follower.group_of(replica), follower.session.user, next_key)

"""Groups without a window: what was looked at there, and whether anything new is for the person.

A window follows its group. In all others, the server tells what is meant for the person when it
happens (`Addressed`), but not what happened while there was no connection. So after each connection
the client asks for the list of groups, and reads what is unread in those without a window.

`/part` closes a window without leaving the group. What came until then is looked at: it does not
open the window again, even if it is unread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.direct import is_direct
from tchat.core.group.membership import Requested
from tchat.core.text import fold
from tchat.ui.chat.unread import ReadState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.group.feature import Event
    from tchat.core.protocol.frames import GroupSummary
    from tchat.ui.chat.unread import Counts

_MOST_PAGES = 8
"""So many pages of the unread events of a group are read at most, the newest ones."""

_LAST_PLACE = 1 << 63


class Elsewhere:
    """The groups of a session's person that have no window, without `ignored` people (folded)."""

    def __init__(self, session: Session, ignored: Collection[str]) -> None:
        self._session = session
        self._ignored = ignored
        self._looked: dict[str, int] = {}
        """For each group that was looked at or closed, by folded name, the last event by then."""
        self._places: dict[str, int] = {}
        self._unlisted: dict[str, int] = {}
        """The order in which groups were opened that the server has not listed."""

    def learn(self, groups: Iterable[GroupSummary]) -> None:
        """Take over the places of the groups."""
        self._places = {fold(group.name): group.place for group in groups}

    def place_of(self, group: str) -> tuple[bool, int]:
        """Return a key that sorts windows: groups by when the person joined, then conversations.

        A group that the server has not listed yet was joined after those that it has.
        """
        place = self._places.get(fold(group))
        if place is None:
            place = _LAST_PLACE + self._unlisted.setdefault(fold(group), len(self._unlisted))
        return is_direct(group), place

    def closed(self, replica: Replica) -> None:
        """Remember how far the person was shown a group whose window was closed."""
        self._looked[fold(replica.name)] = replica.last

    def was_looked_at(self, group: str) -> bool:
        """Return whether a group was looked at, or its window was closed, since the start."""
        return fold(group) in self._looked

    async def find_new(self, group: GroupSummary) -> tuple[bool, bool]:
        """Return whether anything new is meant for the person, and whether anybody asks to join.

        New is what is unread and was not looked at; it is looked at then. Raises `Refused`.
        """
        key = fold(group.name)
        position = max(group.read, self._looked.get(key, 0))
        events: list[Event] = []
        if group.standing == "member" and group.last > position:
            events = await self._unread_events(group, position, _MOST_PAGES)
        self._looked[key] = max(group.last, position)
        counts = self._count(group, events, position)
        return counts.mentions > 0, any(isinstance(event.body, Requested) for event in events)

    async def count_unread(self, group: GroupSummary) -> tuple[Counts, bool]:
        """Count what is unread in the newest page of a group; return whether that is all of it.

        Raises `Refused`.
        """
        events = await self._unread_events(group, group.read, most_pages=1)
        is_all = not events or events[0].seq <= max(group.read + 1, 1)
        return self._count(group, events, group.read), is_all

    async def _unread_events(
        self, group: GroupSummary, position: int, most_pages: int
    ) -> list[Event]:
        """Load pages from the last event back to the read position."""
        events: list[Event] = []
        last = group.last
        for _ in range(most_pages):
            page = await self._session.events_until(group.name, last)
            events[:0] = page
            if not page or page[0].seq <= position + 1:
                break
            last = page[0].seq - 1
        return events

    def _count(self, group: GroupSummary, events: list[Event], position: int) -> Counts:
        reading = ReadState(self._session.user, self._ignored, direct=is_direct(group.name))
        reading.restart(position)
        for event in events:
            reading.apply(event)
        return reading.counts

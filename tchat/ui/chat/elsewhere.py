"""Find what is new for the person in groups without a window, and place the windows.

A window follows its group. In all others, the server tells what is meant for the person when it
happens (`Addressed`), but not what happened while there was no connection. So after each connection
the client asks for the list of groups, and searches what is unread in those without a window, page
by page. It remembers what was searched (`tchat.client.searched`), and loads each page only once.

`/part` closes a window without leaving the group. What came until then does not open the window
again, even if it is unread.

Names cost nothing, so anybody can write to a person under any number of them, and a window costs a
place among the windows, a subscription and a catch-up. So conversations are distinguished. *Known*
are those that the person has looked into or written to, on any device: the server has a read
position for them. All others are of strangers. What has no window, because there are too many,
is *waiting*: it is counted and listed, and its window opens when the person looks into it. The
server keeps what is unread, so that it waits still after a restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.client.searched import Span
from tchat.core.group.direct import is_direct, other_of
from tchat.core.group.mentions import is_mention
from tchat.core.group.messages import Deleted, Edited
from tchat.core.text import fold
from tchat.ui.chat.unread import ReadState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from tchat.client.replica import Replica
    from tchat.client.searched import Searched
    from tchat.client.session import Session
    from tchat.core.group.feature import Event
    from tchat.core.protocol.frames import GroupSummary
    from tchat.ui.chat.unread import Counts

_LAST_PLACE = 1 << 63
_MOST_KNOWN = 20_000
"""How many groups and conversations are known at most: a server can list others each time."""

_MOST_WAITING = 1000
"""How many groups wait at a time; of others, the next list of groups tells."""


class Search:
    """The search of a group for what is unread and meant for the person, the newest page first."""

    def __init__(self, elsewhere: Elsewhere, group: GroupSummary, position: int) -> None:
        self.group = group
        self._elsewhere = elsewhere
        self._position = position
        self._events: list[Event] = []
        span = elsewhere.searched.span_of(group.name)
        self._known = span if span.last <= group.last else Span()  # the log may be restored
        self._span = self._known if self._known.last == group.last else Span(group.last + 1, 0)

    @property
    def done(self) -> bool:
        """Whether everything was searched."""
        return self._span.first <= self._position + 1

    async def load_page(self) -> list[Event]:
        """Load the next page and return its events. Raises `Refused`."""
        last = self._span.first - 1
        page = await self._elsewhere.session.events_until(self.group.name, last)
        self._events[:0] = page
        first = page[0].seq if page else 1  # earlier ones are not for the person
        if page and 0 < self._known.last >= first - 1:
            first = min(first, self._known.first)
        self._span = Span(first, self.group.last)
        return page

    def is_meant(self) -> bool:
        """Return whether one of the events so far is meant for the person."""
        reading = self._elsewhere.count(self.group, self._events, self._position)
        edits: dict[int, bool] = {}
        """Edited messages that were not loaded, and whether the last text mentions the person."""
        loaded = {event.seq for event in self._events}
        for event in self._events:
            match event.body:
                case Edited(target, text) if target not in loaded and target > reading.read:
                    edits[target] = self._elsewhere.is_addressed(event, text)
                case Deleted(target):
                    edits.pop(target, None)
        return reading.counts.mentions > 0 or any(edits.values())

    def remember(self) -> None:
        """Remember that nothing in the events so far is meant for the person."""
        self._elsewhere.searched.add(self.group.name, self._span)


class Elsewhere:
    """The groups of a session's person that have no window, without `ignored` people (folded)."""

    def __init__(self, session: Session, ignored: Collection[str], searched: Searched) -> None:
        self.session = session
        self.searched = searched
        self._ignored = ignored
        self._closed: dict[str, int] = {}
        """For each group whose window was closed, by folded name, the last event by then."""
        self._places: dict[str, int] = {}
        self._unlisted: dict[str, int] = {}
        """The order in which groups were opened that the server has not listed."""
        self._first: dict[str, int] = {}
        self._known: set[str] = set()
        """The conversations, by folded name, that the person has looked into or written to."""
        self._waiting: dict[str, str] = {}
        """The names of the groups that wait, by folded name, in the order of their news."""

    def update(self, groups: Collection[GroupSummary]) -> None:
        """Note what the server has listed: the places of groups, and which were looked into."""
        # A group that is listed no more, after a kick for example, keeps the place of its window.
        places = {fold(group.name): group.place for group in groups}
        self._places = dict(list((self._places | places).items())[-_MOST_KNOWN:])
        looked_into = {fold(group.name) for group in groups if group.read}
        if len(self._known | looked_into) > _MOST_KNOWN:
            self._known.clear()  # those that were listed just now are known again
        self._known |= looked_into
        for group in groups:
            if group.read >= group.last:  # read on another device
                self._waiting.pop(fold(group.name), None)

    # ------------------------------------------------------------------ strangers

    def look_into(self, group: str) -> None:
        """Note that the person has looked into a group, or written there."""
        if len(self._known) < _MOST_KNOWN:
            self._known.add(fold(group))
        self._waiting.pop(fold(group), None)

    def lists(self, group: str) -> bool:
        """Return whether the server has listed a group, or it has told of something new there."""
        return any(fold(group) in known for known in (self._places, self._known, self._waiting))

    def is_of_stranger(self, group: str) -> bool:
        """Return whether this is a conversation that the person has never looked into."""
        return is_direct(group) and fold(group) not in self._known

    @property
    def waiting(self) -> list[str]:
        """The groups in which something new waits for the person, without a window."""
        return list(self._waiting.values())

    @property
    def count_waiting(self) -> tuple[int, int]:
        """How many conversations wait, and how many groups."""
        direct = sum(map(is_direct, self._waiting))
        return direct, len(self._waiting) - direct

    def wait(self, group: str) -> bool:
        """Let a group wait; return whether it has not waited before."""
        if fold(group) in self._waiting or len(self._waiting) >= _MOST_WAITING:
            return False
        self._waiting[fold(group)] = group
        return True

    def stop_waiting(self, group: str) -> None:
        """Remove a group that now has a window from those that wait for one."""
        self._waiting.pop(fold(group), None)

    def drop_ignored(self) -> None:
        """Let the conversations with ignored people wait no more."""
        me = self.session.user
        for name in [name for name in self._waiting if is_direct(name)]:
            if fold(other_of(name, me)) in self._ignored:
                del self._waiting[name]

    def put_first(self, groups: Iterable[str]) -> None:
        """Put groups before all others, in the order in which the person has named them."""
        self._first = {fold(group): index for index, group in enumerate(groups)}

    def place_of(self, group: str) -> tuple[int, int]:
        """Return a key that sorts windows: groups by when the person joined, then conversations.

        A group that the server has not listed yet was joined after those that it has. Those of
        `put_first` come before all others.
        """
        name = fold(group)
        if name in self._first:
            return -1, self._first[name]
        place = self._places.get(name)
        if place is None:
            place = _LAST_PLACE + self._unlisted.setdefault(name, len(self._unlisted))
        return int(is_direct(group)), place

    def on_closed(self, replica: Replica) -> None:
        """Remember how far the person was shown a group whose window was closed."""
        self._closed[fold(replica.name)] = replica.last

    def on_log_replaced(self) -> None:
        """Forget all positions: the server was restored, and they are those of other events."""
        self._closed = dict.fromkeys(self._closed, 0)
        self.searched.forget()

    def was_closed(self, group: str) -> bool:
        """Return whether a window of the group was closed since the start."""
        return fold(group) in self._closed

    def search(self, group: GroupSummary) -> Search:
        """Return a search of a group's events that are unread, and newer than its last window."""
        return Search(self, group, max(group.read, self._closed.get(fold(group.name), 0)))

    def is_addressed(self, event: Event, text: str) -> bool:
        """Return whether the text of an event mentions the person, and its author counts."""
        author = fold(event.actor)
        if author == fold(self.session.user) or author in self._ignored:
            return False
        return is_mention(text, self.session.user)

    async def count_unread(self, group: GroupSummary) -> tuple[Counts, bool]:
        """Count what is unread in the newest page of a group; return whether that is all of it.

        Raises `Refused`.
        """
        events = await self.session.events_until(group.name, group.last)
        is_all = not events or events[0].seq <= max(group.read + 1, 1)
        return self.count(group, events, group.read).counts, is_all

    def count(self, group: GroupSummary, events: list[Event], position: int) -> ReadState:
        """Return the read state after these events, of which those up to `position` are read."""
        reading = ReadState(self.session.user, self._ignored, direct=is_direct(group.name))
        reading.restart(position)
        for event in events:
            reading.apply(event)
        return reading

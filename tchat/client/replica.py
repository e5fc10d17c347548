"""A group as this client knows it: the same fold over the same events as on the server.

The state may be ahead of the log. One who needs not replay everything begins with the state as it
is, from a snapshot, and with the latest events, which are in that state already and are only read;
those before them come in front of the log as somebody asks for them. From the snapshot on, every
event is applied and added. So there are two places: `state.seq`, up to which the state has
everything, and `last`, up to which the log has, behind which a broken connection goes on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tchat.core.group.events import Created, Deleted, Edited, Erased, Event, Posted
from tchat.core.group.rules import apply
from tchat.core.group.snapshots import SNAPSHOT_LIMIT, thaw
from tchat.core.group.state import Group
from tchat.core.protocol.frames import Attach, HistoryRequest
from tchat.core.text import clean_line, fold
from tchat.errors import Code, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tchat.client.request import PendingMessage
    from tchat.core.protocol.frames import Attached, PresenceUpdate, Snapshot, Standing


class GapError(Exception):
    """An event is missing in front of this one; the log has to be asked for again."""


class Replica:
    """One group's state, log, and who of it is online.

    `log` has every event from `first` (where it would begin, while it is empty) to `last`.
    `texts` are, by the seq of a message, what those say now that were edited; `deleted` are those
    that were taken away, whose text is nowhere here any more. `away` are, by their folded names,
    those of the `online` who are away, and why. `pending` are the person's own messages that are
    not in the log yet, in order.

    `head` is where the server's log stood when the group was last attached: events up to it are
    history. `read` is the last event that the person had seen, on any device, at that time.
    `came_as` is what the person was when it was attached for the first time.

    With `recent`, a replica that has nothing asks for the state and at least so many of the
    latest events, and otherwise for the whole log.
    """

    def __init__(
        self, name: str, recent: int | None = None, pending: list[PendingMessage] | None = None
    ) -> None:
        self.name = name
        self.standing: Standing | None = None
        self.came_as: Standing | None = None
        self.admin: str | None = None
        self.kicked = False
        self.head = 0
        self.read = 0
        self.seen = 0
        self.state = Group.unwritten(name)
        self.log: list[Event] = []
        self.first = 1
        self.texts: dict[int, str] = {}
        self.deleted: set[int] = set()
        self.online: dict[str, str] = {}
        self.away: dict[str, str] = {}
        self.pending: list[PendingMessage] = [] if pending is None else pending
        self.asked_before = 0
        self._given = name
        self._recent = recent
        self._announced = 0
        self._snapshot = bytearray()
        self._snapshot_seq = 0

    @property
    def last(self) -> int:
        """The seq of the last event in `log`; while that is empty, of the one in front of it."""
        return self.first + len(self.log) - 1

    @property
    def caught_up(self) -> bool:
        """Whether every event that there was at the time of attaching is here."""
        return self.standing == "member" and self.last >= self.head

    @property
    def at_beginning(self) -> bool:
        """Whether there is nothing in front of `log` that the person may read."""
        return self.first <= max(self.state.floor, 1)

    # ------------------------------------------------------------------ what is asked for

    def attach(self, request_id: int) -> Attach:
        """Return the request for what this replica does not have yet."""
        if self.state.seq:
            return Attach(request_id, self.name, self.last)
        return Attach(request_id, self.name, 0, self._recent)

    def ask_past(self, request_id: int) -> HistoryRequest:
        """Return the request for the events in front of `log`; `asked_before` is where that was."""
        self.asked_before = self.first
        return HistoryRequest(request_id, self.name, self.first)

    # ------------------------------------------------------------------ what comes

    def attached(self, answer: Attached) -> bool:
        """Take the answer to an attach; return whether the log here is still of use."""
        first_time = self.standing != "member"
        self.came_as = self.came_as or answer.standing
        self.name = answer.group
        self.standing = answer.standing
        self.admin = answer.admin
        self.kicked = answer.kicked
        self.head = answer.seq
        self._announced = answer.first
        self._snapshot.clear()
        if first_time:
            self.read = answer.read
        if answer.seq >= self.state.seq or answer.standing != "member":
            return True
        self.forget()
        return False

    def take_snapshot(self, piece: Snapshot) -> None:
        """Take a piece of the group's state; with the last one the replica begins there.

        One that is here already, or was not asked for, is passed over. Raises `ProtocolError`.
        """
        if self.state.seq or self._recent is None:
            return
        if not self._snapshot:
            self._snapshot_seq = piece.seq
        self._snapshot += piece.data
        if piece.seq != self._snapshot_seq or len(self._snapshot) > SNAPSHOT_LIMIT:
            raise ProtocolError(Code.MALFORMED, "The pieces of a snapshot do not make one.")
        if not piece.more:
            self._begin(thaw(bytes(self._snapshot), piece.seq))
            self._snapshot.clear()

    def take(self, event: Event) -> bool:
        """Add the next event, and apply it; return False for one that is here already.

        Raises `GapError` when events are missing in front of it.
        """
        if event.seq <= self.last:
            return False
        if event.seq != self.last + 1:
            if not isinstance(event.body, Created) or event.seq <= self.state.seq:
                raise GapError
            self._empty(event.seq)  # another life of the group, and not for those of this one
        if event.seq > self.state.seq:
            apply(self.state, event)
        self.log.append(event)
        match event.body:
            case Edited(target, text) if target not in self.deleted:
                self.texts[target] = text
            case Deleted(target):
                self._erase({target}, len(self.log))
        return True

    def take_past(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Put the events in front of the log that come right before it; return what they are now.

        That may have changed since they were read from the server's disk.
        """
        self.log[:0] = events
        self.first -= len(events)
        targets = {event.body.target for event in events if isinstance(event.body, Deleted)}
        self._erase(self.deleted | targets, len(events))
        past = tuple(self.log[: len(events)])
        for event in reversed(past):
            if isinstance(event.body, Edited):
                self.texts.setdefault(event.body.target, event.body.text)
        return past

    def take_presence(self, news: PresenceUpdate) -> None:
        """Note who came online, is away, or went offline."""
        if news.reset:
            self.gone()
        for name in (*(member.name for member in news.online), *news.offline):
            self.online.pop(fold(name), None)
            self.away.pop(fold(name), None)
        for member in news.online:
            self.online[fold(member.name)] = member.name
            if member.away:
                self.away[fold(member.name)] = clean_line(member.away)

    def gone(self) -> None:
        """Know of nobody that they are online."""
        self.online, self.away = {}, {}

    def forget(self) -> None:
        """Begin again from nothing: the server's log is not the one that was followed."""
        self.state = Group.unwritten(self._given)
        self._empty(1)
        self.gone()

    def _begin(self, state: Group) -> None:
        """Begin with a state, and a log that is to come from where the server said."""
        first = self._announced or state.seq + 1
        if fold(state.name) != fold(self.name) or first > state.seq + 1:
            raise ProtocolError(Code.MALFORMED, "A snapshot is not of this group, or not of now.")
        self.state = state
        self._empty(first)

    def _empty(self, first: int) -> None:
        self.log, self.first = [], first
        self.texts, self.deleted = {}, set()

    def _erase(self, targets: set[int], end: int) -> None:
        """Let messages be nowhere among the first `end` events, as they were or as edited."""
        self.deleted |= targets
        for target in targets:
            self.texts.pop(target, None)
        # Neither a message nor its edits can stand in front of it.
        start = max(min(targets, default=self.last) - self.first, 0)
        for index in range(start, end):
            if _says(self.log[index]) in targets:
                self.log[index] = replace(self.log[index], body=Erased())


def _says(event: Event) -> int | None:
    """Return the seq of the message of which an event holds the text."""
    match event.body:
        case Posted():
            return event.seq
        case Edited(target):
            return target
    return None

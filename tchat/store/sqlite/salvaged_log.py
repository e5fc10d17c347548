"""Rebuild the log of a damaged group: sound segments stay, lost events leave placeholders.

A lost event leaves a `Missing` with the same seq, so the log has no gaps and no seq is used twice.
The state has to follow from the log alone, since clients and servers replay it. So it is not enough
to keep the state: what the lost events had changed is written again, in their place, as ordinary
events: members join, the topic is set, files are shared. Every change was an event, so there is
room for them; only what later events have undone in the meantime is added at the end.

What the state should be is taken from, in this order:

- the newest sound snapshot, and the sound events after it;
- without one, all sound events; changes of topics, bans and invites in the gap are then unknown;
- in both cases the table of standings, which says who is a member now, and that of the files.

If the admin is unknown, the longest-standing member becomes it.

A placeholder also has the number of a command that the snapshot knows as committed. So a client
that sends this command again is told that it was executed. Numbers that only lost events have had
are free: their messages are gone, and one that is sent again is the first of its kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from tchat.core.group.feature import Body, Event
from tchat.core.group.features import decode_event, encode_event
from tchat.core.group.files import FileRemoved, FileShared
from tchat.core.group.membership import (
    AdminTransferred,
    Banned,
    Created,
    Denied,
    Invited,
    Joined,
    Left,
    Requested,
    Unbanned,
)
from tchat.core.group.messages import Erased, Pinned, Unpinned
from tchat.core.group.operation import Expired, Missing
from tchat.core.group.rules import apply
from tchat.core.group.settings import PolicySet, TopicSet
from tchat.core.group.state import OPERATOR, File, Group, JoinRequest
from tchat.core.protocol.framing import split_frames
from tchat.core.text import fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tchat.core.protocol.frames import Standing

_EVENTS_PER_SEGMENT = 200
_ROUNDS = 3  # of repairs; the last ones are at the end of the log

Segment = tuple[int, int, bytes]
"""The first and the last event of a segment, and its frames."""

_Change = tuple[str, Body]
"""The actor and the body of an event that repairs the state."""


@dataclass(slots=True)
class Remains:
    """What is left of a group: its name (folded), its sound segments in order, its last seq.

    The segments are iterated over several times, one at a time: a log may not fit into memory.
    `state` is from the newest sound snapshot. `standings` maps people (folded) to their standing;
    if the table `is_complete`, others are outsiders. `people` maps everybody to display names and
    `keys` to their present keys. `shelf` are the group's files as far as the index has them.
    `now` is the time for events without neighbours.
    """

    name: str
    shown: str
    last: int
    segments: Iterable[Segment]
    state: Group | None = None
    standings: Mapping[str, Standing] = field(default_factory=dict)
    is_complete: bool = False
    people: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict)
    shelf: Sequence[File] = ()
    erase_to: int = 0
    expire_to: int = 0
    now: int = 0
    client: bytes = bytes(8)


@dataclass(slots=True)
class Rebuilt:
    """A log without gaps, the state that it leads to, and the ranges of seqs that were lost."""

    segments: Iterable[Segment]
    group: Group
    lost: list[tuple[int, int]]
    erase_to: int
    expire_to: int

    @property
    def count(self) -> int:
        """The number of events that were lost."""
        return sum(last - first + 1 for first, last in self.lost)


def rebuild(remains: Remains) -> Rebuilt:
    """Return the log of a group without gaps; a log that has none is as it was."""
    lost = _gaps(remains)
    log = _Log(remains, lost)
    if not lost:
        return log.result(log.fold())
    wanted = _wanted(remains, log.fold())
    log.admit(log.fold(), wanted)
    state = log.fold()
    for number in range(_ROUNDS):
        changes = list(_changes(state, wanted, remains))
        if not wanted.direct and log.expire_to < remains.expire_to > remains.erase_to:
            changes.append((OPERATOR, Expired(remains.expire_to)))
        if not changes:
            break
        log.add(changes, at_end=number > 0)
        state = log.fold()
    log.number_commands(state, wanted)
    return log.result(log.fold())


def _gaps(remains: Remains) -> list[tuple[int, int]]:
    gaps, expected = [], 1
    for first, last, _ in remains.segments:
        if first > expected:
            gaps.append((expected, first - 1))
        expected = last + 1
    if remains.last >= expected:
        gaps.append((expected, remains.last))
    return gaps


# ------------------------------------------------------------------ the log with its placeholders


class _Log:
    """The sound segments, and for each lost seq the event in its place.

    `expire_to` is what the last event of that kind said when the log was folded.
    """

    def __init__(self, remains: Remains, lost: list[tuple[int, int]]) -> None:
        self._remains = remains
        self._lost = lost
        self._changes: dict[int, _Change] = {}  # by seq
        self._appended: list[_Change] = []
        self._headers: dict[int, tuple[str, bytes, int]] = {}
        self._n = 0
        self.expire_to = 0

    def __iter__(self) -> Iterator[Segment]:
        return self._segments()

    def fold(self) -> Group:
        """Return the state that the log leads to."""
        group = Group.unwritten(self._remains.name)
        self.expire_to = 0
        for _, _, frames in self:
            for event in map(decode_event, split_frames(frames)):
                self._apply(group, event)
        return group

    def _apply(self, group: Group, event: Event) -> None:
        apply(group, event)
        if isinstance(event.body, Expired):
            self.expire_to = event.body.upto

    def result(self, group: Group) -> Rebuilt:
        """Return the segments and what belongs to them."""
        members, floor = group.members, group.floor
        erase_to = min(self._remains.erase_to, max(floor, 1) - 1 if members else group.seq)
        if members and not group.direct:
            erase_to = max(erase_to, floor - 1)
        expire_to = self.expire_to or min(self._remains.expire_to, erase_to)
        return Rebuilt(self, group, self._lost, erase_to, expire_to)

    def admit(self, state: Group, wanted: Group) -> None:
        """Let the missing members join in the first gap, so that no later leave closes the group.

        If the founding was lost as well, found the group there.
        """
        if wanted.direct or not wanted.members:
            return
        founded = self._founded_at()
        names = [wanted.members[one] for one in wanted.members if one not in state.members]
        bodies: list[_Change] = []
        if not founded:
            founder, *names = _founder_first(wanted)
            bodies.append((founder, Created(_key_of(wanted, self._remains, founder))))
        bodies += ((name, Joined(key=_key_of(wanted, self._remains, name))) for name in names)
        free = (seq for seq in list(self._free()) if seq > founded)
        self._changes.update(zip(free, bodies, strict=False))

    def _founded_at(self) -> int:
        """Return the sound event that founded the group, as it is now; 0 if that was lost."""
        founded = 0
        for event in sound_events(self._remains):
            if isinstance(event.body, Created) and event.seq > self._remains.erase_to:
                founded = event.seq
        return founded

    def add(self, changes: Iterable[_Change], *, at_end: bool) -> None:
        """Put changes in the place of the last lost events, or behind all events."""
        changes = list(changes)
        free = [] if at_end else list(self._free())[-len(changes) :]
        self._changes.update(zip(free, changes, strict=False))
        self._appended += changes[len(free) :]

    def number_commands(self, state: Group, wanted: Group) -> None:
        """Give the placeholders the numbers of commands that are known to be committed."""
        numbers = _lost_numbers(state, wanted, self._remains)
        self._headers.update(zip(self._free(), numbers, strict=False))

    def _free(self) -> Iterator[int]:
        """Yield the lost seqs that nothing has the place of; those of erased events stay erased."""
        for first, last in self._lost:
            start = max(first, self._remains.erase_to + 1)
            yield from (seq for seq in range(start, last + 1) if seq not in self._changes)

    def _segments(self) -> Iterator[Segment]:
        """Yield the segments; the events of gaps have the time of the event before them."""
        self._n = 0
        gaps = dict(self._lost)
        at, expected = self._first_time(), 1
        for segment in chain(self._remains.segments, [None]):
            if expected in gaps:
                yield from self._pack(expected, gaps[expected], at)
            if segment is None:
                break
            yield segment
            *_, last_body = split_frames(segment[2])
            at, expected = decode_event(last_body).at, segment[1] + 1
        end = self._remains.last
        for seq, change in enumerate(self._appended, start=end + 1):
            yield (seq, seq, encode_event(self._event(seq, at, change)))

    def _first_time(self) -> int:
        """Return the time of what was lost before the first sound event."""
        first = next(iter(self._remains.segments), None)
        if first is None:
            return self._remains.state.at if self._remains.state else self._remains.now
        return decode_event(next(iter(split_frames(first[2])))).at

    def _pack(self, first: int, last: int, at: int) -> Iterator[Segment]:
        count = sum(map(self._is_placeholder, range(first, last + 1)))
        told = False
        for start in range(first, last + 1, _EVENTS_PER_SEGMENT):
            end = min(start + _EVENTS_PER_SEGMENT - 1, last)
            frames = []
            for seq in range(start, end + 1):
                is_first = not told and self._is_placeholder(seq)
                told = told or is_first
                frames.append(encode_event(self._at(seq, at, count if is_first else None)))
            yield (start, end, b"".join(frames))

    def _is_placeholder(self, seq: int) -> bool:
        return seq not in self._changes and seq > self._remains.erase_to

    def _at(self, seq: int, at: int, count: int | None) -> Event:
        """Return the event in the place of a lost one."""
        if seq in self._changes:
            return self._event(seq, at, self._changes[seq])
        actor, client, n = self._headers.get(seq, (OPERATOR, self._remains.client, 0))
        body = Missing(count) if seq > self._remains.erase_to else Erased()
        return Event(self._remains.shown, seq, at, actor, client, n, body)

    def _event(self, seq: int, at: int, change: _Change) -> Event:
        self._n += 1
        actor, body = change
        return Event(self._remains.shown, seq, at, actor, self._remains.client, self._n, body)


def _founder_first(wanted: Group) -> list[str]:
    """Return the display names of all members, the admin first."""
    people = sorted(wanted.members, key=lambda person: person != wanted.admin)
    return [wanted.members[person] for person in people]


def _key_of(wanted: Group, remains: Remains, name: str) -> bytes | None:
    keys = wanted.keys_by_person.get(fold(name))
    return keys[-1] if keys else remains.keys.get(fold(name))


def _lost_numbers(
    state: Group, wanted: Group, remains: Remains
) -> Iterator[tuple[str, bytes, int]]:
    """Yield names, client ids and numbers that a state lacks, the highest of each client first."""
    for (person, client), (highest, done) in wanted.counts.items():
        name = remains.people.get(person, wanted.members.get(person, person))
        known, known_done = state.counts.get((person, client), (0, 0))
        for below in range(done.bit_length()):
            n = highest - below
            is_known = n <= known and bool(known_done >> (known - n) & 1)
            if done >> below & 1 and not is_known:
                yield name, client, n


# ------------------------------------------------------------------ the state


def sound_events(remains: Remains) -> Iterator[Event]:
    """Yield the events that are not lost."""
    for _, _, frames in remains.segments:
        yield from map(decode_event, split_frames(frames))


def _wanted(remains: Remains, folded: Group) -> Group:
    """Return the state that the group should have; `folded` is that without the lost events."""
    group = folded
    if remains.state is not None:
        group = remains.state.copy()
        for event in sound_events(remains):
            if event.seq > group.seq:
                apply(group, event)
    if not group.direct:
        _set_people(group, remains)
        if group.members:
            for file in remains.shelf:
                group.files.setdefault(file.number, file)
    return group


def _set_people(group: Group, remains: Remains) -> None:
    """Make those members, and those wait, who do so by the table of standings."""
    for person, standing in remains.standings.items():
        name = remains.people.get(person, person)
        if standing == "member":
            group.members.setdefault(person, name)
            group.requests.pop(person, None)
        else:
            group.requests.setdefault(person, JoinRequest(name, remains.keys.get(person)))
    # A group that was closed has its earlier events erased: it is not taken for one by mistake.
    if remains.is_complete and "member" in remains.standings.values():
        for person in [one for one in group.members if remains.standings.get(one) != "member"]:
            del group.members[person]
        for person in [one for one in group.requests if remains.standings.get(one) != "waiting"]:
            del group.requests[person]
    if group.admin not in group.members:
        group.admin = next(iter(group.members), None)


def _changes(state: Group, wanted: Group, remains: Remains) -> Iterator[_Change]:
    """Yield the events that lead from one state to another, as far as events can."""
    if wanted.direct or not wanted.members:
        return
    yield from _changes_of_people(state, wanted, remains)
    if state.topic != wanted.topic:
        yield OPERATOR, TopicSet(wanted.topic)
    if state.policy != wanted.policy:
        yield OPERATOR, PolicySet(wanted.policy)
    if state.pinned != wanted.pinned:
        yield OPERATOR, Unpinned() if wanted.pinned is None else Pinned(wanted.pinned)
    yield from _changes_of_files(state, wanted)
    for digest, invitation in wanted.invites.items():
        if digest not in state.invites and invitation.by in wanted.members:
            by = wanted.members[invitation.by]
            yield by, Invited(digest, invitation.expires, invitation.name)


def _changes_of_files(state: Group, wanted: Group) -> Iterator[_Change]:
    for number, file in wanted.files.items():
        if number not in state.files:
            yield file.by, FileShared(number, file.name, file.size, file.sha256)
    for number in state.files:
        if number not in wanted.files:
            yield OPERATOR, FileRemoved(number)


def _changes_of_people(state: Group, wanted: Group, remains: Remains) -> Iterator[_Change]:
    bans, others = wanted.banned.items(), state.banned.items()
    yield from ((OPERATOR, Banned(name)) for person, name in bans if person not in state.banned)
    yield from ((OPERATOR, Unbanned(name)) for one, name in others if one not in wanted.banned)
    for person, name in wanted.members.items():
        if person not in state.members:
            yield name, Joined(key=_key_of(wanted, remains, name))
    if wanted.admin != state.admin and wanted.admin is not None:
        yield OPERATOR, AdminTransferred(wanted.members[wanted.admin])
    for person, name in state.members.items():
        if person not in wanted.members:
            yield name, Left()
    yield from _changes_of_requests(state, wanted)


def _changes_of_requests(state: Group, wanted: Group) -> Iterator[_Change]:
    for person, request in wanted.requests.items():
        if person not in state.requests:
            yield request.name, Requested(request.key)
    for person, request in state.requests.items():
        if person not in wanted.requests and person not in wanted.members:
            yield OPERATOR, Denied(request.name)

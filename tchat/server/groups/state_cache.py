"""A group's state, kept beside its log, so that to wake a group is not to read all of its log.

What was kept is a shortcut and never more: the log is the truth. A state that was made by other
rules, or is damaged, is passed over, and one that is older than the log, as after a crash, has the
events behind it applied to it. Either way it comes to the same.

To keep a state costs time when it is made and when it is thawed, both by how much is in it; not
to keep it costs time by how many events have come since, because these are folded at the next
waking. To fold an event takes about as long as to keep `_THINGS` things of a state, so nobody
gains by keeping one for a tail that is shorter than that. A group that goes to rest keeps its state
when the tail is a little longer; a busy one now and then, so that after a crash the next waking
takes some hundredths of a second more. Its turns do not wait for the disk then: what is kept was
frozen between two of them, and is written beside the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.events import decode_event
from tchat.core.group.snapshots import MADE_WITH, PIECE_LIMIT, freeze, freeze_whole, thaw_whole
from tchat.core.group.state import Group
from tchat.core.protocol.frames import Snapshot, encode_all
from tchat.core.protocol.framing import split_frames
from tchat.errors import ProtocolError
from tchat.store.base import StateSnapshot, StorageFull

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trio

    from tchat.store.base import Store

AT_REST = 64
"""Shortest tail for which a group that goes to rest keeps its state, in events."""

UNDER_WAY = 4096
"""The same for a group at work."""

_THINGS = 8


class StateCache:
    """Loads the state of the group that is folded to `key`, and keeps it when that is worth it."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self._kept = 0

    async def load(self) -> tuple[Group, dict[str, int]]:
        """Return the state that the log leads to, and the last event that each person has seen."""
        stored = await self._store.load(self._key)
        group, page = _thawed(stored.snapshot), stored.page
        if group is None:
            group = Group.unwritten(self._key)
            if stored.snapshot is not None:
                page = await self._store.read(self._key, 0)
        self._kept = group.seq
        while page is not None:
            for body in split_frames(page.frames):
                group.apply(decode_event(body))
            page = await self._store.read(self._key, page.last)
        return group, stored.cursors

    def keep_beside(self, group: Group, nursery: trio.Nursery) -> None:
        """Keep the state of a group at work, if it is time to; a task of its own writes it."""
        if self._is_worth_it(group, UNDER_WAY):
            nursery.start_soon(self._write, self._freeze(group))

    async def keep(self, group: Group) -> None:
        """Keep the state of a group that goes to rest, if it is worth it."""
        if self._is_worth_it(group, AT_REST):
            await self._write(self._freeze(group))

    def _is_worth_it(self, group: Group, fewest: int) -> bool:
        return group.seq - self._kept >= fewest + _things_in(group) // _THINGS

    def _freeze(self, group: Group) -> StateSnapshot:
        self._kept = group.seq
        return StateSnapshot(group.seq, MADE_WITH, freeze_whole(group))

    async def _write(self, kept: StateSnapshot) -> None:
        try:
            await self._store.save_snapshot(self._key, kept)
        except StorageFull:
            return  # nothing is lost by it but time, at the next waking


def snapshot_of(group: Group) -> bytes:
    """Return a group's state as packed frames."""
    return encode_all(_pieces(group, freeze(group)))


def _pieces(group: Group, data: bytes) -> Iterator[Snapshot]:
    for start in range(0, len(data), PIECE_LIMIT):
        end = start + PIECE_LIMIT
        yield Snapshot(group.name, group.seq, data[start:end], end < len(data))


def _thawed(kept: StateSnapshot | None) -> Group | None:
    """Return the state that was kept, if it is one that the log leads to by today's rules."""
    if kept is None or kept.made_with != MADE_WITH:
        return None
    try:
        return thaw_whole(kept.data, kept.seq)
    except ProtocolError:
        return None


def _things_in(group: Group) -> int:
    people = len(group.members) + len(group.requests) + len(group.kicked) + len(group.banned)
    things = len(group.files) + len(group.edits) + len(group.invites) + len(group.keys)
    return people + things + len(group.counts)

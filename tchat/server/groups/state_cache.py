"""Save and load a group's snapshot, so that activating a group replays only new events.

A snapshot is only a cache; the log is authoritative. A snapshot that is damaged, or was made by
another version of the rules, is ignored. If it is older than the log, as after a crash, the later
events are applied to it. The resulting state is always the same.

When to save: saving a snapshot takes time in proportion to the size of the state; replaying takes
time in proportion to the tail, the events since the last snapshot. Replaying one event takes about
as long as saving `_ENTRIES_PER_EVENT` entries of the state, so a snapshot pays off only after a
long enough tail. An idle group saves its state after a tail of at least `IDLE_TAIL` events. A busy
group saves its state rarely, so activating it after a crash takes some hundredths of a second
longer. Saving does not stop a busy group: the state is encoded and written while the next batches
are processed. A large state is encoded and decoded in a thread, because it takes up to half a
second; the committed state never changes, since batches are applied to copies.

A state that is sent to clients is encoded once for all who ask for it at the same time. A reader
takes as long as it likes, while the state changes and others get newer ones. So an encoded state of
more than `IN_MEMORY` bytes is in an unnamed file, and is read from there slice by slice: what a
connection holds does not depend on the size of the groups that it follows.
"""

from __future__ import annotations

import os
import secrets
import weakref
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.core.group.features import decode_event
from tchat.core.group.log_digest import EMPTY, IDENTITY_SIZE
from tchat.core.group.rules import apply
from tchat.core.group.snapshots import (
    MADE_WITH,
    PIECE_LIMIT,
    freeze,
    freeze_whole,
    thaw_whole,
)
from tchat.core.group.state import Group
from tchat.core.protocol.frames import Snapshot, encode
from tchat.core.protocol.framing import split_frames
from tchat.errors import Code, ProtocolError, Refused
from tchat.store.base import DataDamaged, LogDamaged, LogHead, StateSnapshot, StorageFull
from tchat.store.computing import compute

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

    from tchat.store.base import Blobs, Page, Store

IDLE_TAIL = 64
"""Shortest tail of the log, in events, after which an idle group saves a snapshot."""

BUSY_TAIL = 4096
"""Shortest tail of the log after which a busy group saves a snapshot."""

_ENTRIES_PER_EVENT = 8

LARGE_ENTRIES = 5000
"""States with so many entries are encoded in a thread, since it takes longer than about 10 ms."""

IN_MEMORY = 512 * 1024
"""Encoded states of more bytes are kept in files while they are sent."""

LARGE_BYTES = 512 * 1024
"""Stored snapshots of this size are decoded in a thread."""


class StateCache:
    """Loads and saves the state of the group with the folded name `key`."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self._saved_seq = 0

    async def load(self) -> tuple[Group, dict[str, int], LogHead]:
        """Return the current state, the read position (seq) of each person, and the log's head.

        A group that is not founded yet has the identity that its log will get. Raises `DataDamaged`
        if the log after the snapshot, or all of it, cannot be read.
        """
        stored = await self._store.load(self._key)
        group, page = await _restored(stored.snapshot), stored.page
        if group is None:
            group = Group.unwritten(self._key)
            if stored.snapshot is not None:  # `page` begins after the unusable snapshot
                page = await self._store.read(self._key, 0)
        self._saved_seq = group.seq
        while page is not None:
            self._replay(group, page)
            page = await self._store.read(self._key, page.last)
        head = stored.head if group.seq else LogHead(secrets.token_bytes(IDENTITY_SIZE), EMPTY)
        return group, stored.cursors, head

    def _replay(self, group: Group, page: Page) -> None:
        """Apply the events of a page. Raises `LogDamaged` if it has others than it should."""
        try:
            for body in split_frames(page.frames):
                apply(group, decode_event(body))
        except ProtocolError as error:
            damaged = LogDamaged(self._key, page.first, page.last, error.sentence)
            self._store.damage.report(damaged)
            raise damaged from error

    def save_in_background(self, group: Group, nursery: trio.Nursery) -> None:
        """Save the state of a busy group in a task of its own, if the tail is long enough."""
        if self._is_worth_saving(group, BUSY_TAIL):
            nursery.start_soon(self._save, group)

    async def save(self, group: Group) -> None:
        """Save the state of an idle group, if the tail is long enough."""
        if self._is_worth_saving(group, IDLE_TAIL):
            await self._save(group)

    def _is_worth_saving(self, group: Group, shortest_tail: int) -> bool:
        tail = group.seq - self._saved_seq
        # Counting the entries takes time, so the common case is decided without it.
        if tail >= shortest_tail and (
            tail >= shortest_tail + group.count_entries() // _ENTRIES_PER_EVENT
        ):
            self._saved_seq = group.seq
            return True
        return False

    async def _save(self, group: Group) -> None:
        data = await _encoded(group, freeze_whole)
        try:
            await self._store.save_snapshot(self._key, StateSnapshot(group.seq, MADE_WITH, data))
        except (StorageFull, DataDamaged):
            return  # the next activation only has to replay more events


class EncodedState:
    """The state of a group as of event `seq`, encoded in `size` bytes, to be sent to clients."""

    def __init__(self, group: Group, data: bytes, file: FileIO | None) -> None:
        self.seq = group.seq
        self.size = len(data)
        self._name = group.name
        self._file = file
        self._frames: list[bytes] = []
        if file is None:
            self._frames = [self._frame(start, data[start:end]) for start, end in self._slices()]
        else:
            weakref.finalize(self, file.close)

    @property
    def count(self) -> int:
        """The number of `Snapshot` frames."""
        return len(self._slices())

    async def frame(self, number: int) -> bytes:
        """Return an encoded `Snapshot` frame, from 0 on."""
        if self._file is None:
            return self._frames[number]
        start, end = self._slices()[number]
        descriptor = self._file.fileno()
        data = await trio.to_thread.run_sync(os.pread, descriptor, end - start, start)
        return self._frame(start, data)

    def _slices(self) -> list[tuple[int, int]]:
        starts = range(0, self.size, PIECE_LIMIT)
        return [(start, min(start + PIECE_LIMIT, self.size)) for start in starts]

    def _frame(self, start: int, data: bytes) -> bytes:
        return encode(Snapshot(self._name, self.seq, data, start + len(data) < self.size))


async def encode_state(group: Group, blobs: Blobs) -> EncodedState:
    """Return the state of a group, encoded for clients."""
    data = await _encoded(group, freeze)
    file = None
    if len(data) > IN_MEMORY:
        file = await trio.to_thread.run_sync(blobs.write_unnamed, data)
    return EncodedState(group, data, file)


def too_large_refusal(group: Group) -> Refused:
    """Return the refusal for a state that no client would accept.

    That is possible only for a group that an earlier version let grow so large.
    """
    return Refused(
        Code.GROUP_TOO_LARGE,
        f"{group.name} has more members, bans and files than a client accepts; its admin can"
        " remove some on a device that follows it already.",
    )


def is_large(group: Group) -> bool:
    """Return whether a state takes so long to encode that a thread does it."""
    return group.count_entries() >= LARGE_ENTRIES


async def _encoded(group: Group, freeze: Callable[[Group], bytes]) -> bytes:
    return await compute(partial(freeze, group)) if is_large(group) else freeze(group)


async def _restored(snapshot: StateSnapshot | None) -> Group | None:
    """Return the state in a snapshot; None if it is damaged or made by another version."""
    if snapshot is None or snapshot.made_with != MADE_WITH:
        return None
    try:
        if len(snapshot.data) < LARGE_BYTES:
            return thaw_whole(snapshot.data, snapshot.seq)
        return await compute(partial(thaw_whole, snapshot.data, snapshot.seq))
    except ProtocolError:
        return None

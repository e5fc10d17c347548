"""Erase closed groups and expired messages, in place, with their words in the search index.

When a group is closed, the same transaction marks its events and deletes its snapshot and read
cursors. The events are erased afterwards in the background (see `erasing`), one segment at a time
in short transactions, so that no message waits for the erasure of a long log. The next start
finishes an erasure that a crash interrupted. Nobody can read the events meanwhile: the group has no
members, and if it is founded anew, its earlier events are not sent to anybody.

Messages that have expired are marked and erased in the same way; the other events of their group
stay.

The rows are kept, because deleting them would make the B-tree move rows of other groups (see
`log`).
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from tchat.core.group.features import decode_event
from tchat.core.group.messages import Edited, Posted
from tchat.store.base import DataDamaged
from tchat.store.sqlite.damage import SegmentDamaged, damage_in
from tchat.store.sqlite.database import SLICE_SECONDS, postponed_if_full
from tchat.store.sqlite.log import erase, segment_of
from tchat.store.sqlite.search import finish_merge, remove_messages

if TYPE_CHECKING:
    import sqlite3

    from tchat.store.base import DamageReports, Page
    from tchat.store.sqlite.database import Database

_COLUMNS = "SELECT id, erased, erase_to, expired, expire_to FROM groups WHERE"
_TO_ERASE = f"{_COLUMNS} erased < erase_to"
_TO_EXPIRE = f"{_COLUMNS} expired < expire_to"


class Erasing:
    """The erasures that are left to do. Groups whose log is damaged are passed over.

    They are so until the next start, which tries again: what is damaged cannot be told apart.
    """

    def __init__(self) -> None:
        self._passed_over: set[int] = set()
        self._current = 0

    async def run(self, database: Database) -> None:
        """Erase the events of closed groups, and expired messages, in short transactions.

        Raises `StorageFull`; what is left is erased by the next call, or at the next start.
        """
        done = False
        while not done:
            try:
                await database.write_in_slices(self.step)
                done = True
            except DataDamaged:
                self.pass_over()

    def pass_over(self) -> None:
        """Leave out the group at which the last step failed. Raises `DataDamaged` if at none."""
        if self._current in self._passed_over or not self._current:
            raise DataDamaged("the list of groups cannot be read", "what has to be erased")
        self._passed_over.add(self._current)

    def is_needed(self, connection: sqlite3.Connection) -> bool:
        """Return whether a closed group, or expired messages, are not erased yet."""
        return self._next(connection) is not None

    def step(self, connection: sqlite3.Connection) -> bool:
        """Erase some segments; return whether nothing is left."""
        deadline = monotonic() + SLICE_SECONDS
        while True:
            self._current = 0
            row = self._next(connection)
            if row is None:
                return True
            self._current, erased, erase_to, expired, expire_to = row
            if erased < erase_to:
                _erase_segment(connection, self._current, erased, erase_to)
            else:
                _expire_segment(connection, self._current, expired, expire_to)
            if monotonic() > deadline:
                return False

    def _next(self, connection: sqlite3.Connection) -> tuple[int, int, int, int, int] | None:
        for sql in (_TO_ERASE, _TO_EXPIRE):
            for row in connection.execute(sql):
                if row[0] not in self._passed_over:
                    found: tuple[int, int, int, int, int] = row
                    return found
        return None


def finish_erasing(connection: sqlite3.Connection, damage: DamageReports) -> None:
    """Finish erasures of closed groups that were interrupted, before the database is used.

    On a full disk, they are left to the background (see `erasing`).
    """
    erasing, done = Erasing(), False
    with postponed_if_full(connection):
        while not done:
            connection.execute("BEGIN IMMEDIATE")
            try:
                done = erasing.step(connection)
                connection.execute("COMMIT")
            except Exception as error:
                connection.rollback()
                damaged = damage_in(error, None)
                if damaged is None:
                    raise
                erasing.pass_over()
                damage.report(DataDamaged(damaged.reason, "what has to be erased"))
    finish_merge(connection)


def _segment(connection: sqlite3.Connection, number: int, seq: int) -> Page:
    page = segment_of(connection, number, seq)
    if page is None:
        raise SegmentDamaged(seq, seq, "they are missing")
    return page


def _expire_segment(connection: sqlite3.Connection, number: int, expired: int, upto: int) -> None:
    """Erase the messages in the segment after event `expired`, at most up to `upto`."""
    page = _segment(connection, number, expired + 1).after(expired)
    seqs = [
        seq
        for seq, body in page.bodies().items()
        if seq <= upto and isinstance(decode_event(body).body, Posted | Edited)
    ]
    remove_messages(connection, number, seqs)  # first: it needs the texts
    erase(connection, number, seqs)
    connection.execute("UPDATE groups SET expired = ? WHERE id = ?", (min(page.last, upto), number))


def _erase_segment(connection: sqlite3.Connection, number: int, erased: int, upto: int) -> None:
    """Erase the segment after event `erased`, at most up to `upto`."""
    last = _segment(connection, number, erased + 1).last
    seqs = range(erased + 1, min(last, upto) + 1)
    remove_messages(connection, number, seqs)  # first: it needs the texts
    erase(connection, number, seqs)
    connection.execute("UPDATE groups SET erased = ? WHERE id = ?", (seqs[-1], number))

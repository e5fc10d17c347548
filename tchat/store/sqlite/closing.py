"""Erase closed groups and expired messages, in place, with their words in the search index.

When a group is closed, the same transaction marks its events and deletes its snapshot and read
cursors. The events are erased afterwards, one segment at a time in short transactions, so that the
messages of other groups need not wait for the erasure of a long log. The next start finishes an
erasure that a crash interrupted. Nobody can read the events meanwhile: the group has no members,
and if it is founded anew, its earlier events are not sent to anybody.

Messages that have expired are marked and erased in the same way; the other events of their group
stay.

The rows are kept, because deleting them would make the B-tree move rows of other groups (see
`log`).
"""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from tchat.core.group.features import decode_event
from tchat.core.group.messages import Edited, Posted
from tchat.store.base import StorageFull
from tchat.store.sqlite.log import erase, segments_from
from tchat.store.sqlite.search import SLICE_SECONDS, prepare_search, remove_messages

if TYPE_CHECKING:
    import sqlite3

    from tchat.store.sqlite.database import Database
    from tchat.store.sqlite.search import SearchIndex


async def erase_closed(database: Database, index: SearchIndex) -> None:
    """Erase the events of closed groups from the disk.

    If the disk is full, what is left is erased with the next closed group, or at the next start.
    """
    done = must_purge = False
    with suppress(StorageFull):
        while not done:
            done, removed = await database.write(_erase_some)
            must_purge |= removed
    with suppress(StorageFull):
        if must_purge:
            await index.purge()
    await database.scrub()


def finish_erasing(connection: sqlite3.Connection) -> None:
    """Finish erasures of closed groups that were interrupted, before the database is used."""
    done = must_purge = False
    while not done:
        connection.execute("BEGIN IMMEDIATE")
        done, removed = _erase_some(connection)
        connection.execute("COMMIT")
        must_purge |= removed
    if must_purge:
        prepare_search(connection)


def _erase_some(connection: sqlite3.Connection) -> tuple[bool, bool]:
    """Erase some segments; return whether nothing is left, and whether the index needs a purge."""
    deadline, must_purge = monotonic() + SLICE_SECONDS, False
    while True:
        row = connection.execute(
            "SELECT id, erased, erase_to FROM groups WHERE erased < erase_to LIMIT 1"
        ).fetchone()
        if row is not None:
            must_purge |= _erase_segment(connection, *row)
        else:
            row = connection.execute(
                "SELECT id, expired, expire_to FROM groups WHERE expired < expire_to LIMIT 1"
            ).fetchone()
            if row is None:
                return True, must_purge
            must_purge |= _expire_segment(connection, *row)
        if monotonic() > deadline:
            return False, must_purge


def _expire_segment(connection: sqlite3.Connection, number: int, expired: int, upto: int) -> bool:
    """Erase the messages in the segment after event `expired`, at most up to `upto`."""
    page = next(segments_from(connection, number, expired + 1)).after(expired)
    seqs = [
        seq
        for seq, body in page.bodies().items()
        if seq <= upto and isinstance(decode_event(body).body, Posted | Edited)
    ]
    must_purge = remove_messages(connection, number, seqs)  # first: it needs the texts
    erase(connection, number, seqs)
    connection.execute("UPDATE groups SET expired = ? WHERE id = ?", (min(page.last, upto), number))
    return must_purge


def _erase_segment(connection: sqlite3.Connection, number: int, erased: int, upto: int) -> bool:
    """Erase the segment after event `erased`, at most up to `upto`."""
    last = next(segments_from(connection, number, erased + 1)).last
    seqs = range(erased + 1, min(last, upto) + 1)
    must_purge = remove_messages(connection, number, seqs)  # first: it needs the texts
    erase(connection, number, seqs)
    connection.execute("UPDATE groups SET erased = ? WHERE id = ?", (seqs[-1], number))
    return must_purge

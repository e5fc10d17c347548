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
from tchat.store.sqlite.database import SLICE_SECONDS
from tchat.store.sqlite.log import erase, segments_from
from tchat.store.sqlite.search import prepare_search, remove_messages

if TYPE_CHECKING:
    import sqlite3

    from tchat.store.sqlite.database import Database


async def erase_closed(database: Database) -> None:
    """Erase the events of closed groups, and expired messages, in short transactions.

    Raises `StorageFull`; what is left is erased by the next call, or at the next start.
    """
    await database.write_in_slices(_erase_some)


def needs_erasing(connection: sqlite3.Connection) -> bool:
    """Return whether a closed group, or expired messages, are not erased yet."""
    sql = "SELECT EXISTS (SELECT 1 FROM groups WHERE erased < erase_to OR expired < expire_to)"
    return bool(connection.execute(sql).fetchone()[0])


def finish_erasing(connection: sqlite3.Connection) -> None:
    """Finish erasures of closed groups that were interrupted, before the database is used."""
    done = False
    while not done:
        connection.execute("BEGIN IMMEDIATE")
        done = _erase_some(connection)
        connection.execute("COMMIT")
    prepare_search(connection)


def _erase_some(connection: sqlite3.Connection) -> bool:
    """Erase some segments; return whether nothing is left."""
    deadline = monotonic() + SLICE_SECONDS
    while True:
        row = connection.execute(
            "SELECT id, erased, erase_to FROM groups WHERE erased < erase_to LIMIT 1"
        ).fetchone()
        if row is not None:
            _erase_segment(connection, *row)
        else:
            row = connection.execute(
                "SELECT id, expired, expire_to FROM groups WHERE expired < expire_to LIMIT 1"
            ).fetchone()
            if row is None:
                return True
            _expire_segment(connection, *row)
        if monotonic() > deadline:
            return False


def _expire_segment(connection: sqlite3.Connection, number: int, expired: int, upto: int) -> None:
    """Erase the messages in the segment after event `expired`, at most up to `upto`."""
    page = next(segments_from(connection, number, expired + 1)).after(expired)
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
    last = next(segments_from(connection, number, erased + 1)).last
    seqs = range(erased + 1, min(last, upto) + 1)
    remove_messages(connection, number, seqs)  # first: it needs the texts
    erase(connection, number, seqs)
    connection.execute("UPDATE groups SET erased = ? WHERE id = ?", (seqs[-1], number))

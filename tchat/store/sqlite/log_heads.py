"""Identities and running digests of the logs in SQLite (see `core.group.log_digest`).

A segment is stored with the digest after its last event. Within a segment, the digest is computed
from that of the segment before and the events in between. What is stored stays right when texts are
erased, and has the same length always, so that no row moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.features import decode_event
from tchat.core.group.log_digest import EMPTY, UNKNOWN, extend
from tchat.core.protocol.framing import split_frames
from tchat.errors import ProtocolError
from tchat.store.base import UNFOUNDED, LogHead
from tchat.store.sqlite.damage import SegmentDamaged
from tchat.store.sqlite.log import find_group, segments_from

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

RENEW_IDENTITIES = "UPDATE groups SET identity = randomblob(16)"


def find_head(connection: sqlite3.Connection, group: str) -> LogHead:
    """Return the head of a group's log. Raises `SegmentDamaged` if its last segment is missing.

    Without that check, a group whose state is known from a snapshot would begin a log anew.
    """
    row = connection.execute(
        "SELECT identity, digest, groups.last FROM groups LEFT JOIN segments"
        " ON group_id = id AND segments.last = groups.last WHERE name = ?",
        (group,),
    ).fetchone()
    if row is None:
        return UNFOUNDED
    identity, digest, last = row
    if digest is None:
        raise SegmentDamaged(last, last, "they are missing")
    return LogHead(identity, digest)


def digests_at(
    connection: sqlite3.Connection, group: str, seqs: Collection[int]
) -> dict[int, bytes]:
    """Return the known digests after these events."""
    number, _ = find_group(connection, group)
    found = {seq: _digest_at(connection, number, seq) for seq in seqs}
    return {seq: digest for seq, digest in found.items() if digest != UNKNOWN}


def _digest_at(connection: sqlite3.Connection, group: int | None, seq: int) -> bytes:
    if seq == 0:
        return EMPTY
    if digest := _stored_digest(connection, group, seq):
        return digest
    page = next(segments_from(connection, group, seq), None)
    if page is None or not page.first <= seq < page.last:
        return UNKNOWN
    before = EMPTY if page.first == 1 else _stored_digest(connection, group, page.first - 1)
    bodies = page.bodies()
    return _extended(before, [bodies[one] for one in range(page.first, seq + 1)])


def _extended(digest: bytes, bodies: list[bytes]) -> bytes:
    """Return the digest after the next events; unknown if they are damaged."""
    try:
        return extend(digest, map(decode_event, bodies))
    except ProtocolError:
        return UNKNOWN


def _stored_digest(connection: sqlite3.Connection, group: int | None, last: int) -> bytes:
    """Return the digest after the last event of a segment; `UNKNOWN` if no segment ends there."""
    sql = "SELECT digest FROM segments WHERE group_id = ? AND last = ?"
    row = connection.execute(sql, (group, last)).fetchone()
    return row[0] if row else UNKNOWN


def fill_digests(connection: sqlite3.Connection) -> None:
    """Copy the table `segments` to `chained`, with the digests of all logs; replace it by that."""
    digests: dict[int, bytes] = {}
    rows = connection.execute(
        "SELECT group_id, last, first, frames, crc FROM segments ORDER BY rowid"
    )
    for group, last, first, frames, crc in rows:
        digests[group] = _extended(digests.get(group, EMPTY), list(split_frames(frames)))
        values = (group, last, first, frames, crc, digests[group])
        connection.execute("INSERT INTO chained VALUES (?, ?, ?, ?, ?, ?)", values)
    connection.execute("DROP TABLE segments")
    connection.execute("ALTER TABLE chained RENAME TO segments")

"""The event log in SQLite, stored as segments of packed frames; texts are erased in place.

A segment holds the events that one commit added to one group, as packed frames. Sockets get the
same bytes, so reading a log only copies them.

Rows are only added at the end of the table, and erasing makes an event shorter, so an updated row
stays in its place. That matters because a B-tree that moves rows may leave copies of them in the
unused parts of its pages, which `secure_delete` does not overwrite.

Each segment has a checksum, which is compared whenever the segment is read, so that a byte that has
changed on the disk is never taken for what was said: `SegmentDamaged` is raised instead, also for a
segment that is missing. It is a CRC-32, which finds every single changed byte and costs nothing
beside the commit; it is no protection from somebody who changes the file on purpose.

If the end of the table is damaged, no row can be added there, and no group could go on. Then new
rows go to its front, until the database is salvaged. That costs the secure deletion above: rows at
the front may move.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import TYPE_CHECKING

from tchat.core.group.feature import Event
from tchat.core.group.features import decode_event, encode_event
from tchat.core.group.messages import Deleted, Edited
from tchat.core.protocol.framing import PREFIX
from tchat.store.base import BACK_LIMIT, PAGE_LIMIT, Page
from tchat.store.sqlite.damage import SegmentDamaged, is_damage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_SELECT_FROM = (
    "SELECT first, last, frames, crc FROM segments WHERE group_id = ? AND last >= ?"
    " ORDER BY last LIMIT"
)

_INSERT = (
    "INSERT INTO segments (group_id, first, last, frames, crc, digest) VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT_AT_FRONT = (
    "INSERT INTO segments (rowid, group_id, first, last, frames, crc, digest)"
    " VALUES ((SELECT min(rowid) - 1 FROM segments), ?, ?, ?, ?, ?, ?)"
)

_EVENTS_PER_PART = 5000
"""How much of a log is searched at a time, so that other reads wait for milliseconds only."""


def checksum(group: int, first: int, last: int, frames: bytes) -> bytes:
    """Return the checksum of a segment: 4 bytes, so that an erased row is never longer."""
    return zlib.crc32(frames, zlib.crc32(b"%d %d %d" % (group, first, last))).to_bytes(4, "big")


def add_segment(
    connection: sqlite3.Connection,
    group: int,
    first: int,
    last: int,
    frames: bytes,
    digest: bytes,
    *,
    at_front: bool = False,
) -> int:
    """Add a segment to the end of a group's log; `digest` is the log's running digest then.

    Return how many segments all logs have now, since none is ever removed. With `at_front`, the row
    goes before all others of the table, whose end is damaged; then the number is no count.
    """
    values = (group, first, last, frames, checksum(group, first, last, frames), digest)
    added = connection.execute(_INSERT_AT_FRONT if at_front else _INSERT, values)
    return added.lastrowid or 0


def find_group(connection: sqlite3.Connection, name: str) -> tuple[int | None, int]:
    """Return a group's id and its last seq; None and 0 if it does not exist."""
    row = connection.execute("SELECT id, last FROM groups WHERE name = ?", (name,)).fetchone()
    return row or (None, 0)


def check_end(connection: sqlite3.Connection, group: int | None, last: int) -> None:
    """Raise `SegmentDamaged` unless a group's log ends with event `last`, as its row says."""
    sql = "SELECT max(last) FROM segments WHERE group_id = ?"
    (end,) = connection.execute(sql, (group,)).fetchone()
    if group is not None and end != last:
        raise SegmentDamaged(0, 0, f"the log ends at event {end}, but should at {last}")


def segments_from(connection: sqlite3.Connection, group: int | None, seq: int) -> Iterator[Page]:
    """Yield the segments of a group, starting with the one that contains event `seq`.

    Raises `SegmentDamaged`, also if one of them is missing.
    """
    after = seq - 1
    try:
        for row in connection.execute(f"{_SELECT_FROM} -1", (group, seq)):
            page = _checked(group, *row)
            if page.first > after + 1:
                raise SegmentDamaged(after + 1, page.first - 1, "they are missing")
            after = page.last
            yield page
    except sqlite3.Error as error:
        _raise_if_damage(error, after + 1)
        raise


def segment_of(connection: sqlite3.Connection, group: int | None, seq: int) -> Page | None:
    """Return the segment with an event; None if it does not exist. Raises `SegmentDamaged`."""
    try:
        row = connection.execute(f"{_SELECT_FROM} 1", (group, seq)).fetchone()
    except sqlite3.Error as error:
        _raise_if_damage(error, seq)
        raise
    if row is None:
        return None
    page = _checked(group, *row)
    if page.first > seq > 0:
        raise SegmentDamaged(seq, page.first - 1, "they are missing")
    return page if page.first <= seq else None


def body_of(connection: sqlite3.Connection, group: int | None, seq: int) -> bytes | None:
    """Return the body of an event; None if it does not exist. Raises `SegmentDamaged`."""
    page = segment_of(connection, group, seq)
    if page is None:
        return None
    frames = page.after(seq - 1).frames
    return frames[PREFIX : PREFIX + int.from_bytes(frames[:PREFIX], "big")]


def _raise_if_damage(error: sqlite3.Error, seq: int) -> None:
    """Raise `SegmentDamaged` if an error means that the log is damaged from event `seq` on."""
    if is_damage(error):
        raise SegmentDamaged(seq, seq, str(error)) from error


def _checked(group: int | None, first: object, last: object, frames: object, crc: object) -> Page:
    """Return a segment. Raises `SegmentDamaged` unless it has the checksum that was stored."""
    if not (isinstance(first, int) and isinstance(last, int) and isinstance(frames, bytes)):
        raise SegmentDamaged(0, 0, "a row has values of other types")
    if checksum(group or 0, first, last, frames) != crc:
        raise SegmentDamaged(first, last, "the checksum is wrong")
    return Page(first, last, frames)


def edits_of(
    connection: sqlite3.Connection, group: str, message: int, after: int, upto: int
) -> tuple[list[int], int]:
    """Return the seqs of a message's edits in a part of the log, and where the part ends.

    The part begins after `after`, and ends at `upto` at the latest. SQLite searches the segments
    for the encoded target, at about a gigabyte per second, so that few of them are decoded.
    """
    number, _ = find_group(connection, group)
    end = min(after + _EVENTS_PER_PART, upto)
    sql = (
        "SELECT first, last, frames, crc FROM segments WHERE group_id = ?1 AND last > ?2"
        " AND last <= (SELECT min(last) FROM segments WHERE group_id = ?1 AND last >= ?3)"
        " AND instr(frames, ?4) ORDER BY last"
    )
    found: list[int] = []
    for row in connection.execute(sql, (number, after, end, _encoded_target(message))):
        events = map(decode_event, _checked(number, *row).after(after).bodies().values())
        edits = (e for e in events if isinstance(e.body, Edited) and e.body.target == message)
        found += (edit.seq for edit in edits if edit.seq <= end)
    return found, end


def _encoded_target(message: int) -> bytes:
    """Return the key `target` and its value, as they are in the frame of an edit."""
    frame = encode_event(Event("-", 1, 0, "-", bytes(8), 0, Deleted(message)))
    return frame[frame.rindex(b"target") - 1 :]  # it is the last field; one byte is the key's head


def page_after(connection: sqlite3.Connection, group: str, after: int) -> Page | None:
    """Return the events after `after`, about `PAGE_LIMIT` bytes of them, or None.

    The page ends before a damaged segment. Raises `SegmentDamaged` if that is the first one.
    """
    number, head = find_group(connection, group)
    begin = size = 0
    last = after
    parts: list[bytes] = []
    try:
        rows = connection.execute(f"{_SELECT_FROM} -1", (number, after + 1))
        # A quiet group has a segment for each event, so this loop creates few objects for each.
        for first, end, frames, crc in rows:
            size += len(frames)
            if parts and size > PAGE_LIMIT:
                break
            if checksum(number or 0, first, end, frames) != crc or first > last + 1:
                if parts:
                    break
                _checked(number, first, end, frames, crc)
                raise SegmentDamaged(last + 1, first - 1, "they are missing")
            begin, last = begin or first, end
            parts.append(frames)
    except sqlite3.Error as error:
        if not (parts and is_damage(error)):
            _raise_if_damage(error, last + 1)
            raise
    if not parts and after < head:
        raise SegmentDamaged(after + 1, head, "they are missing")
    return Page(begin, last, b"".join(parts)).after(after) if parts else None


def page_before(connection: sqlite3.Connection, group: str, before: int) -> Page | None:
    """Return the last events before `before`, at most `BACK_LIMIT` bytes of them, or None.

    The page begins after a damaged segment. Raises `SegmentDamaged` if that is the last one; it
    tells all damaged events up to the next segment before them.
    """
    number, last = find_group(connection, group)
    last = min(before - 1, last)
    first, room = last + 1, BACK_LIMIT
    parts: list[bytes] = []
    while first > 1:
        try:
            segment = segment_of(connection, number, first - 1)
        except SegmentDamaged as damaged:
            if parts:
                break
            raise _back_to_segment(connection, number, first - 1, str(damaged)) from damaged
        if segment is None:
            raise _back_to_segment(connection, number, first - 1, "they are missing")
        part = segment.ending(first - 1, room)
        if parts and len(part.frames) > room:
            break
        parts.append(part.frames)
        first = part.first
        room -= len(part.frames)
    return Page(first, last, b"".join(reversed(parts))) if parts else None


def _back_to_segment(
    connection: sqlite3.Connection, group: int | None, last: int, reason: str
) -> SegmentDamaged:
    """Return the damage of the events from the end of the segment before them up to `last`."""
    sql = "SELECT ifnull(max(last), 0) + 1 FROM segments WHERE group_id = ? AND last < ?"
    (first,) = connection.execute(sql, (group, last)).fetchone()
    return SegmentDamaged(first, last, reason)


def erase(connection: sqlite3.Connection, group: int, seqs: Collection[int]) -> None:
    """Erase the bodies of events; their headers stay."""
    left = set(seqs)
    while left:
        seq = left.pop()
        page = segment_of(connection, group, seq)
        if page is not None:
            left.difference_update(range(page.first, page.last + 1))
            frames = page.erase(seqs).frames
            connection.execute(
                "UPDATE segments SET frames = ?, crc = ? WHERE group_id = ? AND last = ?",
                (frames, checksum(group, page.first, page.last, frames), group, page.last),
            )

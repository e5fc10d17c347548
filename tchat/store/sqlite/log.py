"""The log in SQLite, kept in segments.

A segment is what one commit added to one group: its events packed one behind the other, as they
go to sockets, so that reading is handing out bytes.

Rows are only ever added at the end of the table, and an erased event is shorter than what it was:
so a row that is written again stays where it is. That matters, because a B-tree that moves rows
may leave copies of them in the unused parts of its pages, where `secure_delete` does not look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.protocol.framing import PREFIX
from tchat.store.base import BACK_LIMIT, PAGE_LIMIT, Page

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator

_WITH = (
    "SELECT first, last, frames FROM segments WHERE group_id = ? AND last >= ? ORDER BY last LIMIT"
)


def find_group(connection: sqlite3.Connection, name: str) -> tuple[int | None, int]:
    """Return a group's id and its last seq; None and 0 for one that never was."""
    row = connection.execute("SELECT id, last FROM groups WHERE name = ?", (name,)).fetchone()
    return row or (None, 0)


def segments_from(connection: sqlite3.Connection, group: int | None, seq: int) -> Iterator[Page]:
    """Give the segments from the one with event `seq` on."""
    for row in connection.execute(f"{_WITH} -1", (group, seq)):
        yield Page(*row)


def body_of(connection: sqlite3.Connection, group: int | None, seq: int) -> bytes | None:
    """Return the body of an event, if there is one of that number."""
    row = connection.execute(f"{_WITH} 1", (group, seq)).fetchone()
    if row is None or not row[0] <= seq:
        return None
    frames = Page(*row).after(seq - 1).frames
    return frames[PREFIX : PREFIX + int.from_bytes(frames[:PREFIX], "big")]


def page_behind(connection: sqlite3.Connection, group: str, after: int) -> Page | None:
    """Return the events behind `after`, about `PAGE_LIMIT` bytes of them, or None."""
    number, _ = find_group(connection, group)
    begin = last = size = 0
    taken: list[bytes] = []
    # A quiet group has a segment for each event: no object is made of any, and none is looked at.
    for first, end, frames in connection.execute(f"{_WITH} -1", (number, after + 1)):
        size += len(frames)
        if taken and size > PAGE_LIMIT:
            break
        begin, last = begin or first, end
        taken.append(frames)
    return Page(begin, last, b"".join(taken)).after(after) if taken else None


def page_before(connection: sqlite3.Connection, group: str, before: int) -> Page | None:
    """Return the last events before `before`, at most `BACK_LIMIT` bytes of them, or None."""
    number, last = find_group(connection, group)
    last = min(before - 1, last)
    first, room = last + 1, BACK_LIMIT
    taken: list[bytes] = []
    while first > 1:
        segment = next(segments_from(connection, number, first - 1))
        part = segment.ending(first - 1, room)
        if taken and len(part.frames) > room:
            break
        taken.append(part.frames)
        first = part.first
        room -= len(part.frames)
    return Page(first, last, b"".join(reversed(taken))) if taken else None


def erase(connection: sqlite3.Connection, group: int | None, seqs: Collection[int]) -> None:
    """Leave nothing in these events but that they were."""
    for seq in seqs:
        row = connection.execute(f"{_WITH} 1", (group, seq)).fetchone()
        if row is not None:
            page = Page(*row)
            connection.execute(
                "UPDATE segments SET frames = ? WHERE group_id = ? AND last = ?",
                (page.erase([seq]).frames, group, page.last),
            )

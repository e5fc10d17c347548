"""What a server checks of its database before it starts: the little on which every group depends.

The first page has the schema; the root of a table or of an index leads to all of its rows; the list
of free pages gives each new row its place. If one of these is damaged, no group can be served, or
every one would fail at some later write, so that the server does not start. Everything else costs
what is stored there, and is found when it is read.

The free pages are followed in the file itself, since SQLite looks at them only when it needs one.
Names of groups are compared in both directions, because a changed byte in an index makes a group
look as if it had never existed, and it could then be founded anew.
"""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from tchat.store.base import DataDamaged, LogDamaged
from tchat.store.sqlite.damage import SegmentDamaged, damage_in
from tchat.store.sqlite.database import postponed_if_full
from tchat.store.sqlite.log import add_segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.store.base import DamageReports

_ESSENTIAL = ("groups", "segments", "people", "keys", "standings", "bans")
"""The tables without which there is no chat; the others can be done without for a while."""

_TYPICAL_SIZE = 200  # of a segment

_END_DAMAGED = (
    "the end of all logs, so that the latest events of some groups cannot be read, and new ones are"
    " stored in front; stop the server and run tchat admin salvage soon"
)
_LOGS_CLOSED = (
    "the end of all logs, so that nobody can post; stop the server and run tchat admin salvage, or"
    " restore a backup"
)
_LOGS_CLOSED_SENTENCE = (
    "The server can store nothing new in any group, since its data is damaged; its operator has"
    " been told what to do. Reading works."
)

_HEADER = struct.Struct(">16sH14xII")  # of the file: magic, page size, first trunk, free pages
_TRUNK = struct.Struct(">II")  # the next trunk, the number of leaves
_PAGE = struct.Struct(">BHHH")  # kind, first free block, cells, start of their content
_INTERIOR = (2, 5)
_LEAF = (10, 13)


def check_structure(connection: sqlite3.Connection) -> None:
    """Raise `SegmentDamaged`, or an error of SQLite, if no group could be served.

    First the write-ahead log is written to the file. If that is not possible now, its pages are
    not checked: another program, such as a backup, reads the file; or the disk is full, and the
    server was killed, so that the log has pages for which the file has no room. Any other error,
    such as a failed fsync, is raised.
    """
    roots = connection.execute("SELECT name, tbl_name, rootpage FROM sqlite_schema").fetchall()
    ((_, _, path),) = connection.execute("PRAGMA database_list").fetchall()
    if not path or not _is_log_written(connection):
        return
    essential = [(name, page) for name, table, page in roots if table in _ESSENTIAL and page]
    with Path(path).open("rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return  # a new database
        _, size, trunk, free = _HEADER.unpack(head)
        size = 65536 if size == 1 else size
        pages = file.seek(0, 2) // size

        def read(page: int) -> bytes:
            file.seek((page - 1) * size)
            return file.read(size)

        for name, page in essential:
            if not 1 < page <= pages or not _is_plausible(read(page), size, pages):
                raise SegmentDamaged(0, 0, f"the root of {name} is damaged (page {page})")
        seen: set[int] = set()
        while trunk:
            data = read(trunk) if 1 < trunk <= pages and trunk not in seen else b""
            seen.add(trunk)
            following, count = _TRUNK.unpack_from(data or bytes(_TRUNK.size))
            numbers = struct.unpack_from(f">{min(count, size // 4 - 2)}I", data, 8) if data else ()
            if (
                len(data) < size
                or count > size // 4 - 2
                or any(not 1 < page <= pages or page in seen for page in numbers)
            ):
                raise SegmentDamaged(0, 0, f"the list of free pages is damaged (page {trunk})")
            seen.update(numbers)
            trunk = following
        if len(seen) != free:
            raise SegmentDamaged(0, 0, "the list of free pages has another length")


def _is_log_written(connection: sqlite3.Connection) -> bool:
    """Write the write-ahead log to the file; return False if another reads it, or without room."""
    is_busy = 1
    with postponed_if_full(connection):  # nothing is lost: the log still has it all
        is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not is_busy


def _is_plausible(data: bytes, size: int, pages: int) -> bool:
    """Return whether a page can be the root of a table or of an index."""
    if len(data) < size:
        return False
    kind, _, cells, content = _PAGE.unpack_from(data)
    if kind in _INTERIOR:
        (last,) = struct.unpack_from(">I", data, 8)
        return bool(12 + 2 * cells <= content <= size and 1 < last <= pages)
    return kind in _LEAF and bool(8 + 2 * cells <= (content or 65536) <= size)


def check_schema(connection: sqlite3.Connection, expected: sqlite3.Connection) -> None:
    """Raise `SegmentDamaged` unless the tables and indexes have the names that they should have."""
    if _names(connection) != _names(expected):
        raise SegmentDamaged(0, 0, "the schema has other names than it should")


def _names(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    """Return the names of tables, indexes and columns, and the triggers.

    A trigger runs inside of the statements of others, so that a wrong one would break them.
    """
    sql = "SELECT type, name, tbl_name FROM sqlite_schema WHERE name NOT GLOB 'said*'"
    found: set[tuple[str, ...]] = set(connection.execute(sql))
    found |= set(connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger'"))
    for kind, table, *_ in [row for row in found if len(row) > 1]:
        if kind == "table":
            columns = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
            found |= {(table, str(column)) for (column,) in columns}
    return found


def find_place_for_events(connection: sqlite3.Connection, damage: DamageReports) -> None:
    """Find out where new events can be stored, by trying it; report it if that is not the end.

    They go behind all others, so that a damaged end would concern all groups: then they go to the
    front of the table. If that is impossible as well, the server starts for reading, which is more
    than nothing.
    """
    reason = _refuses_segment(connection, at_front=False)
    if reason is None:
        return
    damage.logs_grow_at_front = True
    if _refuses_segment(connection, at_front=True) is None:
        damage.report(DataDamaged(reason, _END_DAMAGED))
    else:
        damage.logs_closed = DataDamaged(reason, _LOGS_CLOSED, _LOGS_CLOSED_SENTENCE)
        damage.report(damage.logs_closed)


def _refuses_segment(connection: sqlite3.Connection, *, at_front: bool) -> str | None:
    """Return why damage keeps a segment from being added, or None. Nothing is changed."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        add_segment(connection, 0, 1, 1, bytes(_TYPICAL_SIZE), b"", at_front=at_front)
    except sqlite3.Error as error:
        if (damaged := damage_in(error, None)) is None:
            raise
        return damaged.reason
    finally:
        connection.rollback()
    return None


def find_doubtful_groups(connection: sqlite3.Connection, damage: DamageReports) -> None:
    """Block the groups whose name in the table is not the one in its index.

    Rows that cannot be read are found when their group is needed. Raises `SegmentDamaged` if no
    group is left.
    """
    found: set[str] = set()
    by_name = "SELECT id FROM groups WHERE name = ?"
    by_number = "SELECT name FROM groups NOT INDEXED WHERE id = ?"
    for name, number in _rows(connection, "groups NOT INDEXED"):
        if not _leads_to(connection, by_name, name, number):
            found.add(name)
    for name, number in _rows(connection, "groups INDEXED BY sqlite_autoindex_groups_1"):
        if not _leads_to(connection, by_number, number, name):
            found.add(name)
    if found and not any(name not in found for name, _ in _rows(connection, "groups NOT INDEXED")):
        raise SegmentDamaged(0, 0, "the names of all groups are in doubt")
    for name in sorted(found):
        damage.block(LogDamaged(name, 0, 0, "its name differs from the one in the index"))


def _leads_to(connection: sqlite3.Connection, sql: str, key: str | int, value: str | int) -> bool:
    """Return whether a query finds a value. If it fails, so will the next one for the group."""
    try:
        return bool(connection.execute(sql, (key,)).fetchone() == (value,))
    except sqlite3.Error:
        return True


def _rows(connection: sqlite3.Connection, source: str) -> Iterator[tuple[str, int]]:
    """Yield the names and ids of groups, up to the first that cannot be read."""
    sql = f"SELECT name, id FROM {source}"  # noqa: S608  # ours
    try:
        for name, number in connection.execute(sql):
            if isinstance(name, str) and isinstance(number, int):
                yield name, number
    except sqlite3.Error as error:
        if damage_in(error, None) is None:
            raise

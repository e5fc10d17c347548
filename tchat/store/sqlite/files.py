"""The file index in SQLite: tables of stored and shared files.

Every query uses an index, except those of `sweep`, `expire` and `total`, which have to scan tables.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tchat.store.base import FileEntry, FileIndex

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from tchat.store.base import SideEffects
    from tchat.store.sqlite.database import Database

_FILES = (
    "SELECT group_id, number, shelf.sha256, shelf.size, person, at,"
    " (SELECT count(*) FROM fetches"
    "  WHERE fetches.group_id = shelf.group_id AND fetches.number = shelf.number)"
    " FROM groups JOIN shelf ON group_id = id JOIN blobs ON blobs.sha256 = shelf.sha256"
)
_PAGE = f"{_FILES} WHERE name = ? AND number < ? ORDER BY number DESC LIMIT ?"
_ONE = f"{_FILES} WHERE name = ? AND number = ?"
_UNREFERENCED = (
    "NOT EXISTS (SELECT 1 FROM shelf WHERE shelf.sha256 = blobs.sha256)"
    " AND NOT EXISTS (SELECT 1 FROM held WHERE held.sha256 = blobs.sha256)"
)


class SqliteFileIndex(FileIndex):
    """The tables `blobs`, `held` (leases), `shelf` (files of groups) and `fetches`.

    Memberships are in `standings`. Triggers count the bytes of each person and group (`schema`);
    they do not see what REPLACE removes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, person: str, sha256: bytes, size: int, head: bytes, at: int) -> None:
        """Add an uploaded file; see `FileIndex.add`."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO blobs (sha256, size, head) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET head = excluded.head WHERE head IS NULL",
                (sha256, size, head),
            )
            _lease(connection, person, sha256, at)

        await self._database.write(work)

    async def has_similar(self, person: str, size: int, head: bytes) -> bool:
        """Return whether a person has access to a similar file; see `FileIndex.has_similar`."""
        sql = "SELECT sha256 FROM blobs WHERE size = ? AND head = ?"

        def query(connection: sqlite3.Connection) -> bool:
            alike = connection.execute(sql, (size, head)).fetchall()
            return any(_has_access(connection, person, sha256) for (sha256,) in alike)

        return await self._database.read(query)

    async def lease(self, person: str, sha256: bytes, at: int) -> int | None:
        """Start or renew a lease; see `FileIndex.lease`."""

        def work(connection: sqlite3.Connection) -> int | None:
            size = _size(connection, sha256)
            if size is None or not _has_access(connection, person, sha256):
                return None
            _lease(connection, person, sha256, at)
            return size

        return await self._database.write(work)

    async def size_of(self, sha256: bytes) -> int | None:
        """Return the size of a file; see `FileIndex.size_of`."""
        return await self._database.read(lambda connection: _size(connection, sha256))

    async def usage(self, person: str, excluding: bytes | None = None) -> int:
        """Return the size of a person's files; see `FileIndex.usage`."""
        sql = (
            "SELECT ifnull((SELECT bytes FROM person_usage WHERE person = :person), 0)"
            " - ifnull((SELECT size FROM blobs WHERE sha256 = :excluding AND"
            "  (EXISTS (SELECT 1 FROM shelf WHERE person = :person AND sha256 = :excluding)"
            "   OR EXISTS (SELECT 1 FROM held WHERE person = :person AND sha256 = :excluding))), 0)"
        )
        names = {"person": person, "excluding": excluding}
        return await self._database.read(lambda c: int(c.execute(sql, names).fetchone()[0]))

    async def group_usage(self, group: str, excluding: bytes | None = None) -> int:
        """Return the size of a group's files; see `FileIndex.group_usage`."""
        sql = (
            "SELECT coalesce(sum(bytes), 0) - coalesce(sum((SELECT size FROM shelf"
            "  WHERE shelf.sha256 = :excluding AND shelf.group_id = id LIMIT 1)), 0)"
            " FROM groups JOIN group_usage ON group_id = id WHERE name = :group"
        )
        names = {"group": group, "excluding": excluding}
        return await self._database.read(lambda c: int(c.execute(sql, names).fetchone()[0]), group)

    async def total(self) -> int:
        """Return the size of all files; see `FileIndex.total`."""
        sql = "SELECT coalesce(sum(size), 0) FROM blobs"
        return await self._database.read(lambda c: int(c.execute(sql).fetchone()[0]))

    async def lease_count(self, person: str) -> int:
        """Return the number of a person's leases; see `FileIndex.lease_count`."""
        sql = "SELECT count(*) FROM held WHERE person = ?"
        return await self._database.read(lambda c: int(c.execute(sql, (person,)).fetchone()[0]))

    async def record_fetch(self, group: str, number: int, person: str, at: int) -> None:
        """Record a download; see `FileIndex.record_fetch`."""
        sql = (
            "INSERT INTO fetches (group_id, number, person, at)"
            " SELECT group_id, number, ?, ? FROM groups JOIN shelf ON group_id = id"
            " WHERE name = ? AND number = ? ON CONFLICT DO NOTHING"
        )
        values = (person, at, group, number)
        await self._database.write(lambda c: c.execute(sql, values).rowcount, group=group)

    async def page(self, group: str, before: int, most: int, names: int) -> list[FileEntry]:
        """Return the newest files of a group; see `FileIndex.page`."""
        sql = (
            "SELECT person FROM fetches WHERE group_id = ? AND number = ?"
            " ORDER BY at, person LIMIT ?"
        )

        def query(connection: sqlite3.Connection) -> list[FileEntry]:
            page = []
            for group_id, *row in connection.execute(_PAGE, (group, before, most)).fetchall():
                file = FileEntry(*row)
                people = connection.execute(sql, (group_id, file.number, names))
                page.append(replace(file, fetched_by=tuple(person for (person,) in people)))
            return page

        return await self._database.read(query, group)

    async def find(self, group: str, number: int) -> FileEntry | None:
        """Return a file of a group; see `FileIndex.find`."""
        query = partial(_find, group=group, number=number)
        row = await self._database.read(query, group)
        return None if row is None else FileEntry(*row[1:])

    async def forget(self, sha256: bytes) -> None:
        """Remove a damaged file; see `FileIndex.forget`."""
        await self._database.write(lambda connection: _forget(connection, sha256))

    async def expire(self, leased_before: int, shared_before: int) -> list[bytes]:
        """Remove expired files; see `FileIndex.expire`."""

        def work(connection: sqlite3.Connection) -> list[bytes]:
            files = connection.execute(
                "SELECT sha256 FROM held WHERE at < ? UNION SELECT sha256 FROM shelf WHERE at < ?",
                (leased_before, shared_before),
            ).fetchall()
            connection.execute("DELETE FROM held WHERE at < ?", (leased_before,))
            past = connection.execute(
                "SELECT group_id, number FROM shelf WHERE at < ?", (shared_before,)
            ).fetchall()
            _remove_from_groups(connection, past)
            if past:  # `verify` knows that these files are not missing by mistake
                connection.execute("UPDATE swept SET upto = max(upto, ?)", (shared_before,))
            return _forget_unreferenced(connection, files)

        return await self._database.write(work)

    async def sweep(self) -> list[bytes]:
        """Remove unreferenced files; see `FileIndex.sweep`."""
        # The scan takes a while, so it runs as a read: no message waits for it. A file that it
        # finds may be referenced again by the time of the DELETE, which therefore checks again.
        sql = f"SELECT sha256 FROM blobs WHERE {_UNREFERENCED}"  # noqa: S608  # ours
        found = await self._database.read_slowly(lambda c: c.execute(sql).fetchall())
        if not found:
            return []
        return await self._database.write(lambda c: _forget_unreferenced(c, found))

    async def digests(self) -> set[bytes]:
        """Return the SHA-256 of every file; see `FileIndex.digests`."""
        sql = "SELECT sha256 FROM blobs"
        return await self._database.read(lambda c: {sha256 for (sha256,) in c.execute(sql)})


def update_files(
    connection: sqlite3.Connection, group_id: int | None, effects: SideEffects
) -> None:
    """Apply the removed and then the added files in `effects` to the group with that id."""
    _remove_from_groups(connection, [(group_id, number) for number in effects.removed_files])
    _remove_from_shelf(connection, [(group_id, file.number) for file in effects.added_files])
    connection.executemany(
        "INSERT INTO shelf (group_id, number, sha256, size, person, at) VALUES (?, ?, ?, ?, ?, ?)",
        [(group_id, f.number, f.sha256, f.size, f.person, f.at) for f in effects.added_files],
    )
    connection.executemany(
        "DELETE FROM held WHERE person = ? AND sha256 = ?",
        [(file.person, file.sha256) for file in effects.added_files],
    )


def _remove_from_groups(
    connection: sqlite3.Connection, files: Sequence[tuple[int | None, int]]
) -> None:
    _remove_from_shelf(connection, files)
    connection.executemany("DELETE FROM fetches WHERE group_id = ? AND number = ?", files)


def _remove_from_shelf(
    connection: sqlite3.Connection, files: Sequence[tuple[int | None, int]]
) -> None:
    connection.executemany("DELETE FROM shelf WHERE group_id = ? AND number = ?", files)


def _find(connection: sqlite3.Connection, group: str, number: int) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = connection.execute(_ONE, (group, number)).fetchone()
    return row


def _size(connection: sqlite3.Connection, sha256: bytes) -> int | None:
    row = connection.execute("SELECT size FROM blobs WHERE sha256 = ?", (sha256,)).fetchone()
    return None if row is None else int(row[0])


def _has_access(connection: sqlite3.Connection, person: str, sha256: bytes) -> bool:
    """Return whether a person has a lease on a file, or is a member of a group that has it."""
    # CROSS JOIN forces SQLite to start with the person's groups, which are few; the groups that
    # have the file may be many.
    row = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM held WHERE person = :person AND sha256 = :sha256)"
        " OR EXISTS (SELECT 1 FROM standings CROSS JOIN shelf USING (group_id)"
        "  WHERE standings.person = :person AND standing = 'member' AND sha256 = :sha256)",
        {"person": person, "sha256": sha256},
    ).fetchone()
    return bool(row[0])


def _lease(connection: sqlite3.Connection, person: str, sha256: bytes, at: int) -> None:
    connection.execute(
        "INSERT INTO held (person, sha256, at) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET at = excluded.at",
        (person, sha256, at),
    )


def _forget_unreferenced(
    connection: sqlite3.Connection, files: Sequence[tuple[bytes]]
) -> list[bytes]:
    """Remove those of these files that are unreferenced; return them."""
    return [
        sha256
        for (sha256,) in files
        if connection.execute(
            f"DELETE FROM blobs WHERE sha256 = ? AND {_UNREFERENCED}",  # noqa: S608  # ours
            (sha256,),
        ).rowcount
    ]


def _forget(connection: sqlite3.Connection, sha256: bytes) -> None:
    connection.execute("DELETE FROM blobs WHERE sha256 = ?", (sha256,))
    connection.execute("DELETE FROM held WHERE sha256 = ?", (sha256,))

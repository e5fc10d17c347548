"""The store that a server runs on: a directory with one SQLite file and one of files.

A log is kept in segments. A segment is what one commit added to one group: its events packed one
behind the other, as they go to sockets, so that reading is handing out bytes. In the same
transaction goes who has become what to the group and which files are on its shelf, so that they can
never disagree.
"""

from __future__ import annotations

import sqlite3
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from tchat.errors import Code, StartupError
from tchat.store.accounts import SqliteAccounts
from tchat.store.base import (
    NO_EFFECTS,
    PAGE_LIMIT,
    Accounts,
    Conflict,
    Effects,
    Page,
    Shelves,
    Store,
)
from tchat.store.blobs import BlobDirectory
from tchat.store.database import Database, open_database
from tchat.store.migrations import set_standings
from tchat.store.shelves import SqliteShelves, set_shelf

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tchat.core.frames import Standing


class SqliteStore(Store):
    """A store in one directory: `tchat.db`, and files under `files`."""

    def __init__(self, database: Database, blobs: BlobDirectory) -> None:
        self.accounts: Accounts = SqliteAccounts(database)
        self.shelves: Shelves = SqliteShelves(database)
        self.blobs = blobs
        self._database = database

    async def append(
        self,
        group: str,
        expected: int,
        count: int,
        frames: bytes,
        effects: Effects = NO_EFFECTS,
    ) -> None:
        """Add packed events; see `Store.append`."""

        def work(connection: sqlite3.Connection) -> None:
            number, last = _group(connection, group)
            if last != expected:
                raise Conflict(group, expected, last)
            if number is None:
                number = connection.execute(
                    "INSERT INTO groups (name, last) VALUES (?, 0)", (group,)
                ).lastrowid
            connection.execute(
                "INSERT INTO segments (group_id, first, last, frames) VALUES (?, ?, ?, ?)",
                (number, expected + 1, expected + count, frames),
            )
            connection.execute(
                "UPDATE groups SET last = ? WHERE id = ?", (expected + count, number)
            )
            if effects:
                set_standings(connection, number, effects.standings)
                set_shelf(connection, number, effects)

        await self._database.write(work)

    async def read(self, group: str, after: int) -> Page | None:
        """Return a page; see `Store.read`."""
        return await self._database.read(lambda connection: _page(connection, group, after))

    async def last(self, group: str) -> int:
        """Return the last seq; see `Store.last`."""
        return await self._database.read(lambda connection: _group(connection, group)[1])

    async def groups_of(self, person: str) -> dict[str, Standing]:
        """Return where a person is something; see `Store.groups_of`."""
        sql = "SELECT name, standing FROM standings JOIN groups ON id = group_id WHERE person = ?"
        return await self._database.read(lambda c: dict(c.execute(sql, (person,))))

    async def cursors(self, group: str) -> dict[str, int]:
        """Return what people have seen; see `Store.cursors`."""
        sql = "SELECT person, seq FROM cursors JOIN groups ON id = group_id WHERE name = ?"
        return await self._database.read(lambda connection: dict(connection.execute(sql, (group,))))

    async def set_cursors(self, group: str, cursors: dict[str, int]) -> None:
        """Note what people have seen; see `Store.set_cursors`."""

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO cursors (group_id, person, seq)"
                " SELECT id, ?, ? FROM groups WHERE name = ?"
                " ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)",
                [(person, seq, group) for person, seq in cursors.items()],
            )

        await self._database.write(work)


@asynccontextmanager
async def open_store(directory: Path) -> AsyncIterator[SqliteStore]:
    """Open (or make) the store in `directory` and hold it until the end of the block.

    Raises `StartupError` when the directory cannot be used or another server uses it.
    """
    with _start_errors(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # noqa: ASYNC240  # once, at start
        lock = FileLock(directory / "lock", timeout=0, thread_local=False).acquire()
    with lock:
        async with AsyncExitStack() as stack:
            with _start_errors(directory):
                blobs = BlobDirectory(directory / "files")
                database = await stack.enter_async_context(open_database(directory / "tchat.db"))
            yield SqliteStore(database, blobs)


def _group(connection: sqlite3.Connection, name: str) -> tuple[int | None, int]:
    row = connection.execute("SELECT id, last FROM groups WHERE name = ?", (name,)).fetchone()
    return row or (None, 0)


def _page(connection: sqlite3.Connection, group: str, after: int) -> Page | None:
    rows = connection.execute(
        "SELECT first, segments.last, frames FROM segments JOIN groups ON id = group_id"
        " WHERE name = ? AND segments.last > ? ORDER BY segments.last",
        (group, after),
    )
    first = last = size = 0
    taken: list[bytes] = []
    for row_first, row_last, frames in rows:
        if taken and size + len(frames) > PAGE_LIMIT:
            break
        first, last = first or row_first, row_last
        size += len(frames)
        taken.append(frames)
    rows.close()
    return Page(first, last, b"".join(taken)).after(after) if taken else None


@contextmanager
def _start_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except Timeout:
        raise StartupError(
            Code.CANNOT_START, f"Another tchat server is using the data directory {directory}."
        ) from None
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartupError(
            Code.CANNOT_START, f"The data directory {directory} cannot be used: {reason}."
        ) from error

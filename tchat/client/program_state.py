"""What programs remember between runs: the keys of messages that are posted once, and cursors.

A *key* makes posting idempotent for the caller: whoever posts with the same key again gets the
first message back. The *stamp* of that message tells it from another one that has its seq after the
server was restored from a backup (see `core.group.log_digest`). A *cursor* is the last event of a
group that a program has handled: its seq, and its time, by which it is recognised after the server
was restored from a backup.

Both are in one SQLite database, which several processes may use at the same time. A message with a
key is in the journal until the server has stored it (see `journal`), and only then is its key in
the database. So for anybody who holds the database's write lock (`exclusive`), a key that is
neither in the database nor in a journal was not posted.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from tchat.core.text import fold
from tchat.durable_directory import make_directory
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from tchat.client.clock import ClientClock

KEY_DAYS = 30
"""Days for which a key is remembered."""

KEY_LIMIT = 200
"""The most code points of a key."""

_BUSY_SECONDS = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS posted (
    server TEXT, user TEXT, place TEXT, key TEXT, seq INTEGER NOT NULL, at INTEGER NOT NULL,
    stamp BLOB NOT NULL DEFAULT x'',
    PRIMARY KEY (server, user, place, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors (
    server TEXT, user TEXT, place TEXT, name TEXT, seq INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (server, user, place, name)
) WITHOUT ROWID;
"""


class KeyedMessage(NamedTuple):
    """A message that was posted with a key: its seq, 0 if unknown, and its stamp, or b""."""

    seq: int
    stamp: bytes


class ProgramState:
    """The database at `path`, which is created when it is first needed; without a path, in memory.

    All methods raise `Refused` (file_unreadable) if it cannot be read or written. Servers are given
    by their names, the most reliable first (see `Connector.names`).
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._opened: sqlite3.Connection | None = None

    def posted(
        self, servers: Collection[str], user: str, group: str, key: str
    ) -> KeyedMessage | None:
        """Return the message that was posted with a key; None if there is none."""
        query = "SELECT server, seq, stamp FROM posted WHERE user = ? AND place = ? AND key = ?"
        with self._working() as database:
            rows = database.execute(query, (fold(user), fold(group), key))
            found = [KeyedMessage(seq, stamp) for server, seq, stamp in rows if server in servers]
        return max(found, default=None)

    def record_posted(
        self, server: str, user: str, group: str, key: str, seq: int, clock: ClientClock
    ) -> None:
        """Save that the message with a key is in the log, as event `seq`; 0 if that is unknown.

        Forget the keys that are older than `KEY_DAYS`.
        """
        now = clock.earliest()
        with self._working() as database:
            if now is not None:
                oldest = now // 1000 - KEY_DAYS * 86400
                database.execute("DELETE FROM posted WHERE at < ?", (oldest,))
            database.execute(
                "INSERT OR REPLACE INTO posted VALUES (?, ?, ?, ?, ?, ?, x'')",
                (server, fold(user), fold(group), key, seq, clock.latest() // 1000),
            )

    def record_stamp(
        self, servers: Collection[str], user: str, group: str, key: str, stored: KeyedMessage
    ) -> None:
        """Save the stamp of the message that was posted with a key, unless one is saved already."""
        with self._working() as database:
            database.executemany(
                "UPDATE posted SET stamp = ? WHERE server = ? AND user = ? AND place = ?"
                " AND key = ? AND seq = ? AND stamp = x''",
                [
                    (stored.stamp, server, fold(user), fold(group), key, stored.seq)
                    for server in servers
                ],
            )

    def cursor(
        self, servers: Collection[str], user: str, group: str, name: str
    ) -> tuple[int, int] | None:
        """Return the cursor that a program called `name` has in a group; None if there is none.

        It is the seq of an event, and its time in ms since the epoch, or 0 if that is not known.
        """
        query = "SELECT server, seq, at FROM cursors WHERE user = ? AND place = ? AND name = ?"
        return self._find(query, servers, user, group, name)

    def save_cursor(
        self, server: str, user: str, group: str, name: str, seq: int, at: int = 0
    ) -> None:
        """Save a cursor; it is on disk when this returns."""
        with self._working() as database:
            database.execute(
                "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?, ?, ?)",
                (server, fold(user), fold(group), name, seq, at),
            )

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the write lock while the block runs, so that no other process claims a key."""
        with self._working() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                database.execute("COMMIT")

    def close(self) -> None:
        """Close the database."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _find(
        self, query: str, servers: Collection[str], user: str, group: str, name: str
    ) -> tuple[int, int] | None:
        """Return the seq and the time in the row of one of these servers."""
        with self._working() as database:
            rows = database.execute(query, (fold(user), fold(group), name))
            found = [(seq, at) for server, seq, at in rows if server in servers]
        return max(found, default=None)

    @contextmanager
    def _working(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._opened is None:
                self._opened = _open(self._path)
            yield self._opened
        except (sqlite3.Error, OSError) as error:
            raise Refused(
                Code.FILE_UNREADABLE, f"{self._path} cannot be used: {error}. Nothing was sent."
            ) from error


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        make_directory(path.parent)
    database = sqlite3.connect(
        ":memory:" if path is None else path,
        timeout=_BUSY_SECONDS,
        isolation_level=None,  # each statement is a transaction, unless one was begun
        check_same_thread=False,  # trio runs blocking work in any of its threads
    )
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.executescript(_SCHEMA)
    if all(name != "stamp" for _, name, *_ in database.execute("PRAGMA table_info (posted)")):
        with suppress(sqlite3.OperationalError):  # another process has just added it
            database.execute("ALTER TABLE posted ADD COLUMN stamp BLOB NOT NULL DEFAULT x''")
    return database

"""One SQLite file, written by one thread.

Group commit: whatever waits when the writing thread is free, of all groups together, goes into
one transaction and so shares one fsync. Under load the batches grow by themselves, and a message
costs microseconds; with one writer it costs the disk's own latency and nothing more.

`synchronous=FULL` in WAL mode: a commit that returned survives a power cut. One connection
writes and checkpoints, which also keeps clear of the WAL-reset corruption that older SQLite
versions risk with two; reading happens on a second, read-only one, which WAL never blocks.

What is deleted is overwritten (`secure_delete`), but for a time the write-ahead log still has what
was there before. `scrub` empties it.

A full disk refuses the batch and changes nothing. Any other failure to write leaves it unknown
what the file holds, so the database declares itself broken and the server stops.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, TypeVar

import trio

from tchat.errors import Code, StorageError, TchatError
from tchat.store.base import Conflict, StorageFull
from tchat.store.sqlite.schema import APPLICATION_ID, migrate
from tchat.store.sqlite.search import prepare_search

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    Work = Callable[[sqlite3.Connection], object]

T = TypeVar("T")

_MOST_IN_ONE_COMMIT = 1000
_SCRUB_MS = 1000  # how long it waits for those who read just then


class _Job:
    """One piece of work for the writing thread, and the task that waits for it."""

    __slots__ = ("done", "failure", "result", "scrub", "work")

    def __init__(self, work: Work, *, scrub: bool) -> None:
        self.work = work
        self.scrub = scrub
        self.done = trio.Event()
        self.result: object = None
        self.failure: TchatError | None = None


class _Writer:
    """The thread that writes. Its queue is its only door."""

    def __init__(self, connection: sqlite3.Connection, token: trio.lowlevel.TrioToken) -> None:
        self._connection = connection
        self._token = token
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._broken: TchatError | None = None
        self._thread = threading.Thread(target=self._run, name="tchat-writer", daemon=True)
        self._thread.start()

    async def do(self, work: Work, *, scrub: bool = False) -> object:
        """Run `work` in a transaction; return its result once that is on disk.

        With `scrub`, once nothing is on the disk any more that was overwritten until then.
        """
        job = _Job(work, scrub=scrub)
        self._queue.put(job)
        await job.done.wait()
        if job.failure is not None:
            # The same failure may be raised in many tasks, one after the other.
            raise job.failure.with_traceback(None)
        return job.result

    def stop(self) -> None:
        """Finish what waits and end the thread. Blocks."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            jobs, going = self._take()
            self._commit(jobs)
            if any(job.scrub for job in jobs):
                self._scrub()
            self._token.run_sync_soon(_finish, jobs)

    def _take(self) -> tuple[list[_Job], bool]:
        """Return everything that waits, at least one job, and whether to go on after it."""
        jobs: list[_Job] = []
        job = self._queue.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) == _MOST_IN_ONE_COMMIT or self._queue.empty():
                return jobs, True
            job = self._queue.get()
        return jobs, False

    def _commit(self, jobs: list[_Job]) -> None:
        if self._broken is not None:
            _fail(jobs, self._broken)
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._do(job)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  # a thread that died would leave tasks waiting
            failure = _explain(error)
            with suppress(sqlite3.Error):
                self._connection.rollback()
            if not isinstance(failure, StorageFull):
                self._broken = failure
            _fail(jobs, failure)

    def _scrub(self) -> None:
        # If another program reads the file all the while, or the disk is full, the next time does
        # it, or the next start.
        with suppress(sqlite3.Error):
            _empty_log(self._connection)

    def _do(self, job: _Job) -> None:
        try:
            job.result = job.work(self._connection)
        except Conflict as conflict:  # found before anything was written; concerns this job only
            job.failure = conflict


class Database:
    """An open file: `write` goes through the one thread, `read` beside it."""

    def __init__(
        self, writer: _Writer, reader: sqlite3.Connection, searcher: sqlite3.Connection
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._reading = trio.CapacityLimiter(1)
        self._searcher = searcher
        self._searching = trio.CapacityLimiter(1)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction; return its result once that is on disk.

        Raises `StorageFull` (nothing was written), `StorageError` (do not go on), or what `work`
        raised of its own, if that is a `Conflict`.
        """
        result: T = await self._writer.do(work)  # type: ignore[assignment]  # what work returned
        return result

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Return what a query finds in what is committed. Raises `StorageError`."""
        return await _run(query, self._reader, self._reading)

    async def read_at_leisure(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Do the same with a query that takes longer, and that short ones do not wait for."""
        return await _run(query, self._searcher, self._searching)

    async def scrub(self) -> None:
        """Return once nothing of what was deleted is in the file or beside it."""
        await self._writer.do(lambda _: None, scrub=True)


async def _run(
    query: Callable[[sqlite3.Connection], T],
    connection: sqlite3.Connection,
    limiter: trio.CapacityLimiter,
) -> T:
    try:
        return await trio.to_thread.run_sync(query, connection, limiter=limiter)
    except sqlite3.Error as error:
        raise _explain(error) from error


@asynccontextmanager
async def open_database(path: Path) -> AsyncIterator[Database]:
    """Open (or make) the file for the length of the block. Raises OSError or sqlite3.Error."""
    connection = _connect(path)
    with (
        closing(connection),
        closing(_connect_to_read(path)) as reader,
        closing(_connect_to_read(path)) as searcher,
    ):
        writer = _Writer(connection, trio.lowlevel.current_trio_token())
        try:
            yield Database(writer, reader, searcher)
        finally:
            writer.stop()


def _connect(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)  # what people said is nobody else's business; WAL files follow suit
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection)
        prepare_search(connection)
        _empty_log(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _empty_log(connection: sqlite3.Connection) -> None:
    """Write what is in the write-ahead log to the file, and cut the log to nothing."""
    connection.execute(f"PRAGMA busy_timeout = {_SCRUB_MS}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _connect_to_read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)


def _finish(jobs: list[_Job]) -> None:
    for job in jobs:
        job.done.set()


def _fail(jobs: list[_Job], failure: TchatError) -> None:
    for job in jobs:
        job.failure = job.failure or failure


def _explain(error: Exception) -> TchatError:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
        return StorageFull()
    return StorageError(Code.INTERNAL, f"The log cannot be written or read: {error}.")

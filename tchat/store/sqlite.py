"""The store that a server runs on: one SQLite file, written by one thread.

Group commit: whatever waits when the writing thread is free, of all groups together, goes into
one transaction and so shares one fsync. Under load the batches grow by themselves, and a message
costs microseconds; with one writer it costs the disk's own latency and nothing more.

`synchronous=FULL` in WAL mode: a commit that returned survives a power cut. One connection
writes and checkpoints, which also keeps clear of the WAL-reset corruption that older SQLite
versions risk with two; reading happens on a second, read-only one, which WAL never blocks.

A full disk refuses the batch and changes nothing. Any other failure to write leaves it unknown
what the file holds, so the store declares itself broken and the server stops.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

import trio
from filelock import FileLock, Timeout

from tchat.errors import Code, StartupError, StorageError, TchatError
from tchat.store.base import PAGE_LIMIT, Conflict, Page, StorageFull, Store
from tchat.store.blobs import BlobDirectory
from tchat.store.migrations import APPLICATION_ID, migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tchat.store.blobs import IncomingFile, OutgoingFile

    Work = Callable[[sqlite3.Connection], object]

T = TypeVar("T")

_MOST_IN_ONE_COMMIT = 1000


class _Job:
    """One piece of work for the writing thread, and the task that waits for it."""

    __slots__ = ("done", "failure", "result", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
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

    async def do(self, work: Work) -> object:
        """Run `work` in a transaction; return its result once that is on disk."""
        job = _Job(work)
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

    def _do(self, job: _Job) -> None:
        try:
            job.result = job.work(self._connection)
        except Conflict as conflict:  # found before anything was written; concerns this job only
            job.failure = conflict


class SqliteStore(Store):
    """A store in one directory: `tchat.db`, and files under `files`."""

    def __init__(self, writer: _Writer, reader: sqlite3.Connection, blobs: BlobDirectory) -> None:
        self._writer = writer
        self._reader = reader
        self._reading = trio.CapacityLimiter(1)
        self._blobs = blobs

    async def append(self, group: str, expected: int, count: int, frames: bytes) -> None:
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

        await self._writer.do(work)

    async def read(self, group: str, after: int) -> Page | None:
        """Return a page; see `Store.read`."""
        return await self._read(lambda connection: _page(connection, group, after))

    async def last(self, group: str) -> int:
        """Return the last seq; see `Store.last`."""
        return await self._read(lambda connection: _group(connection, group)[1])

    async def cursors(self, group: str) -> dict[str, int]:
        """Return what people have seen; see `Store.cursors`."""
        sql = "SELECT person, seq FROM cursors JOIN groups ON id = group_id WHERE name = ?"
        return await self._read(lambda connection: dict(connection.execute(sql, (group,))))

    async def set_cursors(self, group: str, cursors: dict[str, int]) -> None:
        """Note what people have seen; see `Store.set_cursors`."""

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO cursors (group_id, person, seq)"
                " SELECT id, ?, ? FROM groups WHERE name = ?"
                " ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)",
                [(person, seq, group) for person, seq in cursors.items()],
            )

        await self._writer.do(work)

    async def claim_name(self, key: str, name: str, at: int) -> str:
        """Return how the name is written; see `Store.claim_name`."""
        sql = "SELECT name FROM people WHERE key = ?"
        known = await self._read(lambda connection: connection.execute(sql, (key,)).fetchone())
        if known is not None:
            return str(known[0])

        def work(connection: sqlite3.Connection) -> str:
            connection.execute(
                "INSERT INTO people (key, name, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (key, name, at),
            )
            return str(connection.execute(sql, (key,)).fetchone()[0])

        return str(await self._writer.do(work))

    def incoming(self) -> AbstractAsyncContextManager[IncomingFile]:
        """Receive a file; see `Store.incoming`."""
        return self._blobs.incoming()

    def outgoing(self, sha256: bytes) -> AbstractAsyncContextManager[OutgoingFile]:
        """Read a file; see `Store.outgoing`."""
        return self._blobs.outgoing(sha256)

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await trio.to_thread.run_sync(query, self._reader, limiter=self._reading)
        except sqlite3.Error as error:
            raise _explain(error) from error


@asynccontextmanager
async def open_store(directory: Path) -> AsyncIterator[SqliteStore]:
    """Open (or make) the store in `directory` and hold it until the end of the block.

    Raises `StartupError` when the directory cannot be used or another server uses it.
    """
    with _start_errors(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # noqa: ASYNC240  # once, at start
        lock = FileLock(directory / "lock", timeout=0, thread_local=False).acquire()
    with lock:
        with _start_errors(directory):
            blobs = BlobDirectory(directory / "files")
            connection = _connect(directory / "tchat.db")
        with closing(connection), closing(_connect_to_read(directory / "tchat.db")) as reader:
            writer = _Writer(connection, trio.lowlevel.current_trio_token())
            try:
                yield SqliteStore(writer, reader, blobs)
            finally:
                writer.stop()


def _connect(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)  # what people said is nobody else's business; WAL files follow suit
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)


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

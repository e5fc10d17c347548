"""One SQLite file with one writer thread: group commit, durable transactions, secure deletion.

Group commit: when the writer thread becomes free, all waiting writes, from all groups, go into one
transaction and share one fsync. Batches grow with the load, so that under load a message costs
microseconds; a single write on an idle server costs the latency of the disk.

A write that takes long, such as an erasure or a step of the search index, is made *alone*: after
all ordinary writes that wait, in a transaction of its own, and only one before the next of them. So
a message waits for at most one such write, however many others ask for.

`synchronous=FULL` in WAL mode: a commit that has returned survives a power failure. Only long
changes in many steps, such as those of the search index, do not wait for the disk: with the next
commit of a message, they are on it. A single
connection writes and checkpoints. This also avoids a bug of older SQLite versions: when several
connections do so, a reset of the WAL can corrupt the file. Reads use separate read-only
connections, which writes never block in WAL mode.

Reads use three connections, each with a thread and a queue of its own, so that nobody waits for
heavier work than their own: one for accounts, one for short reads, and one for long ones, such as
searches, which have a deadline.

Deleted data is overwritten (`secure_delete`), but the write-ahead log still contains it until a
checkpoint. `scrub` forces one. SQLite empties the log only while nobody reads from it. So `scrub`
first waits for this process's readers, the slow ones first, and stops new ones for the length of
the checkpoint. The writer thread itself never waits for a reader: if another program reads an older
state of the file, as a backup does, the log cannot be emptied now, and `scrub` says so.

SQLite checkpoints after a commit when the log has about 4 MB, and says nothing if that fails. So
the writer thread looks at the size of the log now and then; if it is large, the thread tries to
empty it, and reports the reason if that fails again and again (`troubles`).

A full disk, an exhausted quota or a limit of the file size rejects the batch and changes nothing.
A database whose disk is full can be opened for reading. If there is not even room for the index of
the write-ahead log, which processes share as a file, it is kept in memory; then no other process
can open the database until this one ends.

A write that meets damaged pages, or rows that are not what was written (see `damage`), is rolled
back and fails alone: the others of its batch are made without it. After any other write error the
contents of the file are unknown, so every later write fails and the server stops.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections import deque
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from tempfile import TemporaryFile
from time import monotonic, sleep
from traceback import clear_frames
from typing import TYPE_CHECKING, TypeVar

import trio

from tchat.errors import Code, Refused, StorageError, TchatError
from tchat.store.base import Conflict, DamageReports, DataDamaged, GroupLookalike, StorageFull
from tchat.store.computing import computing
from tchat.store.sqlite.damage import damage_in
from tchat.store.sqlite.watch import FileWatch
from tchat.store.troubles import Trouble, Troubles
from tchat.transfer.partial_file import is_disk_full

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tchat.store.troubles import TroubleKind

    Work = Callable[[sqlite3.Connection], object]

T = TypeVar("T")

_MAX_BATCH = 1000
_PROBE_SIZE = 1 << 20
_RETRY_SECONDS = (0.01, 0.1)
"""Pauses before the retries of a transaction whose write fails, although there is room."""

SCRUB_AGAIN_SECONDS = 1.0
"""Pause between two attempts to scrub, while another program reads the file."""

SLICE_SECONDS = 0.003
"""How long one step of a long change may occupy the writer thread; messages wait meanwhile."""

_REST = 3
"""How many times as long as a step the pause before the next one is, if others write meanwhile."""

_OPENING_MS = 20
"""How long the checkpoint at the start waits for another program that reads the file."""

LONG_LOG = 16 << 20
"""Size of the write-ahead log from which on a checkpoint must have failed, or soon be done."""

LOOK_SECONDS = 2.0
_LONGEST_LOOK_SECONDS = 300.0
"""Pauses between two looks at a long log; they grow while it cannot be emptied."""

_FAILURES_UNTIL_TOLD = 3
"""Checkpoints that have to fail in a row: another program may read the file for a moment."""

FULL_SECONDS = 10.0
"""How long no write must have failed until the disk counts as having room again."""

_ROOM_ERRORS = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""Errors that may mean a full disk or a limit, which SQLite does not tell apart."""

_INTERRUPT_SECONDS = 0.02
COMPACT_SECONDS = 10.0
"""How long `compact` waits for other programs that read the file."""


class _Job:
    """A write for the writer thread, and the task that waits for it.

    `group` is the group that it is about, if it is about one.
    """

    __slots__ = (
        *("alone", "compact", "done", "durable", "failure", "group", "result", "scrub", "work"),
    )

    def __init__(
        self,
        work: Work,
        *,
        group: str | None,
        alone: bool,
        durable: bool,
        scrub: bool,
        compact: bool,
    ) -> None:
        self.work = work
        self.group = group
        self.alone = alone
        self.durable = durable
        self.scrub = scrub
        self.compact = compact
        self.done = trio.Event()
        self.result: object = None
        self.failure: TchatError | None = None


class QueryInterrupted(Exception):
    """A read took longer than it may, and was stopped."""


class _FailedWrite(StorageError):
    """A write that failed although the disk is not full."""


class _Writer:
    """The writer thread; it gets its jobs from a queue."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        watch: FileWatch,
        token: trio.lowlevel.TrioToken,
        troubles: Troubles,
    ) -> None:
        self._connection = connection
        self._troubles = troubles
        self._told = {trouble.kind for trouble in troubles.current.values()}
        self._full_at = -FULL_SECONDS  # by `monotonic`, as the next one
        self._look_at = 0.0
        self._long_for = 0  # looks at which the log could not be emptied
        self._path = path
        self._watch = watch
        self._token = token
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._alone: deque[_Job] = deque()  # taken from the queue, and still to be done
        self._broken: TchatError | None = None
        self._is_durable = True
        self._thread = threading.Thread(target=self._run, name="tchat-writer", daemon=True)
        self._thread.start()

    async def do(
        self,
        work: Work,
        *,
        group: str | None = None,
        alone: bool = False,
        durable: bool = True,
        scrub: bool = False,
        compact: bool = False,
    ) -> object:
        """Run `work` in a transaction; return its result once the transaction is durable.

        With `alone`, the transaction contains nothing else, and ordinary writes go first. Without
        `durable`, do not wait for the disk. With `scrub`, empty the write-ahead log as well, and
        return None, or why that was impossible. With `compact`, rewrite the file without its unused
        parts. Neither needs a result of `work`. Raises `DataDamaged` about `group` if `work` met
        damage.
        """
        job = _Job(work, group=group, alone=alone, durable=durable, scrub=scrub, compact=compact)
        self._queue.put(job)
        await job.done.wait()
        if job.failure is not None:
            # Many tasks raise the same exception object, which would collect all their tracebacks.
            raise job.failure.with_traceback(None)
        return job.result

    def stop(self) -> None:
        """Finish all waiting jobs and end the thread. Blocks."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        running = True
        while running or self._alone:
            jobs, running = self._next_batch(running)
            if jobs:
                self._execute(jobs)
            if self._alone:
                with computing():
                    self._execute([self._alone.popleft()])

    def _next_batch(self, running: bool) -> tuple[list[_Job], bool]:
        """Take all waiting jobs, and wait for one if there is nothing to do.

        Return those to do together, and whether there may be more.
        """
        jobs: list[_Job] = []
        while running and len(jobs) < _MAX_BATCH:
            if (jobs or self._alone) and self._queue.empty():
                break
            job = self._queue.get()
            if job is None:
                running = False
            else:
                (self._alone if job.alone else jobs).append(job)
        return jobs, running

    def _execute(self, jobs: list[_Job]) -> None:
        self._commit(jobs)
        self._compact([job for job in jobs if job.compact])
        self._scrub([job for job in jobs if job.scrub])
        self._token.run_sync_soon(_finish, jobs)
        if self._broken is None and monotonic() >= self._look_at:
            self._look_at_log()

    def _commit(self, jobs: list[_Job]) -> None:
        failure = self._broken or self._write(jobs)
        if failure is not None:
            self._broken = None if isinstance(failure, StorageFull) else failure
            _fail(jobs, failure)
            if isinstance(failure, StorageFull):
                self._full_at = monotonic()
                self._begin("disk_full", "no write is possible")
        elif "disk_full" in self._told and monotonic() >= self._full_at + FULL_SECONDS:
            self._end("disk_full")

    def _begin(self, kind: TroubleKind, reason: str) -> None:
        """Report that a trouble begins, unless it has begun."""
        if kind not in self._told:
            self._told.add(kind)
            trouble = Trouble(kind, reason, _size_of_log(self._path))
            self._token.run_sync_soon(self._troubles.begin, trouble)

    def _end(self, kind: TroubleKind) -> None:
        if kind in self._told:
            self._told.discard(kind)
            self._token.run_sync_soon(self._troubles.end, kind)

    def _look_at_log(self) -> None:
        """Empty a long write-ahead log: SQLite should have done so, and does not tell why not."""
        pause, reason = LOOK_SECONDS, None
        if _size_of_log(self._path) > LONG_LOG:
            reason = _empty_log(self._connection, 0)
        if reason is None:
            self._long_for = 0
            self._end("checkpoint_failed")
        else:
            self._long_for += 1
            pause = min(LOOK_SECONDS * 2**self._long_for, _LONGEST_LOOK_SECONDS)
            if self._long_for >= _FAILURES_UNTIL_TOLD:
                self._begin("checkpoint_failed", reason)
        self._look_at = monotonic() + pause

    def _write(self, jobs: list[_Job]) -> TchatError | None:
        """Run the jobs in one transaction; return the reason if that is impossible.

        A write may fail although there is room right after it: somebody, such as an upload that has
        failed for the same reason, may have made room meanwhile. If it fails again and again, the
        disk is damaged.
        """
        failure = self._attempt(jobs)
        for pause in _RETRY_SECONDS:
            if not isinstance(failure, _FailedWrite):
                break
            sleep(pause)
            failure = self._attempt(jobs)
        return failure

    def _attempt(self, jobs: list[_Job]) -> TchatError | None:
        """Run the jobs in one transaction; if that fails, roll it back and return the reason.

        A job that meets damaged data fails alone: the transaction begins again without it. Each
        group has one append at a time, so that there are few of them.
        """
        try:
            while jobs:
                self._set_durable(any(job.durable for job in jobs))
                self._connection.execute("BEGIN IMMEDIATE")
                damaged = next((job for job in jobs if not self._do(job)), None)
                if damaged is None:
                    self._commit_transaction(jobs)
                    break
                self._connection.rollback()
                jobs = [job for job in jobs if job is not damaged]
        except Exception as error:  # noqa: BLE001  # if the thread died, tasks would wait forever
            with suppress(sqlite3.Error):
                self._connection.rollback()
            return self._reason_of(error)
        return self._watch.lost()

    def _commit_transaction(self, jobs: list[_Job]) -> None:
        """Commit the jobs.

        The search index writes what it has collected only now. If it meets damage, which of the
        jobs did turns out when each is done alone.
        """
        try:
            self._connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CORRUPT:
                raise
            self._connection.rollback()
            if len(jobs) > 1:
                self._do_each_alone(jobs)
            else:
                jobs[0].failure = damage_in(error, jobs[0].group)

    def _do_each_alone(self, jobs: list[_Job]) -> None:
        """Do each job in a transaction of its own; those that fail do not fail the others."""
        for job in jobs:
            failure = self._broken or self._write([job])
            if failure is not None:
                job.failure = failure
                self._broken = None if isinstance(failure, StorageFull) else failure

    def _set_durable(self, durable: bool) -> None:
        """Make the next commit wait for the disk, or not."""
        if durable != self._is_durable:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._is_durable = durable

    def _reason_of(self, error: Exception) -> TchatError:
        """Return the reason of a failed transaction.

        SQLite calls it an I/O error if a write goes beyond a quota or the largest size of a file,
        and does not tell the reason: so try to write as much.
        """
        failure = _explain(error)
        is_full = isinstance(failure, _FailedWrite) and _hits_limit(self._path)
        return StorageFull() if is_full else failure

    def _scrub(self, jobs: list[_Job]) -> None:
        """Empty the write-ahead log if that was asked for, without waiting for any reader."""
        if not jobs or self._broken is not None:
            return
        reason = _empty_log(self._connection, 0)
        for job in jobs:
            job.result = reason

    def _compact(self, jobs: list[_Job]) -> None:
        if not jobs or self._broken is not None:
            return
        self._watch.expect_shrinking()
        try:
            self._connection.execute("VACUUM")
        except sqlite3.Error as error:  # the file is as it was before
            is_full = isinstance(self._reason_of(error), StorageFull)
            unknown = Refused(
                Code.INTERNAL,
                f"The database could not be rewritten: {error}. It is as it was; try again later.",
            )
            _fail(jobs, StorageFull() if is_full else unknown)

    def _do(self, job: _Job) -> bool:
        """Do a job; return False if it met damaged data, and the transaction has to begin again."""
        job.failure = None  # of an earlier attempt
        try:
            job.result = job.work(self._connection)
        except (Conflict, GroupLookalike) as error:  # before anything was written: only this job
            job.failure = error
        except Exception as error:
            job.failure = damage_in(error, job.group)
            if job.failure is None:
                raise
            return False
        return True


class _Reader:
    """A read-only connection; its queries run in a thread, one after another."""

    def __init__(self, connection: sqlite3.Connection, damage: DamageReports) -> None:
        self.turn = trio.CapacityLimiter(1)
        self._connection = connection
        self._damage = damage

    async def run(
        self,
        query: Callable[[sqlite3.Connection], T],
        seconds: float | None = None,
        group: str | None = None,
    ) -> T:
        """Run a query on committed data; with `seconds`, in a transaction, and no longer than that.

        Raises `DataDamaged` about `group`, `StorageError`, or `QueryInterrupted`.
        """
        if seconds is not None:
            query = partial(_interrupted_after, seconds, query)
        try:
            return await trio.to_thread.run_sync(query, self._connection, limiter=self.turn)
        except Exception as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                raise QueryInterrupted from None
            damaged = damage_in(error, group)
            if damaged is not None:
                self._damage.report(damaged)
                raise damaged from error
            if isinstance(error, sqlite3.Error):
                raise _explain(error) from error
            raise


class Database:
    """An open database: `write` uses the writer thread, reads run concurrently with it.

    `writes` counts the transactions that were asked for; `damage` has the damaged places that were
    met. `scrub_seconds` is how long the last scrub occupied the writer thread, and stopped all
    readers. `scrub_failures` counts those that failed in a row.
    """

    def __init__(
        self,
        writer: _Writer,
        accounts: sqlite3.Connection,
        short: sqlite3.Connection,
        long: sqlite3.Connection,
        *,
        path: Path,
        damage: DamageReports,
        troubles: Troubles,
        is_scrubbed: bool = True,
    ) -> None:
        self.damage = damage
        self.writes = 0
        self.scrub_seconds = 0.0
        self.scrub_failures = 0
        self.troubles = troubles
        self._path = path
        self.is_scrubbed = is_scrubbed
        self._writer = writer
        self._accounts = _Reader(accounts, damage)
        self._short = _Reader(short, damage)
        self._long = _Reader(long, damage)
        self._slicing = trio.Lock()

    async def write(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        group: str | None = None,
        alone: bool = False,
    ) -> T:
        """Run `work` in a transaction; return its result once that is durable.

        Work that takes long is done `alone`, so that it delays others less.

        Raises `StorageFull` or `DataDamaged`, about `group` (nothing was written), `StorageError`
        (the database is broken), or a `Conflict` or `GroupLookalike` that `work` raised before it
        wrote anything.
        """
        self.writes += 1
        result: T = await self._do(work, group, alone=alone)  # type: ignore[assignment]  # what work returned
        return result

    async def _do(
        self, work: Work, group: str | None, *, alone: bool, durable: bool = True
    ) -> object:
        """Let the writer do `work`; report the damage that it meets."""
        self._check(group)
        try:
            return await self._writer.do(work, group=group, alone=alone, durable=durable)
        except DataDamaged as damaged:
            self.damage.report(damaged)
            raise

    def _check(self, group: str | None) -> None:
        """Raise `LogDamaged` if nothing of this group is to be believed."""
        if group in self.damage.blocked:
            raise self.damage.blocked[group].with_traceback(None)

    async def write_in_slices(
        self,
        step: Callable[..., bool],
        group: str | None = None,
        prepare: Callable[[sqlite3.Connection], T] | None = None,
    ) -> None:
        """Repeat a short transaction until it returns True; if others write, with pauses.

        With `prepare`, a long query before each step, the step gets its result.

        Steps of several callers alternate, and the writes of others run between two steps. They are
        durable only with the next `write` or `scrub`: after a power failure, all or the latest of
        them may not have happened. Raises what `write` raises.
        """
        done = False
        while not done:
            async with self._slicing:
                work: Work = step
                if prepare is not None:
                    prepared = await self.read_slowly(prepare, group=group)
                    work = partial(_with, step, prepared)
                writes, began = self.writes, trio.current_time()
                done = bool(await self._do(work, group, alone=True, durable=False))
                if self.writes > writes:  # the writer thread has other work
                    await trio.sleep(_REST * (trio.current_time() - began))

    async def read(self, query: Callable[[sqlite3.Connection], T], group: str | None = None) -> T:
        """Run a short query on committed data. Raises `StorageError` or `DataDamaged`."""
        self._check(group)
        return await self._short.run(query, group=group)

    async def read_account(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query about names and keys, for which a login waits. Raises `StorageError`."""
        return await self._accounts.run(query)

    async def read_slowly(
        self,
        query: Callable[[sqlite3.Connection], T],
        seconds: float | None = None,
        group: str | None = None,
    ) -> T:
        """Run a long query; with `seconds`, in a transaction, and no longer than that.

        Raises `StorageError`, `DataDamaged` about `group`, or `QueryInterrupted`.
        """

        def compute(connection: sqlite3.Connection) -> T:
            with computing():
                return query(connection)

        return await self._long.run(compute, seconds, group)

    async def scrub(self) -> bool:
        """Remove all deleted data from the write-ahead log; return whether that was possible.

        It is not while another program reads the file, or if the disk is full.
        """
        began = trio.current_time()
        # Most of the time nobody reads. Besides, this writes the log to the file, which may take
        # long on a slow disk; so readers are stopped at most for what is little then.
        reason = await self._writer.do(_nothing, scrub=True)
        self.scrub_seconds = trio.current_time() - began
        if reason is not None:
            async with self._long.turn, self._short.turn, self._accounts.turn:
                began = trio.current_time()
                reason = await self._writer.do(_nothing, scrub=True)
                self.scrub_seconds = trio.current_time() - began
        self.is_scrubbed = reason is None
        if reason is None:
            self.scrub_failures = 0
            self.troubles.end("scrub_failed")
        else:
            self.scrub_failures += 1
            if self.scrub_failures >= _FAILURES_UNTIL_TOLD:
                size = _size_of_log(self._path)
                self.troubles.begin(Trouble("scrub_failed", str(reason), size))
        return self.is_scrubbed

    async def compact(self) -> None:
        """Rewrite the file without its unused parts, then scrub. Other writes wait meanwhile.

        Raises `StorageFull`, or `Refused`: busy if another program keeps reading the file, so that
        deleted data stays in the write-ahead log for now.
        """
        await self._writer.do(_nothing, compact=True)
        with trio.move_on_after(COMPACT_SECONDS):
            while True:
                if await self.scrub():
                    return
                await trio.sleep(SCRUB_AGAIN_SECONDS)
        raise Refused(
            Code.BUSY,
            "Another program, such as a backup, is reading the database; wait until it has ended.",
        )


def _with(step: Callable[..., bool], prepared: object, connection: sqlite3.Connection) -> bool:
    return step(connection, prepared)


def _nothing(_: sqlite3.Connection) -> None:
    """Do nothing: for a job that only has to be done in its turn."""


def _interrupted_after(
    seconds: float, query: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection
) -> T:
    """Run a query in a transaction, and interrupt all its statements from `seconds` on.

    All its statements read the same state, despite concurrent writes. An interrupt is in force
    until no statement of the connection is active. So to end the transaction, first end the watch
    and close all cursors; otherwise, that would be interrupted as well.
    """
    ended = threading.Event()

    def interrupt() -> None:
        if not ended.wait(seconds):
            connection.interrupt()
            # That has no effect between two statements, so do it again until the query has ended.
            while not ended.wait(_INTERRUPT_SECONDS):
                connection.interrupt()

    watch = threading.Thread(target=interrupt, name="tchat-deadline", daemon=True)
    connection.execute("BEGIN")
    watch.start()
    try:
        return query(connection)
    except sqlite3.Error as error:
        clear_frames(error.__traceback__)  # they refer to cursors
        raise
    finally:
        ended.set()
        watch.join()
        connection.rollback()


@asynccontextmanager
async def open_database(
    path: Path, prepare: Callable[[sqlite3.Connection, DamageReports], None], *watched: Path
) -> AsyncIterator[Database]:
    """Open or create the file for the length of the block; `prepare` sets up its tables.

    It reports the damage that it can do without. Writes fail from when it, or one of the `watched`
    files, is no longer at its path. Raises OSError or sqlite3.Error, or what `prepare` raises.
    """
    troubles, damage = Troubles(), DamageReports()
    damage.file = str(path)
    connection, is_scrubbed, vfs = _connect_if_full(
        path, lambda opened: prepare(opened, damage), troubles
    )
    with (
        closing(connection),
        closing(_connect_read_only(path, vfs)) as accounts,
        closing(_connect_read_only(path, vfs)) as short,
        closing(_connect_read_only(path, vfs)) as long,
    ):
        watch = FileWatch(path, *watched)
        watch.lost()  # remembers what is there now
        writer = _Writer(connection, path, watch, trio.lowlevel.current_trio_token(), troubles)
        try:
            yield Database(
                writer,
                accounts,
                short,
                long,
                path=path,
                damage=damage,
                troubles=troubles,
                is_scrubbed=is_scrubbed,
            )
        finally:
            writer.stop()


def _connect_if_full(
    path: Path, prepare: Callable[[sqlite3.Connection], None], troubles: Troubles
) -> tuple[sqlite3.Connection, bool, str]:
    """Open the file, also on a full disk, which is reported; return `_connect` and the VFS."""
    vfs = ""
    try:
        opened = _connect(path, prepare, vfs)
    except sqlite3.Error:
        if not _hits_limit(path):
            raise
        vfs = _ALONE
        opened = _connect(path, prepare, vfs)
        troubles.begin(Trouble("opened_alone", "the disk is full", _size_of_log(path)))
    if _hits_limit(path):
        troubles.begin(Trouble("disk_full", "no write is possible", _size_of_log(path)))
    return *opened, vfs


def _connect(
    path: Path, prepare: Callable[[sqlite3.Connection], None], vfs: str
) -> tuple[sqlite3.Connection, bool]:
    """Open the file; also return whether its write-ahead log is empty."""
    path.touch(mode=0o600)  # private; SQLite gives the WAL files the same mode
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw{vfs}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        prepare(connection)
        is_scrubbed = _empty_log(connection, _OPENING_MS) is None
    except BaseException:
        connection.close()
        raise
    return connection, is_scrubbed


def _empty_log(connection: sqlite3.Connection, wait_ms: int) -> str | None:
    """Write the contents of the write-ahead log to the file, and truncate the log.

    Return None, or why that is impossible: readers keep it for longer than `wait_ms`, or the file
    cannot be written. Nothing is lost then: the log has it all.
    """
    try:
        connection.execute(f"PRAGMA busy_timeout = {wait_ms}")
        is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return "it is being read, by a backup or another program" if is_busy else None


@contextmanager
def postponed_if_full(connection: sqlite3.Connection) -> Iterator[None]:
    """Leave a change at the start to the background if the disk is full."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if connection.in_transaction:
            connection.rollback()
        if not _may_be_full(error):
            raise


def _may_be_full(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_FULL or code in _ROOM_ERRORS


def _size_of_log(path: Path) -> int:
    """Return the size of the write-ahead log of a database."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size
    except OSError:
        return 0


def _hits_limit(path: Path) -> bool:
    """Return whether no file can grow beyond the largest one of the database."""
    files = path.parent.glob(f"{path.name}*")
    try:
        largest = max((file.stat().st_size for file in files), default=0)
        with TemporaryFile(dir=path.parent, buffering=0) as probe:
            probe.seek(largest)
            return probe.write(bytes(_PROBE_SIZE)) < _PROBE_SIZE
    except OSError as reason:
        return is_disk_full(reason)
    except Exception:  # noqa: BLE001  # if the thread died, tasks would wait forever
        return False


_ALONE = "&vfs=unix-excl"
"""Keeps the index of the write-ahead log in memory, and other processes out."""


def _connect_read_only(path: Path, vfs: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{vfs}", uri=True, check_same_thread=False
    )


def _finish(jobs: list[_Job]) -> None:
    for job in jobs:
        job.done.set()


def _fail(jobs: list[_Job], failure: TchatError) -> None:
    for job in jobs:
        job.failure = job.failure or failure


def _explain(error: Exception) -> TchatError:
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return StorageFull()
    kind = _FailedWrite if code in _ROOM_ERRORS else StorageError
    return kind(Code.INTERNAL, f"The log cannot be written or read: {error}.")

"""What the SQLite store promises besides: that it lasts, shares commits, and knows its limits."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.errors import Code, StorageError
from tchat.store.base import StorageFull
from tchat.store.sqlite.schema import APPLICATION_ID, MIGRATIONS
from tchat.store.sqlite.store import SqliteStore, open_store
from tests.store.appender import GROUPS
from tests.store.batches import append, last_seq, packed, read_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

KEY = bytes(32)
ROOT = Path(__file__).parents[2]


class Tapped:
    """The writer's connection, with the statements noted that pass; `failing` ones fail."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.statements: list[str] = []
        self.failing = ""
        self._connection = connection

    def execute(self, sql: str, parameters: tuple[object, ...] = ()) -> sqlite3.Cursor:
        self.statements.append(sql)
        if sql == self.failing:
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(sql, parameters)

    def rollback(self) -> None:
        self._connection.rollback()


@pytest.fixture
def tap(sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tapped]:
    """Stand between the writing thread and its connection."""
    tap = Tapped(sqlite._database._writer._connection)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite._database._writer, "_connection", tap)
        yield tap


async def pragma(store: SqliteStore, statement: str) -> object:
    """Run a pragma on the writer's connection, in its thread; return what it answers."""
    row = await store._database._writer.do(
        lambda connection: connection.execute(statement).fetchone()
    )
    assert isinstance(row, tuple)
    return row[0]


@asynccontextmanager
async def busy_writer(store: SqliteStore) -> AsyncIterator[None]:
    """Keep the writing thread at work in one transaction until the end of the block."""
    started, go_on = threading.Event(), threading.Event()

    def work(_: sqlite3.Connection) -> None:
        started.set()
        assert go_on.wait(30), "the block waited for the writing thread"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store._database._writer.do, work)
        await trio.to_thread.run_sync(started.wait)
        try:
            yield
        finally:
            go_on.set()


# ------------------------------------------------------------------ it lasts


async def test_whatever_was_acknowledged_is_there_when_the_store_is_opened_again(
    tmp_path: Path,
) -> None:
    async with open_store(tmp_path) as store:
        await append(store, "ops", b"one", b"two")
        await append(store, "dev", b"eins")
        await store.set_cursors("ops", {"alice": 2})
        await store.accounts.claim("alice", "Alice", KEY, 1)
    async with open_store(tmp_path) as store:
        assert await read_all(store, "ops") == [b"one", b"two"]
        assert await read_all(store, "dev") == [b"eins"]
        assert await store.cursors("ops") == {"alice": 2}
        assert await store.accounts.claim("alice", "ALICE", KEY, 2) == "Alice"


async def test_a_log_goes_on_where_it_ended_when_the_store_is_opened_again(tmp_path: Path) -> None:
    for body in (b"one", b"two", b"three"):
        async with open_store(tmp_path) as store:
            await append(store, "ops", body)
    async with open_store(tmp_path) as store:
        assert await read_all(store, "ops") == [b"one", b"two", b"three"]


def acknowledged_before_death(directory: Path) -> dict[str, int]:
    """Kill a program in the middle of its appends; return the last seq acknowledged to each."""
    command = [sys.executable, "-m", "tests.store.appender", str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(200)]
        process.kill()
        lines += process.stdout.readlines()
    assert process.returncode == -9
    return {group: int(seq) for group, seq in (line.split() for line in lines if line)}


async def test_whatever_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    acknowledged = await trio.to_thread.run_sync(acknowledged_before_death, tmp_path)
    assert acknowledged.keys() == set(GROUPS)
    async with open_store(tmp_path) as store:
        for group, seq in acknowledged.items():
            last = await last_seq(store, group)
            assert seq <= last <= seq + 1
            bodies = await read_all(store, group)
            assert bodies == [str(number).encode() for number in range(1, last + 1)]


async def test_a_commit_waits_for_the_disk(sqlite: SqliteStore) -> None:
    full = 2
    assert await pragma(sqlite, "PRAGMA synchronous") == full
    assert await pragma(sqlite, "PRAGMA journal_mode") == "wal"


async def test_the_file_says_whose_it_is(sqlite: SqliteStore) -> None:
    assert await pragma(sqlite, "PRAGMA application_id") == APPLICATION_ID
    assert await pragma(sqlite, "PRAGMA user_version") == len(MIGRATIONS)


async def test_an_append_that_nobody_waits_for_any_more_is_whole_or_not_at_all(
    tmp_path: Path,
) -> None:
    async with open_store(tmp_path) as store, trio.open_nursery() as nursery:
        nursery.start_soon(append, store, "ops", b"one", b"two")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    async with open_store(tmp_path) as store:
        assert await read_all(store, "ops") in ([], [b"one", b"two"])


# ------------------------------------------------------------------ group commit


async def test_appends_that_wait_at_the_same_time_share_one_commit(
    sqlite: SqliteStore, tap: Tapped
) -> None:
    async with trio.open_nursery() as nursery, busy_writer(sqlite):
        for number in range(100):
            nursery.start_soon(sqlite.append, f"group-{number}", 0, 1, packed(b"one"))
        await trio.testing.wait_all_tasks_blocked()
    assert tap.statements.count("COMMIT") == 2
    for number in range(100):
        assert await read_all(sqlite, f"group-{number}") == [b"one"]


async def test_a_conflict_concerns_nobody_else_in_the_commit(sqlite: SqliteStore) -> None:
    outcomes: dict[str, str] = {}

    async def try_to_append(group: str, expected: int) -> None:
        try:
            await sqlite.append(group, expected, 1, packed(b"one"))
            outcomes[group] = "appended"
        except StorageError:
            outcomes[group] = "conflict"

    async with trio.open_nursery() as nursery:
        for group, expected in (("a", 0), ("b", 7), ("c", 0)):
            nursery.start_soon(try_to_append, group, expected)
    assert outcomes == {"a": "appended", "b": "conflict", "c": "appended"}


async def test_reading_waits_for_no_writer(sqlite: SqliteStore) -> None:
    await append(sqlite, "ops", b"one")
    async with busy_writer(sqlite):
        assert await read_all(sqlite, "ops") == [b"one"]


# ------------------------------------------------------------------ a full disk


async def test_a_full_disk_refuses_and_writes_nothing(sqlite: SqliteStore) -> None:
    await append(sqlite, "ops", b"one")
    await pragma(sqlite, "PRAGMA max_page_count = 1")  # no further page, that is
    with pytest.raises(StorageFull) as caught:
        await append(sqlite, "ops", bytes(100_000))
    assert caught.value.code == Code.STORAGE_FULL
    assert await last_seq(sqlite, "ops") == 1
    assert await read_all(sqlite, "ops") == [b"one"]


async def test_appends_work_again_once_there_is_room_again(sqlite: SqliteStore) -> None:
    await append(sqlite, "ops", b"one")
    await pragma(sqlite, "PRAGMA max_page_count = 1")
    with pytest.raises(StorageFull):
        await append(sqlite, "ops", bytes(100_000))
    await pragma(sqlite, "PRAGMA max_page_count = 1000000")
    await append(sqlite, "ops", bytes(100_000))
    assert await read_all(sqlite, "ops") == [b"one", bytes(100_000)]


# ------------------------------------------------------------------ a broken disk


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT"])
async def test_a_disk_that_fails_once_is_not_trusted_again(
    sqlite: SqliteStore, tap: Tapped, statement: str
) -> None:
    await append(sqlite, "ops", b"one")
    tap.failing = statement
    with pytest.raises(StorageError, match="disk I/O error"):
        await append(sqlite, "ops", b"two")
    tap.failing = ""
    with pytest.raises(StorageError, match="disk I/O error"):
        await append(sqlite, "ops", b"two")
    with pytest.raises(StorageError):
        await append(sqlite, "dev", b"eins")
    with pytest.raises(StorageError):
        await sqlite.set_cursors("ops", {"alice": 1})


async def test_a_broken_store_can_still_be_read(sqlite: SqliteStore, tap: Tapped) -> None:
    await append(sqlite, "ops", b"one")
    tap.failing = "COMMIT"
    with pytest.raises(StorageError):
        await append(sqlite, "ops", b"two")
    assert await read_all(sqlite, "ops") == [b"one"]


async def test_everybody_in_a_commit_that_failed_hears_of_it(
    sqlite: SqliteStore, tap: Tapped
) -> None:
    failures: list[StorageError] = []

    async def try_to_append(group: str) -> None:
        try:
            await sqlite.append(group, 0, 1, packed(b"lost"))
        except StorageError as error:
            failures.append(error)

    tap.failing = "COMMIT"
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(try_to_append, f"group-{number}")
    assert len(failures) == 10


async def test_a_fault_in_the_work_itself_does_not_stop_the_writing_thread(
    sqlite: SqliteStore,
) -> None:
    with pytest.raises(StorageError):
        await sqlite._database._writer.do(lambda connection: connection.execute("SELECT nonsense"))
    with pytest.raises(StorageError):
        await append(sqlite, "ops", b"one")


async def test_a_log_that_cannot_be_read_is_a_storage_error(sqlite: SqliteStore) -> None:
    await sqlite._database._writer.do(lambda connection: connection.execute("DROP TABLE segments"))
    with pytest.raises(StorageError, match="no such table"):
        await sqlite.read("ops", 0)

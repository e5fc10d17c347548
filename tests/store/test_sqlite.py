"""What the SQLite store promises besides: that it lasts, shares commits, and knows its limits."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, closing
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.errors import Code, Refused, StartupError, StorageError
from tchat.store import blobs
from tchat.store.base import StorageFull
from tchat.store.migrations import APPLICATION_ID, MIGRATIONS
from tchat.store.sqlite import SqliteStore, open_store
from tests.store.appender import GROUPS
from tests.store.batches import append, packed, read_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

KEY = bytes(32)
CONTENT = b"the numbers are in"
DIGEST = hashlib.sha256(CONTENT).digest()
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


async def keep(store: SqliteStore) -> None:
    async with store.incoming() as incoming:
        await incoming.write(CONTENT)
        await incoming.keep(DIGEST)


# ------------------------------------------------------------------ it lasts


async def test_whatever_was_acknowledged_is_there_when_the_store_is_opened_again(
    tmp_path: Path,
) -> None:
    async with open_store(tmp_path) as store:
        await append(store, "ops", b"one", b"two")
        await append(store, "dev", b"eins")
        await store.set_cursors("ops", {"alice": 2})
        await store.accounts.claim("alice", "Alice", KEY, 1)
        await keep(store)
    async with open_store(tmp_path) as store:
        assert await read_all(store, "ops") == [b"one", b"two"]
        assert await read_all(store, "dev") == [b"eins"]
        assert await store.cursors("ops") == {"alice": 2}
        assert await store.accounts.claim("alice", "ALICE", KEY, 2) == "Alice"
        async with store.outgoing(DIGEST) as outgoing:
            assert await outgoing.read(1000) == CONTENT


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
            last = await store.last(group)
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
    assert await sqlite.last("ops") == 1
    assert await read_all(sqlite, "ops") == [b"one"]


async def test_appends_work_again_once_there_is_room_again(sqlite: SqliteStore) -> None:
    await append(sqlite, "ops", b"one")
    await pragma(sqlite, "PRAGMA max_page_count = 1")
    with pytest.raises(StorageFull):
        await append(sqlite, "ops", bytes(100_000))
    await pragma(sqlite, "PRAGMA max_page_count = 1000000")
    await append(sqlite, "ops", bytes(100_000))
    assert await read_all(sqlite, "ops") == [b"one", bytes(100_000)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_full_disk_refuses_files(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "_create", lambda _: FileIO("/dev/full", "wb"))
    async with sqlite.incoming() as incoming:
        with pytest.raises(StorageFull):
            await incoming.write(CONTENT)


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


async def test_a_place_for_files_that_is_gone_is_a_storage_error(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    (tmp_path / "data" / "files").rmdir()
    with pytest.raises(StorageError):
        await keep(sqlite)


# ------------------------------------------------------------------ files


def files_in(directory: Path) -> list[str]:
    return [path.name for path in (directory / "files").rglob("*") if path.is_file()]


async def test_a_file_is_stored_under_its_digest_and_once(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    await keep(sqlite)
    await keep(sqlite)
    assert files_in(tmp_path / "data") == [DIGEST.hex()]


async def test_a_file_is_on_disk_before_it_has_its_name_and_its_name_before_it_is_kept(
    sqlite: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    place = tmp_path / "data" / "files" / DIGEST.hex()[:2] / DIGEST.hex()

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        assert place.exists() == (len(synced) > 1)

    monkeypatch.setattr("os.fsync", fsync)
    await keep(sqlite)
    assert synced == [path.stat().st_ino for path in (place, place.parent, place.parent.parent)]


async def test_an_upload_that_was_given_up_leaves_no_file(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    async with sqlite.incoming() as incoming:
        await incoming.write(CONTENT)
        assert len(files_in(tmp_path / "data")) == 1
    assert files_in(tmp_path / "data") == []


async def test_an_upload_that_was_cancelled_leaves_no_file(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    with trio.CancelScope() as scope:
        async with sqlite.incoming() as incoming:
            await incoming.write(CONTENT)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert files_in(tmp_path / "data") == []


async def test_an_upload_with_a_wrong_digest_leaves_no_file(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    async with sqlite.incoming() as incoming:
        await incoming.write(CONTENT + b"!")
        with pytest.raises(Refused):
            await incoming.keep(DIGEST)
    assert files_in(tmp_path / "data") == []


async def test_what_a_crash_left_of_an_upload_is_removed_at_the_start(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await keep(store)
    (tmp_path / "files" / "incoming-0123456789abcdef").write_bytes(b"half a fi")
    async with open_store(tmp_path):
        assert files_in(tmp_path) == [DIGEST.hex()]


async def test_what_the_store_makes_is_for_its_owner_alone(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    await keep(sqlite)
    data = tmp_path / "data"
    for path in (data, data / "files", *(data / "files").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


# ------------------------------------------------------------------ starting


async def test_a_directory_is_made_with_all_that_leads_to_it(tmp_path: Path) -> None:
    async with open_store(tmp_path / "far" / "away") as store:
        await append(store, "ops", b"one")
    assert (tmp_path / "far" / "away" / "tchat.db").is_file()


async def assert_cannot_start(directory: Path, reason: str) -> None:
    with pytest.raises(StartupError, match=reason) as caught:
        async with open_store(directory):
            pass
    assert caught.value.code == Code.CANNOT_START


async def test_a_directory_serves_one_server_at_a_time(sqlite: SqliteStore, tmp_path: Path) -> None:
    await assert_cannot_start(tmp_path / "data", "Another tchat server is using")
    await append(sqlite, "ops", b"one")


async def test_a_directory_is_free_again_once_its_server_has_stopped(tmp_path: Path) -> None:
    async with open_store(tmp_path):
        pass
    async with open_store(tmp_path) as store:
        await append(store, "ops", b"one")


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    await assert_cannot_start(tmp_path, "newer tchat")
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


async def test_a_file_where_the_directory_should_be_is_no_place_to_start(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    await assert_cannot_start(tmp_path / "data", "cannot be used: File exists")


async def test_below_a_file_is_no_place_to_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    await assert_cannot_start(tmp_path / "file" / "data", "cannot be used: Not a directory")


async def test_something_else_in_place_of_the_database_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "tchat.db").write_text("Dear diary, this is not a database. " * 50)
    await assert_cannot_start(tmp_path, "not a database")
    assert (tmp_path / "tchat.db").read_text().startswith("Dear diary")


async def test_a_start_that_failed_does_not_hold_the_directory(tmp_path: Path) -> None:
    (tmp_path / "tchat.db").mkdir()
    await assert_cannot_start(tmp_path, "unable to open")
    (tmp_path / "tchat.db").rmdir()
    async with open_store(tmp_path) as store:
        await append(store, "ops", b"one")


def modes(directory: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in directory.glob("tchat.db*")}


async def test_what_people_said_is_for_the_servers_owner_only(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.append("ops", 0, 1, b"\0\0\0\0")
        assert modes(tmp_path) == {0o600}

"""The SQLite store: durability, group commit, full disks and write errors."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.core.group.messages import Edited, Posted
from tchat.errors import Code, StorageError
from tchat.store.base import StorageFull
from tchat.store.open import open_store
from tchat.store.sqlite import log as log_module
from tchat.store.sqlite.database import QueryInterrupted
from tchat.store.sqlite.schema import APPLICATION_ID, MIGRATIONS
from tests.helpers import GUARD
from tests.store.appender import GROUPS
from tests.store.batches import append, last_seq, packed, read_all
from tests.store.busy import busy
from tests.store.logs import post, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.store.sqlite.store import SqliteStore

KEY = bytes(32)
ROOT = Path(__file__).parents[2]


class Tapped:
    """The writer's connection; records statements, and makes the `failing` ones fail."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.statements: list[str] = []
        self.failing = ""
        self.code = sqlite3.SQLITE_IOERR
        self._connection = connection

    def execute(self, sql: str, parameters: tuple[object, ...] = ()) -> sqlite3.Cursor:
        self.statements.append(sql)
        if sql == self.failing:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self.code
            raise error
        return self._connection.execute(sql, parameters)

    def rollback(self) -> None:
        self._connection.rollback()


@pytest.fixture
def tap(sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tapped]:
    """Intercept the statements of the writer thread."""
    tap = Tapped(sqlite.database._writer._connection)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite.database._writer, "_connection", tap)
        yield tap


async def pragma(store: SqliteStore, statement: str) -> object:
    """Run a pragma on the writer's connection, in its thread; return the result."""
    row = await store.database.write(lambda connection: connection.execute(statement).fetchone())
    assert isinstance(row, tuple)
    return row[0]


# ------------------------------------------------------------------ durability


async def test_acknowledged_events_survive_a_restart(
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


async def test_a_reopened_log_continues_at_its_end(tmp_path: Path) -> None:
    for body in (b"one", b"two", b"three"):
        async with open_store(tmp_path) as store:
            await append(store, "ops", body)
    async with open_store(tmp_path) as store:
        assert await read_all(store, "ops") == [b"one", b"two", b"three"]


def acknowledged_before_death(directory: Path) -> dict[str, int]:
    """Kill a program amid its appends; return the last acknowledged seq of each group."""
    command = [sys.executable, "-m", "tests.store.appender", str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(200)]
        process.kill()
        lines += process.stdout.readlines()
    assert process.returncode == -9
    whole = (line.split() for line in lines if line.endswith("\n"))  # the kill may cut the last
    return {group: int(seq) for group, seq in whole}


async def test_acknowledged_events_survive_a_kill(tmp_path: Path) -> None:
    acknowledged = await trio.to_thread.run_sync(acknowledged_before_death, tmp_path)
    assert acknowledged.keys() == set(GROUPS)
    async with open_store(tmp_path) as store:
        for group, seq in acknowledged.items():
            last = await last_seq(store, group)
            assert seq <= last <= seq + 1
            bodies = await read_all(store, group)
            assert bodies == [str(number).encode() for number in range(1, last + 1)]


async def test_a_commit_is_synchronous(sqlite: SqliteStore) -> None:
    full = 2
    assert await pragma(sqlite, "PRAGMA synchronous") == full
    assert await pragma(sqlite, "PRAGMA journal_mode") == "wal"


async def test_the_file_has_the_application_id(sqlite: SqliteStore) -> None:
    assert await pragma(sqlite, "PRAGMA application_id") == APPLICATION_ID
    assert await pragma(sqlite, "PRAGMA user_version") == len(MIGRATIONS)


async def test_a_cancelled_append_is_atomic(
    tmp_path: Path,
) -> None:
    async with open_store(tmp_path) as store, trio.open_nursery() as nursery:
        nursery.start_soon(append, store, "ops", b"one", b"two")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    async with open_store(tmp_path) as store:
        assert await read_all(store, "ops") in ([], [b"one", b"two"])


# ------------------------------------------------------------------ group commit


async def test_waiting_appends_share_one_commit(sqlite: SqliteStore, tap: Tapped) -> None:
    async with trio.open_nursery() as nursery, busy(sqlite.database.write):
        for number in range(100):
            nursery.start_soon(sqlite.append, f"group-{number}", 0, 1, packed(b"one"))
        await trio.testing.wait_all_tasks_blocked()
    assert tap.statements.count("COMMIT") == 2
    for number in range(100):
        assert await read_all(sqlite, f"group-{number}") == [b"one"]


async def test_a_conflict_fails_only_its_own_append(sqlite: SqliteStore) -> None:
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


async def test_reads_do_not_wait_for_the_writer(sqlite: SqliteStore) -> None:
    await append(sqlite, "ops", b"one")
    async with busy(sqlite.database.write):
        assert await read_all(sqlite, "ops") == [b"one"]


async def test_logins_do_not_wait_for_other_reads(sqlite: SqliteStore) -> None:
    await sqlite.accounts.claim("alice", "Alice", KEY, 1)
    async with busy(sqlite.database.read), busy(sqlite.database.read_slowly):
        assert await sqlite.accounts.claim("alice", "alice", KEY, 2) == "Alice"
        assert [key.public for key in await sqlite.accounts.keys("alice")] == [KEY]
        assert not await sqlite.accounts.is_erased("alice")


async def test_edits_are_found_while_others_search(sqlite: SqliteStore) -> None:
    """They are needed for a deletion, for which a whole group waits."""
    async with busy(sqlite.database.read_slowly):
        assert await sqlite.edits_of("ops", 1, 3) == ()


async def test_edits_are_found_in_all_parts(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_EVENTS_PER_PART", 2)
    await post(sqlite, "a message", "another")
    batch = (Posted("text"), Edited(1, "one"), Edited(2, "other"), Edited(1, "two"))
    seqs = [await write(sqlite, "ops", *batch) for _ in range(3)]
    edits = [seq for last in seqs for seq in (last - 2, last)]
    for upto in range(seqs[-1] + 1):
        expected = tuple(seq for seq in edits if seq <= upto)
        assert await sqlite.edits_of("ops", 1, upto) == expected


COUNTING = (
    "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT ?)"
    " SELECT max(i) FROM n"
)
"""A query that counts to a number; for ever if it is negative."""

COUNTING_ALOUD = COUNTING.replace("max(i)", "i")


async def test_a_slow_read_is_interrupted(sqlite: SqliteStore) -> None:
    with pytest.raises(QueryInterrupted):
        await sqlite.database.read_slowly(lambda c: c.execute(COUNTING, (-1,)).fetchone(), 0.01)
    assert await sqlite.database.read_slowly(lambda c: c.execute("SELECT 1").fetchone(), 9) == (1,)


async def test_a_slow_read_of_many_statements_is_interrupted(sqlite: SqliteStore) -> None:
    def query(connection: sqlite3.Connection) -> None:
        while True:
            connection.execute(COUNTING, (10_000,)).fetchone()

    with pytest.raises(QueryInterrupted):
        await sqlite.database.read_slowly(query, 0.01)


async def test_an_interrupted_read_leaves_its_connection_usable(sqlite: SqliteStore) -> None:
    """Although other cursors were open when it was interrupted."""

    def query(connection: sqlite3.Connection) -> None:
        others = [iter(connection.execute(COUNTING_ALOUD, (-1,))) for _ in range(2)]
        assert [next(cursor) for cursor in others] == [(1,), (1,)]
        connection.execute(COUNTING, (-1,)).fetchone()

    for _ in range(2):
        with pytest.raises(QueryInterrupted):
            await sqlite.database.read_slowly(query, 0.01)
        assert not await sqlite.database.read_slowly(lambda c: c.in_transaction)


async def test_long_changes_let_others_write(sqlite: SqliteStore) -> None:
    """A change that goes on until another one is done ends."""
    done: list[int] = []

    async def others() -> None:
        done.append(await append(sqlite, "ops", b"one"))

    with trio.fail_after(GUARD):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sqlite.database.write_in_slices, lambda _: bool(done))
            nursery.start_soon(others)
    assert done == [1]


# ------------------------------------------------------------------ a full disk


async def test_a_full_disk_writes_nothing(sqlite: SqliteStore) -> None:
    await append(sqlite, "ops", b"one")
    await pragma(sqlite, "PRAGMA max_page_count = 1")  # no further page, that is
    with pytest.raises(StorageFull) as caught:
        await append(sqlite, "ops", bytes(100_000))
    assert caught.value.code == Code.STORAGE_FULL
    assert await last_seq(sqlite, "ops") == 1
    assert await read_all(sqlite, "ops") == [b"one"]


async def test_appends_work_once_there_is_room_again(sqlite: SqliteStore) -> None:
    await append(sqlite, "ops", b"one")
    await pragma(sqlite, "PRAGMA max_page_count = 1")
    with pytest.raises(StorageFull):
        await append(sqlite, "ops", bytes(100_000))
    await pragma(sqlite, "PRAGMA max_page_count = 1000000")
    await append(sqlite, "ops", bytes(100_000))
    assert await read_all(sqlite, "ops") == [b"one", bytes(100_000)]


# ------------------------------------------------------------------ a broken disk


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT"])
async def test_a_write_error_breaks_the_store(
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


async def test_removed_files_do_not_end_the_writer(sqlite: SqliteStore, tap: Tapped) -> None:
    await append(sqlite, "ops", b"one")
    path = Path(await sqlite.database.read(_path_of))
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    tap.failing, tap.code = "COMMIT", sqlite3.SQLITE_IOERR_WRITE
    with pytest.raises(StorageError, match="disk I/O error"):
        await append(sqlite, "ops", b"two")


def _path_of(connection: sqlite3.Connection) -> str:
    ((_, _, path),) = connection.execute("PRAGMA database_list").fetchall()
    return str(path)


async def test_a_broken_store_can_still_be_read(sqlite: SqliteStore, tap: Tapped) -> None:
    await append(sqlite, "ops", b"one")
    tap.failing = "COMMIT"
    with pytest.raises(StorageError):
        await append(sqlite, "ops", b"two")
    assert await read_all(sqlite, "ops") == [b"one"]


async def test_a_failed_commit_fails_all_its_appends(sqlite: SqliteStore, tap: Tapped) -> None:
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


async def test_a_faulty_job_does_not_end_the_writer(
    sqlite: SqliteStore,
) -> None:
    with pytest.raises(StorageError):
        await sqlite.database.write(lambda connection: connection.execute("SELECT nonsense"))
    with pytest.raises(StorageError):
        await append(sqlite, "ops", b"one")


async def test_an_unreadable_log_is_a_storage_error(sqlite: SqliteStore) -> None:
    await sqlite.database.write(lambda connection: connection.execute("DROP TABLE segments"))
    with pytest.raises(StorageError, match="no such table"):
        await sqlite.read("ops", 0)

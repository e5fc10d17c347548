"""Damaged data in the store: told apart from a broken database, and contained."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.messages import Edited, Posted
from tchat.errors import StartupError, StorageError
from tchat.server.operations.salvage import salvage
from tchat.store.base import DataDamaged, FileEntry, LogDamaged, Page, SideEffects, StateSnapshot
from tchat.store.open import open_store
from tchat.store.sqlite.directory import read_record
from tchat.store.sqlite.store import open_sqlite
from tests.helpers import log_of, texts
from tests.store.batches import append, packed, read_all
from tests.store.busy import busy
from tests.store.logs import found, write

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.store.sqlite.store import SqliteStore


async def execute(store: SqliteStore, sql: str, *values: object) -> None:
    """Change the database behind the store's back."""
    await store.database.write(lambda connection: connection.execute(sql, values).rowcount)


async def flip(store: SqliteStore, last: int) -> None:
    """Change a byte of the segment that ends with event `last`."""
    await execute(
        store,
        "UPDATE segments SET frames = cast(frames || 'x' AS BLOB) WHERE last = ?",
        last,
    )


def malformed(_: sqlite3.Connection) -> None:
    """Fail as SQLite does when it meets a page that is no page."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    raise error


async def test_events_before_damage_are_read(sqlite: SqliteStore) -> None:
    for body in (b"one", b"two", b"three", b"four"):
        await append(sqlite, "ops", body)
    await flip(sqlite, 3)
    assert await sqlite.read("ops", 0) == Page(1, 2, packed(b"one", b"two"))
    with pytest.raises(LogDamaged) as caught:
        await sqlite.read("ops", 2)
    assert (caught.value.group, caught.value.first, caught.value.last) == ("ops", 3, 3)


async def test_events_after_damage_are_read_back(sqlite: SqliteStore) -> None:
    for body in (b"one", b"two", b"three", b"four"):
        await append(sqlite, "ops", body)
    await flip(sqlite, 2)
    assert await sqlite.read_before("ops", 5) == Page(3, 4, packed(b"three", b"four"))
    with pytest.raises(LogDamaged):
        await sqlite.read_before("ops", 3)
    with pytest.raises(LogDamaged):
        await sqlite.find("ops", [2])
    assert await sqlite.find("ops", [1, 3]) == {1: b"one", 3: b"three"}


@pytest.mark.parametrize("last", [1, 2, 3])
async def test_missing_events_are_damage(sqlite: SqliteStore, last: int) -> None:
    for body in (b"one", b"two", b"three"):
        await append(sqlite, "ops", body)
    await execute(sqlite, "DELETE FROM segments WHERE last = ?", last)
    with pytest.raises(LogDamaged):
        await read_all(sqlite, "ops")
    with pytest.raises(LogDamaged):
        await sqlite.read_before("ops", last + 1)


async def test_a_snapshot_hides_no_missing_end(sqlite: SqliteStore) -> None:
    """Otherwise the log would have the head of a group that does not exist."""
    for body in (b"one", b"two"):
        await append(sqlite, "ops", body)
    await sqlite.save_snapshot("ops", StateSnapshot(2, "rules", b"state"))
    await execute(sqlite, "DELETE FROM segments WHERE last = 2")
    with pytest.raises(LogDamaged) as caught:
        await sqlite.load("ops")
    assert (caught.value.first, caught.value.last) == (2, 2)


async def test_a_wrong_end_of_a_log_is_damage(sqlite: SqliteStore) -> None:
    await append(sqlite, "ops", b"one")
    await execute(sqlite, "UPDATE groups SET last = 5")
    with pytest.raises(LogDamaged):
        await sqlite.append("ops", 1, 1, packed(b"two"))
    await append(sqlite, "dev", b"eins")


async def test_damage_is_reported_once(sqlite: SqliteStore) -> None:
    told: list[DataDamaged] = []
    await append(sqlite, "ops", b"one")
    await flip(sqlite, 1)
    sqlite.damage.listen(told.append)
    for _ in range(3):
        with pytest.raises(LogDamaged):
            await sqlite.read("ops", 0)
    assert [one.what for one in told] == ["the log of ops, from event 1"]


async def test_damaged_writes_fail_alone(sqlite: SqliteStore) -> None:
    """The others of their batch are committed, and the writer goes on."""
    refused: list[DataDamaged] = []

    async def fail() -> None:
        try:
            await sqlite.database.write(malformed, group="lab")
        except LogDamaged as damaged:
            refused.append(damaged)

    async with trio.open_nursery() as nursery, busy(sqlite.database.write):
        nursery.start_soon(append, sqlite, "ops", b"one")
        nursery.start_soon(fail)
        nursery.start_soon(append, sqlite, "dev", b"eins")
        nursery.start_soon(fail)
    assert [damaged.group for damaged in refused if isinstance(damaged, LogDamaged)] == ["lab"] * 2
    await append(sqlite, "ops", b"two")
    assert await read_all(sqlite, "ops") == [b"one", b"two"]
    assert await read_all(sqlite, "dev") == [b"eins"]


async def test_a_damaged_write_leaves_nothing_behind(sqlite: SqliteStore) -> None:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO groups (name, last) VALUES ('half', 0)")
        malformed(connection)

    with pytest.raises(DataDamaged):
        await sqlite.database.write(work)
    assert await sqlite.maintenance.groups() == []


async def test_other_errors_still_break_the_store(sqlite: SqliteStore) -> None:
    def work(_: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    with pytest.raises(StorageError):
        await sqlite.database.write(work)
    with pytest.raises(StorageError):
        await append(sqlite, "ops", b"one")


async def test_unreadable_snapshots_and_positions_are_missing(sqlite: SqliteStore) -> None:
    await append(sqlite, "ops", b"one")
    await sqlite.save_snapshot("ops", StateSnapshot(1, "rules", b"state"))
    await sqlite.set_cursors("ops", {"alice": 1})
    await execute(sqlite, "UPDATE states SET data = 7")
    await execute(sqlite, "UPDATE cursors SET seq = 'x'")
    stored = await sqlite.load("ops")
    assert (stored.snapshot, stored.cursors) == (None, {})
    assert stored.page == Page(1, 1, packed(b"one"))
    assert len(sqlite.damage.found) == 2


async def test_search_leaves_out_what_is_damaged(sqlite: SqliteStore) -> None:
    await write(sqlite, "ops", Posted("a word"))
    await write(sqlite, "ops", Posted("a second word"))
    await write(sqlite, "ops", Posted("something else"))
    await write(sqlite, "dev", Posted("a third word"))
    assert len(await found(sqlite, "word", "ops", "dev")) == 3
    await execute(sqlite, "UPDATE segments SET crc = x'00000000' WHERE last = 2 AND group_id = 1")
    assert sorted(await found(sqlite, "word", "ops", "dev")) == ["a third word", "a word"]
    await write(sqlite, "ops", Posted("a later word"))
    assert "a later word" in await found(sqlite, "word", "ops", "dev")


async def test_a_damaged_index_is_rebuilt_at_start(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as store:
        await write(store, "ops", Posted("a word"))
        assert await found(store, "word") == ["a word"]
        await execute(store, "DELETE FROM said_data WHERE id > 10")
    async with open_sqlite(tmp_path) as store:
        with pytest.raises(DataDamaged, match="search index"):
            await found(store, "word")
        await append(store, "dev", b"the log is not concerned")
    async with open_sqlite(tmp_path) as store:
        assert await found(store, "word") == ["a word"]


async def test_erasing_passes_over_a_damaged_group(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        for group in ("ops", "dev"):
            await write(store, group, Posted("old"), Edited(1, "older"))
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection, connection:
        connection.execute("UPDATE groups SET erase_to = 2")
        connection.execute("UPDATE segments SET crc = x'00000000' WHERE group_id = 1")
    async with open_store(tmp_path) as store:
        assert texts(await log_of(store, "dev")) == []
        assert "what has to be erased" in store.damage.found
        await write(store, "dev", Posted("new"))
        await store.append("dev", 3, 1, packed(b"closed"), SideEffects(closed_after=3))
        assert await store.maintenance.settle()


async def test_other_messages_expire_beside_damage(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        for group in ("ops", "dev"):
            await write(store, group, Posted("old"))
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection, connection:
        connection.execute("UPDATE segments SET crc = x'00000000' WHERE group_id = 1")
    async with open_store(tmp_path) as store:
        assert await store.maintenance.expired(2**50) == [("dev", 1)]


async def test_a_person_keeps_their_other_groups(sqlite: SqliteStore) -> None:
    for group in ("ops", "dev"):
        await write(sqlite, group, Posted("hello"))
    await execute(sqlite, "UPDATE standings SET standing = 'x' WHERE group_id = 1")
    (left,) = await sqlite.memberships_of("alice")
    assert left.group == "dev"


@pytest.mark.parametrize("in_index", [False, True])
async def test_a_changed_name_blocks_its_group(tmp_path: Path, *, in_index: bool) -> None:
    """Otherwise the group would seem not to exist, and anybody could found it anew."""
    async with open_store(tmp_path) as store:
        for group in ("opsgroup", "devgroup"):
            await write(store, group, Posted("hello"))
    path = tmp_path / "tchat.db"
    content = bytearray(path.read_bytes())
    kind = 10 if in_index else 13
    places = [
        place
        for place in range(len(content))
        if content.startswith(b"opsgroup", place) and content[place // 4096 * 4096] == kind
    ]
    content[places[0]] ^= 1
    path.write_bytes(content)
    async with open_store(tmp_path) as store:
        for name in ("opsgroup", "npsgroup"):
            with pytest.raises(LogDamaged):
                await store.load(name)
        assert (await store.load("devgroup")).page is not None


@pytest.mark.parametrize("place", [0, 100, 36])
async def test_what_all_groups_need_refuses_the_start(tmp_path: Path, place: int) -> None:
    """The magic number, the page with the schema, and the number of free pages."""
    async with open_store(tmp_path) as store:
        await write(store, "ops", Posted("hello"))
    path = tmp_path / "tchat.db"
    content = bytearray(path.read_bytes())
    content[place : place + 4] = b"\xf0\xf1\xf2\xf3"
    path.write_bytes(content)
    with pytest.raises(StartupError) as caught:
        async with open_store(tmp_path):
            raise AssertionError
    assert str(path) in caught.value.sentence
    advice = "Restore it from a backup" if place == 0 else "tchat admin verify"
    assert advice in caught.value.sentence


async def make_logs(directory: Path) -> None:
    """Write a log that fills many pages, and that of another group before it."""
    async with open_sqlite(directory) as store:
        await write(store, "dev", Posted("eins"))
        for number in range(100):
            await write(store, "ops", Posted(f"{number} " + "x" * 200))


def destroy_leaf(directory: Path, which: str) -> None:
    """Damage the last leaf of the segments' table, or that and the first one."""
    with closing(sqlite3.connect(directory / "tchat.db")) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        sql = "SELECT pageno FROM dbstat WHERE name = 'segments' AND pagetype = 'leaf'"
        pages = [page for (page,) in connection.execute(f"{sql} ORDER BY path")]
    with (directory / "tchat.db").open("r+b") as file:
        for page in pages[-1:] if which == "last" else (pages[0], pages[-1]):
            file.seek((page - 1) * size)
            file.write(b"\xff" * 8)


async def test_a_damaged_end_costs_its_group_only(tmp_path: Path) -> None:
    """All groups have their new events at the end of the table, so these go elsewhere."""
    await make_logs(tmp_path)
    destroy_leaf(tmp_path, "last")
    record = read_record(tmp_path).commits
    for start in range(2):
        async with open_sqlite(tmp_path) as store:
            assert any("salvage" in what for what in store.damage.found)
            assert (await store.read("ops", 0)) is not None
            for number in range(60):
                await write(store, "dev", Posted(f"{start} {number} " + "y" * 200))
    assert read_record(tmp_path).commits == record
    expected = ["eins", *(f"{start} {n} " + "y" * 200 for start in range(2) for n in range(60))]
    async with open_sqlite(tmp_path) as store:
        assert texts(await log_of(store, "dev")) == expected
        with pytest.raises(LogDamaged):
            await read_all(store, "ops")
    await trio.to_thread.run_sync(salvage, tmp_path)
    async with open_sqlite(tmp_path) as store:
        assert not store.damage.found
        assert texts(await log_of(store, "dev")) == expected
        await write(store, "ops", Posted("more"))


async def test_without_any_place_it_starts_for_reading(tmp_path: Path) -> None:
    await make_logs(tmp_path)
    destroy_leaf(tmp_path, "both")
    async with open_sqlite(tmp_path) as store:
        assert any("nobody can post" in what for what in store.damage.found)
        with pytest.raises(DataDamaged, match="nothing new in any group"):
            await append(store, "lab", b"one")
        assert await store.read("ops", 50)


async def test_commit_with_a_file_needs_no_read(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that fails after the commit must not report it as failed."""

    async def fail(*_: object, **__: object) -> None:
        raise DataDamaged("a damaged page")

    file = FileEntry(1, bytes(32), 3, "alice", 1)
    monkeypatch.setattr(sqlite.database, "read", fail)
    await sqlite.append("ops", 0, 1, packed(b"one"), SideEffects(added_files=(file,)))
    monkeypatch.undo()
    assert await sqlite.read("ops", 0)

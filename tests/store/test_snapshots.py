"""Snapshots, in every store: the newest is kept, and never one beyond the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tchat.store.base import UNFOUNDED, Page, StateSnapshot, StorageFull, Store, StoredGroup
from tchat.store.open import open_store
from tests.store.batches import append, numbered

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.store.sqlite.store import SqliteStore


def kept(seq: int, made_with: str = "rules 1") -> StateSnapshot:
    """Return a snapshot with arbitrary bytes, since stores do not decode it."""
    return StateSnapshot(seq, made_with, f"state {seq}".encode() + bytes(range(256)))


@pytest.fixture
async def ops(store: Store) -> Store:
    """Return a store in which a group has six events, the last three in one batch."""
    for seq in range(3):
        await store.append("ops", seq, 1, numbered(seq + 1, seq + 1))
    await store.append("ops", 3, 3, numbered(4, 6))
    return store


async def test_an_unknown_group_loads_empty(store: Store) -> None:
    assert await store.load("ops") == StoredGroup(None, None, {}, UNFOUNDED)


async def test_without_a_snapshot_the_log_is_loaded(ops: Store) -> None:
    await ops.set_cursors("ops", {"alice": 5, "bob": 2})
    page = Page(1, 6, numbered(1, 6))
    assert await ops.load("ops") == StoredGroup(None, page, {"alice": 5, "bob": 2})


@pytest.mark.parametrize("seq", range(1, 6))
async def test_only_events_after_the_snapshot_are_loaded(ops: Store, seq: int) -> None:
    await ops.save_snapshot("ops", kept(seq))
    page = Page(seq + 1, 6, numbered(seq + 1, 6))
    assert await ops.load("ops") == StoredGroup(kept(seq), page, {})


async def test_a_snapshot_can_cover_the_whole_log(ops: Store) -> None:
    await ops.save_snapshot("ops", kept(6))
    assert await ops.load("ops") == StoredGroup(kept(6), None, {})
    await append(ops, "ops", b"7")
    assert await ops.load("ops") == StoredGroup(kept(6), Page(7, 7, numbered(7, 7)), {})


async def test_a_long_tail_loads_one_page(store: Store) -> None:
    for _ in range(20):
        await append(store, "ops", bytes(10_000))
    await store.save_snapshot("ops", kept(2))
    assert (await store.load("ops")).page == await store.read("ops", 2)


async def test_only_a_newer_snapshot_replaces_one(ops: Store) -> None:
    for seq in (3, 5, 4):
        await ops.save_snapshot("ops", kept(seq))
    assert (await ops.load("ops")).snapshot == kept(5)


async def test_a_snapshot_of_other_rules_replaces_one(ops: Store) -> None:
    await ops.save_snapshot("ops", kept(5, "rules 1"))
    await ops.save_snapshot("ops", kept(5, "rules 2"))
    assert (await ops.load("ops")).snapshot == kept(5, "rules 2")


async def test_a_snapshot_beyond_the_log_is_ignored(ops: Store) -> None:
    await ops.save_snapshot("ops", kept(7))
    await ops.save_snapshot("dev", kept(1))
    assert (await ops.load("ops")).snapshot is None
    assert await ops.load("dev") == StoredGroup(None, None, {}, UNFOUNDED)
    await append(ops, "dev", b"one")
    assert (await ops.load("dev")).snapshot is None


async def test_each_group_has_its_own_snapshot(ops: Store) -> None:
    await append(ops, "dev", b"eins", b"zwei")
    await ops.save_snapshot("ops", kept(6))
    await ops.save_snapshot("dev", kept(1))
    assert (await ops.load("ops")).snapshot == kept(6)
    assert (await ops.load("dev")).snapshot == kept(1)


async def test_concurrent_saves_keep_the_newest_snapshot(ops: Store) -> None:
    async with trio.open_nursery() as nursery:
        for seq in (2, 6, 1, 4, 5, 3):
            nursery.start_soon(ops.save_snapshot, "ops", kept(seq))
    assert (await ops.load("ops")).snapshot == kept(6)


async def test_snapshots_survive_a_restart(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await append(store, "ops", b"one", b"two")
        await store.save_snapshot("ops", kept(1))
    async with open_store(tmp_path) as store:
        assert (await store.load("ops")).snapshot == kept(1)


async def test_a_full_disk_keeps_the_old_snapshot(sqlite: SqliteStore) -> None:
    await append(sqlite, "ops", b"one", b"two")
    await sqlite.save_snapshot("ops", kept(1))
    await sqlite.database.write(lambda c: c.execute("PRAGMA max_page_count = 1").fetchone())
    with pytest.raises(StorageFull):
        await sqlite.save_snapshot("ops", StateSnapshot(2, "rules 1", bytes(1 << 20)))
    assert (await sqlite.load("ops")).snapshot == kept(1)


async def test_forgetting_removes_snapshots_of_a_persons_groups(
    sqlite: SqliteStore,
) -> None:
    for group in ("ops", "dev"):
        await append(sqlite, group, b"1")
        await sqlite.save_snapshot(group, kept(1))
    await sqlite.maintenance.forget("bob", ["ops"])
    assert (await sqlite.load("ops")).snapshot is None
    assert (await sqlite.load("dev")).snapshot == kept(1)

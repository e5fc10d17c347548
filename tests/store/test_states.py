"""What every store promises of states: of two it has the newer, and the log is behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tchat.store.base import Page, StateSnapshot, StorageFull, Store, StoredGroup
from tchat.store.sqlite.store import SqliteStore, open_store
from tests.store.batches import append, numbered

if TYPE_CHECKING:
    from pathlib import Path


def kept(seq: int, made_with: str = "rules 1") -> StateSnapshot:
    """Return what a server may have kept. To a store it is opaque, so it need not be real."""
    return StateSnapshot(seq, made_with, f"state {seq}".encode() + bytes(range(256)))


@pytest.fixture
async def ops(store: Store) -> Store:
    """Give a store in which a group has six events, of which the last three are one batch."""
    for seq in range(3):
        await store.append("ops", seq, 1, numbered(seq + 1, seq + 1))
    await store.append("ops", 3, 3, numbered(4, 6))
    return store


async def test_a_group_that_never_was_is_taken_up_with_nothing(store: Store) -> None:
    assert await store.load("ops") == StoredGroup(None, None, {})


async def test_without_a_state_a_group_is_taken_up_with_its_log(ops: Store) -> None:
    await ops.set_cursors("ops", {"alice": 5, "bob": 2})
    page = Page(1, 6, numbered(1, 6))
    assert await ops.load("ops") == StoredGroup(None, page, {"alice": 5, "bob": 2})


@pytest.mark.parametrize("seq", range(1, 6))
async def test_behind_a_state_only_what_it_has_not_is_read(ops: Store, seq: int) -> None:
    await ops.save_snapshot("ops", kept(seq))
    page = Page(seq + 1, 6, numbered(seq + 1, 6))
    assert await ops.load("ops") == StoredGroup(kept(seq), page, {})


async def test_a_state_may_have_all_of_the_log(ops: Store) -> None:
    await ops.save_snapshot("ops", kept(6))
    assert await ops.load("ops") == StoredGroup(kept(6), None, {})
    await append(ops, "ops", b"7")
    assert await ops.load("ops") == StoredGroup(kept(6), Page(7, 7, numbered(7, 7)), {})


async def test_a_long_tail_begins_with_a_page(store: Store) -> None:
    for _ in range(20):
        await append(store, "ops", bytes(10_000))
    await store.save_snapshot("ops", kept(2))
    assert (await store.load("ops")).page == await store.read("ops", 2)


async def test_a_state_gives_way_to_a_newer_one_and_to_no_older_one(ops: Store) -> None:
    for seq in (3, 5, 4):
        await ops.save_snapshot("ops", kept(seq))
    assert (await ops.load("ops")).snapshot == kept(5)


async def test_a_state_gives_way_to_one_of_the_same_moment_by_other_rules(ops: Store) -> None:
    await ops.save_snapshot("ops", kept(5, "rules 1"))
    await ops.save_snapshot("ops", kept(5, "rules 2"))
    assert (await ops.load("ops")).snapshot == kept(5, "rules 2")


async def test_no_state_is_kept_of_what_is_not_in_the_log(ops: Store) -> None:
    await ops.save_snapshot("ops", kept(7))
    await ops.save_snapshot("dev", kept(1))
    assert (await ops.load("ops")).snapshot is None
    assert await ops.load("dev") == StoredGroup(None, None, {})
    await append(ops, "dev", b"one")
    assert (await ops.load("dev")).snapshot is None


async def test_each_group_has_its_own_state(ops: Store) -> None:
    await append(ops, "dev", b"eins", b"zwei")
    await ops.save_snapshot("ops", kept(6))
    await ops.save_snapshot("dev", kept(1))
    assert (await ops.load("ops")).snapshot == kept(6)
    assert (await ops.load("dev")).snapshot == kept(1)


async def test_of_many_who_keep_states_at_once_the_newest_is_kept(ops: Store) -> None:
    async with trio.open_nursery() as nursery:
        for seq in (2, 6, 1, 4, 5, 3):
            nursery.start_soon(ops.save_snapshot, "ops", kept(seq))
    assert (await ops.load("ops")).snapshot == kept(6)


async def test_a_state_is_there_when_the_store_is_opened_again(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await append(store, "ops", b"one", b"two")
        await store.save_snapshot("ops", kept(1))
    async with open_store(tmp_path) as store:
        assert (await store.load("ops")).snapshot == kept(1)


async def test_on_a_full_disk_the_state_stays_that_was_kept(sqlite: SqliteStore) -> None:
    await append(sqlite, "ops", b"one", b"two")
    await sqlite.save_snapshot("ops", kept(1))
    await sqlite._database.write(lambda c: c.execute("PRAGMA max_page_count = 1").fetchone())
    with pytest.raises(StorageFull):
        await sqlite.save_snapshot("ops", StateSnapshot(2, "rules 1", bytes(1 << 20)))
    assert (await sqlite.load("ops")).snapshot == kept(1)

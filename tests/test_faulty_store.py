"""Tests of `FaultyStore`: every kind of fault that other tests rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tchat.errors import Code, StorageError
from tchat.store.base import StorageFull
from tests.faulty_store import FaultyStore
from tests.store.batches import append, packed, read_all

if TYPE_CHECKING:
    from trio.testing import MockClock


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


async def test_a_store_without_faults_works(store: FaultyStore) -> None:
    await append(store, "ops", b"one", b"two")
    assert await read_all(store, "ops") == [b"one", b"two"]


async def test_a_full_store_appends_nothing(store: FaultyStore) -> None:
    store.fill()
    for _ in range(2):
        with pytest.raises(StorageFull):
            await append(store, "ops", b"one")
    with pytest.raises(StorageFull):
        await store.set_cursors("ops", {"alice": 1})
    store.mend()
    await append(store, "ops", b"two")
    assert await read_all(store, "ops") == [b"two"]


async def test_a_failure_may_happen_once(store: FaultyStore) -> None:
    store.fail(StorageError(Code.INTERNAL, "broken"), "read", times=1)
    with pytest.raises(StorageError, match="broken"):
        await store.read("ops", 0)
    assert await store.read("ops", 0) is None


async def test_a_failure_may_depend_on_the_arguments(store: FaultyStore) -> None:
    store.fill("append", when=lambda arguments: b"two" in arguments["frames"])
    await append(store, "ops", b"one")
    with pytest.raises(StorageFull):
        await append(store, "ops", b"two")
    assert await read_all(store, "ops") == [b"one"]


@pytest.mark.parametrize("after", [False, True])
async def test_a_held_operation_waits_for_its_release(store: FaultyStore, after: bool) -> None:
    hold = store.hold("append", after=after)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.append, "ops", 0, 1, packed(b"one"))
        await hold.reached.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert await read_all(store, "ops") == [b"one"] * after
        assert store.count("append", group="ops") == 1
        hold.release()
    await store.wait_done("append")
    assert await read_all(store, "ops") == [b"one"]
    await append(store, "ops", b"two")


async def test_a_hold_may_depend_on_the_arguments(store: FaultyStore) -> None:
    hold = store.hold("read", when=lambda arguments: arguments["group"] == "dev")
    assert await store.read("ops", 0) is None
    assert not hold.reached.is_set()


async def test_a_slow_operation_takes_its_time(
    store: FaultyStore, autojump_clock: MockClock
) -> None:
    store.delay("read", 100)
    before = trio.current_time()
    await store.read("ops", 0)
    assert trio.current_time() - before == pytest.approx(100)
    await store.read_before("ops", 1)
    assert trio.current_time() - before == pytest.approx(100)


async def test_calls_are_counted_by_their_arguments(store: FaultyStore) -> None:
    await store.read("ops", 0)
    await store.read("ops", after=0)
    await store.read("dev", 7)
    assert (store.count("read"), store.count("read", after=0)) == (3, 2)
    assert store.count("read", group="dev", after=0) == 0


async def test_loading_counts_as_one_operation(store: FaultyStore) -> None:
    """As with SQLite, where it is one query: no `read` happens within."""
    await append(store, "ops", b"one")
    store.calls.clear()
    await store.load("ops")
    assert [call.operation for call in store.calls] == ["load"]


async def test_success_can_be_waited_for(store: FaultyStore) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.wait_done, "read", 2)
        store.fail(StorageError(Code.INTERNAL, "broken"), "read", times=1)
        with pytest.raises(StorageError):
            await store.read("ops", 0)
        for _ in range(2):
            await store.read("ops", 0)
            await trio.testing.wait_all_tasks_blocked()


async def test_accounts_and_files_fail_as_well(store: FaultyStore) -> None:
    store.fill("accounts.claim", "files.usage")
    with pytest.raises(StorageFull):
        await store.accounts.claim("alice", "Alice", bytes(32), 0)
    with pytest.raises(StorageFull):
        await store.files.usage("alice")
    assert await store.accounts.keys("alice") == []


def test_a_misspelt_operation_is_refused(store: FaultyStore) -> None:
    with pytest.raises(ValueError, match="apend"):
        store.fill("apend")

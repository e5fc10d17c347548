"""The contract of every store: compare-and-append, reading, and read cursors."""

from __future__ import annotations

import stat

import pytest
import trio

from tchat.errors import StorageError
from tchat.store.base import PAGE_LIMIT, Conflict, Page, Store
from tests.memory_store import MemoryStore
from tests.store.batches import append, last_seq, numbered, packed, read_all
from tests.store.files import blob_path

# ------------------------------------------------------------------ the log


async def test_an_unknown_log_is_empty(store: Store) -> None:
    assert await last_seq(store, "ops") == 0
    assert await store.read("ops", 0) is None


async def test_appended_events_are_read_unchanged(store: Store) -> None:
    frames = packed(b"one", b"", b"three\x00\xff")
    await store.append("ops", 0, 3, frames)
    assert await store.read("ops", 0) == Page(1, 3, frames)
    assert await last_seq(store, "ops") == 3


async def test_batches_follow_one_another(store: Store) -> None:
    await store.append("ops", 0, 2, packed(b"one", b"two"))
    await store.append("ops", 2, 1, packed(b"three"))
    assert await read_all(store, "ops") == [b"one", b"two", b"three"]


async def test_nothing_follows_the_end(store: Store) -> None:
    await append(store, "ops", b"one", b"two")
    assert await store.read("ops", 2) is None
    assert await store.read("ops", 1000) is None


@pytest.mark.parametrize("after", range(7))
async def test_a_log_is_readable_from_any_event(store: Store, after: int) -> None:
    await store.append("ops", 0, 1, numbered(1, 1))
    await store.append("ops", 1, 4, numbered(2, 5))
    await store.append("ops", 5, 2, numbered(6, 7))
    assert await store.read("ops", after) == Page(after + 1, 7, numbered(after + 1, 7))


async def test_two_groups_do_not_mix(store: Store) -> None:
    await append(store, "ops", b"one")
    await append(store, "dev", b"eins", b"zwei")
    await append(store, "ops", b"two")
    assert await read_all(store, "ops") == [b"one", b"two"]
    assert await read_all(store, "dev") == [b"eins", b"zwei"]


@pytest.mark.parametrize("name", ["'; DROP TABLE groups; --", "ops\x00", "漢字", "%", "a/../b"])
async def test_a_group_may_have_any_name(store: Store, name: str) -> None:
    await append(store, name, b"one")
    assert await read_all(store, name) == [b"one"]


@pytest.mark.parametrize("expected", [0, 1, 3, 100])
async def test_a_conflicting_append_writes_nothing(store: Store, expected: int) -> None:
    await append(store, "ops", b"one", b"two")
    with pytest.raises(Conflict, match=f"ends at 2, not at {expected}"):
        await store.append("ops", expected, 1, packed(b"lost"))
    assert await read_all(store, "ops") == [b"one", b"two"]
    assert await last_seq(store, "ops") == 2


async def test_a_conflict_creates_no_group(store: Store) -> None:
    with pytest.raises(Conflict):
        await store.append("ops", 5, 1, packed(b"lost"))
    assert await last_seq(store, "ops") == 0
    await store.append("ops", 0, 1, packed(b"one"))
    assert await read_all(store, "ops") == [b"one"]


async def test_store_accepts_appends_after_a_conflict(store: Store) -> None:
    await append(store, "ops", b"one")
    with pytest.raises(StorageError):
        await store.append("ops", 0, 1, packed(b"lost"))
    await append(store, "ops", b"two")
    assert await read_all(store, "ops") == [b"one", b"two"]


async def test_one_of_many_concurrent_appends_succeeds(store: Store) -> None:
    outcomes: list[str] = []

    async def try_to_append(number: int) -> None:
        try:
            await store.append("ops", 0, 1, packed(str(number).encode()))
        except Conflict:
            outcomes.append("conflict")
        else:
            outcomes.append("appended")

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(try_to_append, number)
    assert sorted(outcomes) == ["appended", *["conflict"] * 9]
    assert await last_seq(store, "ops") == 1


async def test_concurrent_appends_keep_each_groups_order(store: Store) -> None:
    groups = [f"group-{number}" for number in range(20)]

    async def fill(group: str) -> None:
        for seq in range(10):
            await store.append(group, seq, 1, packed(f"{group}:{seq}".encode()))
            assert await last_seq(store, group) == seq + 1

    async with trio.open_nursery() as nursery:
        for group in groups:
            nursery.start_soon(fill, group)
    for group in groups:
        assert await read_all(store, group) == [f"{group}:{seq}".encode() for seq in range(10)]


# ------------------------------------------------------------------ pages


async def test_a_long_log_is_read_in_pages(store: Store) -> None:
    for seq in range(20):
        await store.append("ops", seq, 1, packed(bytes(10_000)))
    page = await store.read("ops", 0)
    assert page is not None
    assert PAGE_LIMIT / 2 < len(page.frames) <= PAGE_LIMIT
    assert page.last < 20
    assert await read_all(store, "ops") == [bytes(10_000)] * 20


async def test_a_large_batch_is_one_page(store: Store) -> None:
    huge = packed(*[bytes(10_000)] * 20)
    assert len(huge) > PAGE_LIMIT
    await append(store, "ops", b"before")
    await store.append("ops", 1, 20, huge)
    await append(store, "ops", b"behind")
    assert await store.read("ops", 0) == Page(1, 1, packed(b"before"))
    assert await store.read("ops", 1) == Page(2, 21, huge)
    assert await store.read("ops", 21) == Page(22, 22, packed(b"behind"))


async def test_a_page_can_begin_within_a_batch(store: Store) -> None:
    bodies = [bytes([number]) * 10_000 for number in range(10)]
    await append(store, "ops", *bodies)
    assert await store.read("ops", 7) == Page(8, 10, packed(*bodies[7:]))


# ------------------------------------------------------------------ cursors and names


async def test_there_are_no_cursors_at_first(store: Store) -> None:
    assert await store.cursors("ops") == {}


async def test_cursors_are_per_person_and_group(store: Store) -> None:
    await append(store, "ops", b"one", b"two")
    await append(store, "dev", b"eins")
    await store.set_cursors("ops", {"alice": 2, "bob": 1})
    await store.set_cursors("dev", {"alice": 1})
    assert await store.cursors("ops") == {"alice": 2, "bob": 1}
    assert await store.cursors("dev") == {"alice": 1}


async def test_a_cursor_never_moves_back(store: Store) -> None:
    await append(store, "ops", b"one", b"two", b"three")
    await store.set_cursors("ops", {"alice": 2, "bob": 2})
    await store.set_cursors("ops", {"alice": 1, "bob": 3})
    assert await store.cursors("ops") == {"alice": 2, "bob": 3}


async def test_returned_cursors_are_a_copy(store: Store) -> None:
    await append(store, "ops", b"one")
    await store.set_cursors("ops", {"alice": 1})
    (await store.cursors("ops"))["alice"] = 99
    assert await store.cursors("ops") == {"alice": 1}


async def test_setting_no_cursors_is_allowed(store: Store) -> None:
    await append(store, "ops", b"one")
    await store.set_cursors("ops", {})
    assert await store.cursors("ops") == {}


# ------------------------------------------------------------------ blobs


async def test_each_store_has_a_private_blob_directory(store: Store) -> None:
    assert blob_path(store).is_dir()
    assert stat.S_IMODE(blob_path(store).stat().st_mode) == 0o700


async def test_a_memory_store_removes_its_blobs() -> None:
    store = MemoryStore()
    path = blob_path(store)
    (path / "file").write_bytes(b"gone soon")
    del store
    assert not path.exists()

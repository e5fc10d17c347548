"""The size of all stored files is known before it is used, and read again after a failure."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from tchat.server.stored_bytes import StoredBytes
from tests.faulty_store import FaultyStore


async def test_concurrent_requests_wait_for_the_size() -> None:
    store = FaultyStore()
    reading = store.hold("files.total")
    stored, ended = StoredBytes(store.files), list[int]()

    async def refresh() -> None:
        await stored.refresh()
        ended.append(stored.size)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refresh)
        nursery.start_soon(refresh)
        await reading.reached.wait()
        await wait_all_tasks_blocked()
        assert ended == []
        stored.add(5)
        reading.release()
    assert ended == [5, 5]
    assert store.count("files.total") == 1


async def test_cancelled_reading_is_repeated() -> None:
    store = FaultyStore()
    reading = store.hold("files.total")
    stored = StoredBytes(store.files)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stored.refresh)
        await reading.reached.wait()
        nursery.cancel_scope.cancel()
    reading.release()
    await stored.refresh()
    assert store.count("files.total") == 2

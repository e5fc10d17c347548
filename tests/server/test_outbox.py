"""The queue in front of one socket, without a socket."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchat.server.outbox import Outbox, OutboxClosed


async def test_what_is_queued_is_taken_in_order_and_in_one_piece() -> None:
    outbox = Outbox()
    outbox.push(b"one ")
    assert outbox.offer(b"two ")
    outbox.push(b"three")
    assert await outbox.take() == b"one two three"


async def test_offers_are_turned_down_from_the_limit_on() -> None:
    outbox = Outbox(limit=10)
    assert outbox.offer(9 * b"x")
    assert outbox.offer(5 * b"y")
    assert outbox.full
    assert not outbox.offer(b"z")
    assert await outbox.take() == 9 * b"x" + 5 * b"y"


async def test_what_must_not_be_lost_is_queued_beyond_the_limit() -> None:
    outbox = Outbox(limit=10)
    outbox.push(20 * b"x")
    outbox.push(b"y")
    assert outbox.size == 21


async def test_what_was_taken_takes_room_until_it_is_sent() -> None:
    outbox = Outbox(limit=10)
    outbox.push(10 * b"x")
    await outbox.take()
    assert not outbox.offer(b"y")
    outbox.sent(4)
    assert outbox.size == 6
    assert outbox.offer(b"y")


async def test_take_waits_for_something() -> None:
    outbox = Outbox()
    taken: list[bytes] = []

    async def take() -> None:
        taken.append(await outbox.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        assert taken == []
        outbox.push(b"news")
    assert taken == [b"news"]


async def test_there_is_room_when_it_is_half_empty() -> None:
    outbox = Outbox(limit=10)
    outbox.push(10 * b"x")
    found = trio.Event()

    async def wait_for_room() -> None:
        await outbox.room()
        found.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_room)
        nursery.start_soon(wait_for_room)
        await wait_all_tasks_blocked()
        outbox.sent(4)
        await wait_all_tasks_blocked()
        assert not found.is_set()
        outbox.sent(1)
        await found.wait()


async def test_room_is_found_again_after_it_was_found_before() -> None:
    outbox = Outbox(limit=10)
    await outbox.room()
    for _ in range(3):
        outbox.push(10 * b"x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.room)
            await wait_all_tasks_blocked()
            outbox.sent(10)


async def test_what_waits_is_still_taken_after_the_end_and_then_nothing() -> None:
    outbox = Outbox()
    outbox.push(b"last words")
    outbox.close()
    outbox.push(b"too late")
    assert outbox.offer(b"too late")
    assert await outbox.take() == b"last words"
    assert await outbox.take() == b""


async def test_the_end_wakes_whoever_takes() -> None:
    outbox = Outbox()
    taken: list[bytes] = []

    async def take() -> None:
        taken.append(await outbox.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        outbox.close()
    assert taken == [b""]


async def test_the_end_wakes_whoever_waits_for_room() -> None:
    outbox = Outbox(limit=10)
    outbox.push(10 * b"x")

    async def wait_in_vain() -> None:
        with pytest.raises(OutboxClosed):
            await outbox.room()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_in_vain)
        await wait_all_tasks_blocked()
        outbox.close()
    with pytest.raises(OutboxClosed):
        await outbox.room()

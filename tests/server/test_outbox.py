"""The queue in front of one socket, without a socket."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchat.server.send_queue import SendQueue, SendQueueClosed


class Socket:
    """Takes so many bytes at once, and then nothing; it counts how often a writer was called."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.got = b""
        self.woken = 0

    def send_now(self, data: bytes) -> bytes | None:
        """Take what there is room for, as a link does."""
        self.got += data[: self.room]
        rest = data[self.room :]
        self.room -= len(data) - len(rest)
        return rest or None

    def wake(self) -> None:
        """Know that something waits."""
        self.woken += 1


def in_front_of(socket: Socket, limit: int = 10) -> SendQueue:
    return SendQueue(socket.send_now, socket.wake, limit)


def closed_to_all(limit: int = 10) -> SendQueue:
    """Return an outbox whose socket takes nothing."""
    return in_front_of(Socket(), limit)


# ------------------------------------------------------------------ what goes at once


def test_what_the_socket_takes_does_not_wait() -> None:
    socket = Socket(100)
    send_queue = in_front_of(socket)
    send_queue.push(b"one ")
    assert send_queue.offer(b"two")
    assert (socket.got, socket.woken, send_queue.size) == (b"one two", 0, 0)


def test_what_is_left_waits_for_a_writer_who_is_woken_once() -> None:
    socket = Socket(6)
    send_queue = in_front_of(socket)
    for data in (b"one ", b"two ", b"three"):
        send_queue.push(data)
    assert (socket.got, socket.woken) == (b"one tw", 1)
    assert send_queue.take() == b"o three"


def test_nothing_goes_past_a_writer_at_work() -> None:
    socket = Socket()
    send_queue = in_front_of(socket)
    send_queue.push(b"first")
    socket.room = 100
    assert send_queue.take() == b"first"
    send_queue.push(b"second")
    send_queue.sent(5)
    send_queue.push(b"third")
    assert (socket.got, socket.woken) == (b"", 1)
    assert send_queue.take() == b"secondthird"


def test_when_the_writer_is_done_things_go_at_once_again_and_then_he_is_woken_again() -> None:
    socket = Socket()
    send_queue = in_front_of(socket)
    send_queue.push(b"first")
    assert send_queue.take() == b"first"
    send_queue.sent(5)
    assert send_queue.take() is None
    socket.room = 6
    send_queue.push(b"second")
    send_queue.push(b"third")
    assert (socket.got, socket.woken) == (b"second", 2)
    assert send_queue.take() == b"third"


def test_a_link_that_keeps_something_itself_gets_its_writer() -> None:
    woken: list[bool] = []
    send_queue = SendQueue(lambda _: b"", lambda: woken.append(True))
    send_queue.push(b"sealed already")
    assert woken == [True]
    assert send_queue.take() == b""
    assert send_queue.take() is None


# ------------------------------------------------------------------ the limit


def test_offers_are_turned_down_from_the_limit_on() -> None:
    send_queue = closed_to_all(limit=10)
    assert send_queue.offer(9 * b"x")
    assert send_queue.offer(5 * b"y")
    assert send_queue.full
    assert not send_queue.offer(b"z")
    assert send_queue.take() == 9 * b"x" + 5 * b"y"


def test_what_must_not_be_lost_is_queued_beyond_the_limit() -> None:
    send_queue = closed_to_all(limit=10)
    send_queue.push(20 * b"x")
    send_queue.push(b"y")
    assert send_queue.size == 21


def test_what_was_taken_takes_room_until_it_is_sent() -> None:
    send_queue = closed_to_all(limit=10)
    send_queue.push(10 * b"x")
    send_queue.take()
    assert not send_queue.offer(b"y")
    send_queue.sent(4)
    assert send_queue.size == 6
    assert send_queue.offer(b"y")


async def test_there_is_room_when_it_is_half_empty() -> None:
    send_queue = closed_to_all(limit=10)
    send_queue.push(10 * b"x")
    assert send_queue.crowded
    found = trio.Event()

    async def wait_for_room() -> None:
        await send_queue.room()
        found.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_room)
        nursery.start_soon(wait_for_room)
        await wait_all_tasks_blocked()
        send_queue.sent(4)
        await wait_all_tasks_blocked()
        assert not found.is_set()
        send_queue.sent(1)
        await found.wait()
    assert not send_queue.crowded


async def test_room_is_found_again_after_it_was_found_before() -> None:
    send_queue = closed_to_all(limit=10)
    await send_queue.room()
    for _ in range(3):
        send_queue.push(10 * b"x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_queue.room)
            await wait_all_tasks_blocked()
            send_queue.sent(10)


# ------------------------------------------------------------------ the end


def test_what_waits_is_still_taken_after_the_end_and_then_nothing() -> None:
    socket = Socket()
    send_queue = in_front_of(socket, limit=100)
    send_queue.push(b"last words")
    send_queue.close()
    socket.room = 100
    send_queue.push(b"too late")
    assert send_queue.offer(b"too late")
    assert send_queue.take() == b"last words"
    assert send_queue.take() is None
    assert socket.got == b""


async def test_the_end_wakes_whoever_waits_for_room() -> None:
    send_queue = closed_to_all(limit=10)
    send_queue.push(10 * b"x")

    async def wait_in_vain() -> None:
        with pytest.raises(SendQueueClosed):
            await send_queue.room()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_in_vain)
        await wait_all_tasks_blocked()
        send_queue.close()
    with pytest.raises(SendQueueClosed):
        await send_queue.room()


def test_the_end_wakes_the_writer_unless_he_is_at_work() -> None:
    quiet, busy = Socket(100), Socket()
    in_front_of(quiet).close()
    send_queue = in_front_of(busy)
    send_queue.push(b"news")
    send_queue.close()
    send_queue.close()
    assert (quiet.woken, busy.woken) == (1, 1)

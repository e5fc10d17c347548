"""Send queue of a connection, without a socket."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchat.server.send_queue import OVERFLOW, SendQueue, SendQueueClosed


class Socket:
    """A socket that takes so many bytes, then none; counts the starts of the writer."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.got = b""
        self.woken = 0

    def send_now(self, data: bytes) -> bytes | None:
        """Take what there is space for, as a link does."""
        self.got += data[: self.room]
        rest = data[self.room :]
        self.room -= len(data) - len(rest)
        return rest or None

    def wake(self) -> None:
        """Count the start of a writer."""
        self.woken += 1


def in_front_of(socket: Socket, limit: int = 10) -> SendQueue:
    return SendQueue(socket.send_now, socket.wake, limit)


def closed_to_all(limit: int = 10) -> SendQueue:
    """Return a send queue whose socket takes nothing."""
    return in_front_of(Socket(), limit)


# ------------------------------------------------------------------ sending at once


def test_data_that_the_socket_takes_is_not_queued() -> None:
    socket = Socket(100)
    send_queue = in_front_of(socket)
    send_queue.push(b"one ")
    assert send_queue.offer(b"two")
    assert (socket.got, socket.woken, send_queue.size) == (b"one two", 0, 0)


def test_unsent_data_starts_one_writer() -> None:
    socket = Socket(6)
    send_queue = in_front_of(socket)
    for data in (b"one ", b"two ", b"three"):
        send_queue.push(data)
    assert (socket.got, socket.woken) == (b"one tw", 1)
    assert send_queue.dequeue() == b"o three"


def test_nothing_overtakes_a_running_writer() -> None:
    socket = Socket()
    send_queue = in_front_of(socket)
    send_queue.push(b"first")
    socket.room = 100
    assert send_queue.dequeue() == b"first"
    send_queue.push(b"second")
    send_queue.mark_sent(5)
    send_queue.push(b"third")
    assert (socket.got, socket.woken) == (b"", 1)
    assert send_queue.dequeue() == b"secondthird"


def test_finished_writer_is_started_again_when_needed() -> None:
    socket = Socket()
    send_queue = in_front_of(socket)
    send_queue.push(b"first")
    assert send_queue.dequeue() == b"first"
    send_queue.mark_sent(5)
    assert send_queue.dequeue() is None
    socket.room = 6
    send_queue.push(b"second")
    send_queue.push(b"third")
    assert (socket.got, socket.woken) == (b"second", 2)
    assert send_queue.dequeue() == b"third"


def test_link_that_buffers_data_gets_a_writer() -> None:
    woken: list[bool] = []
    send_queue = SendQueue(lambda _: b"", lambda: woken.append(True))
    send_queue.push(b"sealed already")
    assert woken == [True]
    assert send_queue.dequeue() == b""
    assert send_queue.dequeue() is None


# ------------------------------------------------------------------ the limit, backpressure


def test_offer_is_refused_from_the_limit_on() -> None:
    send_queue = closed_to_all(limit=10)
    assert send_queue.offer(9 * b"x")
    assert send_queue.offer(5 * b"y")
    assert send_queue.full
    assert not send_queue.offer(b"z")
    assert send_queue.dequeue() == 9 * b"x" + 5 * b"y"


def test_push_is_queued_beyond_the_limit() -> None:
    send_queue = closed_to_all(limit=10)
    send_queue.push(20 * b"x")
    send_queue.push(b"y")
    assert send_queue.size == 21


def test_dequeued_data_takes_space_until_sent() -> None:
    send_queue = closed_to_all(limit=10)
    send_queue.push(10 * b"x")
    send_queue.dequeue()
    assert not send_queue.offer(b"y")
    send_queue.mark_sent(4)
    assert send_queue.size == 6
    assert send_queue.offer(b"y")


async def test_space_returns_when_the_queue_is_half_empty() -> None:
    send_queue = closed_to_all(limit=10)
    send_queue.push(10 * b"x")
    assert send_queue.congested
    found = trio.Event()

    async def wait_for_room() -> None:
        await send_queue.wait_for_space()
        found.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_room)
        nursery.start_soon(wait_for_room)
        await wait_all_tasks_blocked()
        send_queue.mark_sent(4)
        await wait_all_tasks_blocked()
        assert not found.is_set()
        send_queue.mark_sent(1)
        await found.wait()
    assert not send_queue.congested


async def test_waiting_for_space_works_repeatedly() -> None:
    send_queue = closed_to_all(limit=10)
    await send_queue.wait_for_space()
    for _ in range(3):
        send_queue.push(10 * b"x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_queue.wait_for_space)
            await wait_all_tasks_blocked()
            send_queue.mark_sent(10)


# ------------------------------------------------------------------ closing


def test_queued_data_is_still_dequeued_after_close() -> None:
    socket = Socket()
    send_queue = in_front_of(socket, limit=100)
    send_queue.push(b"last words")
    send_queue.close()
    socket.room = 100
    send_queue.push(b"too late")
    assert send_queue.offer(b"too late")
    assert send_queue.dequeue() == b"last words"
    assert send_queue.dequeue() is None
    assert socket.got == b""


async def test_close_wakes_tasks_waiting_for_space() -> None:
    send_queue = closed_to_all(limit=10)
    send_queue.push(10 * b"x")

    async def wait_in_vain() -> None:
        with pytest.raises(SendQueueClosed):
            await send_queue.wait_for_space()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_in_vain)
        await wait_all_tasks_blocked()
        send_queue.close()
    with pytest.raises(SendQueueClosed):
        await send_queue.wait_for_space()


def test_close_starts_a_writer_unless_one_runs() -> None:
    quiet, busy = Socket(100), Socket()
    in_front_of(quiet).close()
    send_queue = in_front_of(busy)
    send_queue.push(b"news")
    send_queue.close()
    send_queue.close()
    assert (quiet.woken, busy.woken) == (1, 1)


async def test_queue_beyond_its_last_limit_is_closed() -> None:
    send_queue = closed_to_all()
    for _ in range(OVERFLOW // 1000):
        send_queue.push(bytes(1000))
    states = [send_queue.closed]
    send_queue.push(bytes(1000))
    assert [*states, send_queue.closed, send_queue.overflowed] == [False, True, True]


# ------------------------------------------------------------------ sources


class Pages:
    """A source of `count` pages; pushes its letter for each."""

    def __init__(self, send_queue: SendQueue, letter: bytes, count: int) -> None:
        self.send_queue = send_queue
        self.letter = letter
        self.left = count

    async def __call__(self) -> bool:
        """Push a page; return whether it was the last one."""
        assert not self.send_queue.congested
        self.send_queue.push(5 * self.letter)
        self.left -= 1
        return not self.left


async def test_sources_take_turns_as_space_returns() -> None:
    async with trio.open_nursery() as nursery:
        send_queue = SendQueue(lambda data: data, lambda: None, 10, nursery.start_soon)
        for letter in (b"a", b"b", b"c"):
            send_queue.feed(Pages(send_queue, letter, 2))
        await wait_all_tasks_blocked()
        assert send_queue.size == 10  # half of the queue, and a page
        assert len(nursery.child_tasks) == 1
        sent = b""
        while data := send_queue.dequeue():
            sent += data
            send_queue.mark_sent(len(data))
            await wait_all_tasks_blocked()
    assert sent == b"".join(5 * bytes([letter]) for letter in b"abcabc")


async def test_feeder_starts_again_after_it_ended() -> None:
    async with trio.open_nursery() as nursery:
        send_queue = SendQueue(lambda _: None, lambda: None, 10, nursery.start_soon)
        for _ in range(2):
            pages = Pages(send_queue, b"a", 3)
            send_queue.feed(pages)
            await wait_all_tasks_blocked()
            assert (pages.left, len(nursery.child_tasks)) == (0, 0)


async def test_feeder_of_a_closed_queue_ends() -> None:
    async with trio.open_nursery() as nursery:
        send_queue = SendQueue(lambda data: data, lambda: None, 10, nursery.start_soon)
        pages = Pages(send_queue, b"a", 9)
        send_queue.feed(pages)
        await wait_all_tasks_blocked()
        send_queue.close()
    send_queue.feed(pages)  # starts nothing in the nursery, which has ended
    assert pages.left == 7

"""The queue in front of one socket, without a socket."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchat.server.outbox import Outbox, OutboxClosed


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


def in_front_of(socket: Socket, limit: int = 10) -> Outbox:
    return Outbox(socket.send_now, socket.wake, limit)


def closed_to_all(limit: int = 10) -> Outbox:
    """Return an outbox whose socket takes nothing."""
    return in_front_of(Socket(), limit)


# ------------------------------------------------------------------ what goes at once


def test_what_the_socket_takes_does_not_wait() -> None:
    socket = Socket(100)
    outbox = in_front_of(socket)
    outbox.push(b"one ")
    assert outbox.offer(b"two")
    assert (socket.got, socket.woken, outbox.size) == (b"one two", 0, 0)


def test_what_is_left_waits_for_a_writer_who_is_woken_once() -> None:
    socket = Socket(6)
    outbox = in_front_of(socket)
    for data in (b"one ", b"two ", b"three"):
        outbox.push(data)
    assert (socket.got, socket.woken) == (b"one tw", 1)
    assert outbox.take() == b"o three"


def test_nothing_goes_past_a_writer_at_work() -> None:
    socket = Socket()
    outbox = in_front_of(socket)
    outbox.push(b"first")
    socket.room = 100
    assert outbox.take() == b"first"
    outbox.push(b"second")
    outbox.sent(5)
    outbox.push(b"third")
    assert (socket.got, socket.woken) == (b"", 1)
    assert outbox.take() == b"secondthird"


def test_when_the_writer_is_done_things_go_at_once_again_and_then_he_is_woken_again() -> None:
    socket = Socket()
    outbox = in_front_of(socket)
    outbox.push(b"first")
    assert outbox.take() == b"first"
    outbox.sent(5)
    assert outbox.take() is None
    socket.room = 6
    outbox.push(b"second")
    outbox.push(b"third")
    assert (socket.got, socket.woken) == (b"second", 2)
    assert outbox.take() == b"third"


def test_a_link_that_keeps_something_itself_gets_its_writer() -> None:
    woken: list[bool] = []
    outbox = Outbox(lambda _: b"", lambda: woken.append(True))
    outbox.push(b"sealed already")
    assert woken == [True]
    assert outbox.take() == b""
    assert outbox.take() is None


# ------------------------------------------------------------------ the limit


def test_offers_are_turned_down_from_the_limit_on() -> None:
    outbox = closed_to_all(limit=10)
    assert outbox.offer(9 * b"x")
    assert outbox.offer(5 * b"y")
    assert outbox.full
    assert not outbox.offer(b"z")
    assert outbox.take() == 9 * b"x" + 5 * b"y"


def test_what_must_not_be_lost_is_queued_beyond_the_limit() -> None:
    outbox = closed_to_all(limit=10)
    outbox.push(20 * b"x")
    outbox.push(b"y")
    assert outbox.size == 21


def test_what_was_taken_takes_room_until_it_is_sent() -> None:
    outbox = closed_to_all(limit=10)
    outbox.push(10 * b"x")
    outbox.take()
    assert not outbox.offer(b"y")
    outbox.sent(4)
    assert outbox.size == 6
    assert outbox.offer(b"y")


async def test_there_is_room_when_it_is_half_empty() -> None:
    outbox = closed_to_all(limit=10)
    outbox.push(10 * b"x")
    assert outbox.crowded
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
    assert not outbox.crowded


async def test_room_is_found_again_after_it_was_found_before() -> None:
    outbox = closed_to_all(limit=10)
    await outbox.room()
    for _ in range(3):
        outbox.push(10 * b"x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.room)
            await wait_all_tasks_blocked()
            outbox.sent(10)


# ------------------------------------------------------------------ the end


def test_what_waits_is_still_taken_after_the_end_and_then_nothing() -> None:
    socket = Socket()
    outbox = in_front_of(socket, limit=100)
    outbox.push(b"last words")
    outbox.close()
    socket.room = 100
    outbox.push(b"too late")
    assert outbox.offer(b"too late")
    assert outbox.take() == b"last words"
    assert outbox.take() is None
    assert socket.got == b""


async def test_the_end_wakes_whoever_waits_for_room() -> None:
    outbox = closed_to_all(limit=10)
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


def test_the_end_wakes_the_writer_unless_he_is_at_work() -> None:
    quiet, busy = Socket(100), Socket()
    in_front_of(quiet).close()
    outbox = in_front_of(busy)
    outbox.push(b"news")
    outbox.close()
    outbox.close()
    assert (quiet.woken, busy.woken) == (1, 1)

"""Time slices: threads move what they can, wait briefly, and leave the rest to tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.core.protocol.frames import Ping, encode
from tchat.core.protocol.framing import PREFIX
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.net.link import Link
from tchat.transfer.time_slice import LinkSpeed, TimeSlice
from tests.helpers import GUARD
from tests.sockets import MUCH, connected, secured, take

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.net.sockets import D
    from tests.transfer.conftest import Clock

BODY = encode(Ping())[PREFIX:]


class Stub:
    """A link with a script of what arrives, and how long each takes."""

    def __init__(self, clock: Clock, *delays: float) -> None:
        self.waits: list[tuple[bool, float]] = []
        self._clock = clock
        self._delays = list(delays)
        self._is_there = False

    def is_ready(self, *, to_send: bool, within: float) -> bool:
        self.waits.append((to_send, within))
        delay = self._delays.pop(0)
        self._clock.now += min(delay, within)
        self._is_there = delay <= within
        return self._is_there

    def receive_raw_nowait(self, into: memoryview) -> int:
        there, self._is_there = self._is_there, False
        return len(into) if there else 0

    def receive_nowait(self) -> bytes | None:
        there, self._is_there = self._is_there, False
        return BODY if there else None

    def send_nowait(self, data: D) -> D | None:
        """Receive three bytes when ready."""
        there, self._is_there = self._is_there, False
        rest = data[3:] if there else data
        return rest if len(rest) else None


def turn_at(link: Stub) -> TimeSlice:
    return TimeSlice(link)  # type: ignore[arg-type]  # the part of a link that a time slice uses


def room(size: int = 10) -> memoryview:
    return memoryview(bytearray(size))


def test_a_time_slice_waits_briefly_for_data(clock: Clock) -> None:
    turn = turn_at(Stub(clock, 0.001, 0.001))
    assert turn.receive(room()) == 10
    assert turn.frame() == BODY


def test_the_waits_of_a_slice_share_one_limit(clock: Clock) -> None:
    link = Stub(clock, 0.003, 0.003)
    turn = turn_at(link)
    assert turn.receive(room()) == 10
    assert turn.receive(room()) == 0
    assert turn.frame() is None
    assert turn.send(b"data") == b"data"
    assert link.waits == [(False, 0.005), (False, pytest.approx(0.002))]


def test_sending_continues_while_the_socket_accepts(clock: Clock) -> None:
    link = Stub(clock, 0.001, 0.001, 0.001)
    assert turn_at(link).send(b"12345678") is None
    assert [to_send for to_send, _ in link.waits] == [True] * 3


def test_the_unsent_rest_is_returned(clock: Clock) -> None:
    assert turn_at(Stub(clock, 0.001, 1)).send(b"12345678") == b"45678"


def test_a_time_slice_ends(clock: Clock) -> None:
    turn = turn_at(Stub(clock))
    assert not turn.is_over
    clock.now += 0.049
    assert not turn.is_over
    clock.now += 0.002
    assert turn.is_over


def test_without_waiting_only_arrived_data_is_received(clock: Clock) -> None:
    link = Stub(clock)
    turn = TimeSlice(link, may_wait=False)  # type: ignore[arg-type]  # as above
    assert turn.receive(room()) == 0
    assert turn.frame() is None
    assert turn.send(b"data") == b"data"
    assert link.waits == []


def test_a_link_is_fast_while_pieces_are(clock: Clock) -> None:
    pace, at = LinkSpeed(77), 77
    assert pace.is_fast(at), "the best is hoped for"
    for pieces, seconds, is_fast in (
        (1, 0.004, True),
        (1, 0.006, False),
        (10, 0.04, True),  # as soon as it is fast again
        (10, 0.06, False),
        (0, 0.001, False),
        (0.5, 0.002, False),  # too little to tell
        (0.5, 0.001, True),
    ):
        clock.now += seconds
        at += int(pieces * PIECE_SIZE)
        assert pace.is_fast(at) == is_fast


# ------------------------------------------------------------------ on real sockets


async def receive_all(link: Link, size: int) -> bytes:
    """Receive `size` bytes in time slices of a thread."""
    came = room(size)
    at = 0

    def work() -> int:
        return TimeSlice(link).receive(came[at:])

    while at < size:
        at += await trio.to_thread.run_sync(work)
    return bytes(came)


async def send_all(link: Link, data: bytes) -> None:
    """Send everything in time slices of a thread."""
    rest: memoryview | None = memoryview(data)
    while rest is not None:
        left = rest
        rest = await trio.to_thread.run_sync(lambda: TimeSlice(link).send(left))  # noqa: B023  # at once


async def test_threads_transfer_between_sockets() -> None:
    async with connected() as (near, far), trio.open_nursery() as nursery:
        nursery.start_soon(send_all, Link(near), MUCH)
        assert await receive_all(Link(far), len(MUCH)) == MUCH


@pytest.mark.parametrize("much", [False, True])
async def test_threads_transfer_over_tls(tmp_path: Path, much: bool) -> None:
    async with secured(tmp_path) as (link, client), trio.open_nursery() as nursery:
        if much:
            link.optimize_for_throughput()
        nursery.start_soon(send_all, link, MUCH)
        assert await receive_all(Link(client), len(MUCH)) == MUCH


async def test_threads_and_tasks_alternate(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1024
    async with secured(tmp_path) as (link, client), trio.open_nursery() as nursery:
        far = Link(client)

        async def send() -> None:
            for _ in range(4):
                await link.send(encode(Ping()))
                await send_all(link, data)

        nursery.start_soon(send)
        for _ in range(2):
            assert await far.receive() == BODY
            assert await receive_all(far, len(data)) == data
            while (body := await trio.to_thread.run_sync(TimeSlice(far).frame)) is None:
                pass
            assert body == BODY
            assert await take_raw(far, len(data)) == data


async def take_raw(link: Link, size: int) -> bytes:
    taken = b""
    while len(taken) < size:
        taken += await link.receive_raw(size - len(taken))
    return taken


@pytest.mark.parametrize("tls", [False, True])
async def test_the_end_is_left_to_the_task(tmp_path: Path, tls: bool) -> None:
    async with secured(tmp_path) as (sealed, client), connected() as (near, far):
        link, end = (Link(client), sealed.stream) if tls else (Link(near), far)
        await end.send_all(encode(Ping()) + b"rest")
        await end.aclose()
        assert await link.receive() == BODY
        came = room(100)
        assert await trio.to_thread.run_sync(lambda: TimeSlice(link).receive(came)) == 4
        assert bytes(came[:4]) == b"rest"
        assert await trio.to_thread.run_sync(lambda: TimeSlice(link).receive(came)) == 0
        assert await trio.to_thread.run_sync(lambda: TimeSlice(link).frame()) is None
        assert await link.receive_raw(100) == b""


async def test_a_blocked_socket_is_left_to_the_task() -> None:
    async with connected() as (near, far):
        link = Link(near)
        rest = await trio.to_thread.run_sync(lambda: TimeSlice(link).send(MUCH * 4))
        assert rest
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.send, rest)
            assert await take(far, 4 * len(MUCH)) == MUCH * 4


async def test_a_stream_without_socket_is_left_to_tasks() -> None:
    left, right = trio.testing.memory_stream_pair()
    near, far = Link(left), Link(right)
    assert TimeSlice(near).send(b"data") == b"data"
    await near.send(encode(Ping()) + b"data")
    assert TimeSlice(far).frame() is None
    assert TimeSlice(far).receive(room()) == 0
    with trio.fail_after(GUARD):
        assert await far.receive() == BODY
        assert await far.receive_raw(10) == b"data"

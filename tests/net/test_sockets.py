"""Non-blocking reads and writes on real sockets."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchat.core.protocol.frames import Ping, encode
from tchat.core.protocol.framing import PREFIX
from tchat.net.link import Link
from tchat.net.sockets import is_ready, read_nowait, reader_of, writer_of
from tchat.net.tls import make_credentials
from tchat.net.tls_stream import TlsStream
from tests.helpers import GUARD
from tests.sockets import MUCH, connected, secured, take

if TYPE_CHECKING:
    from pathlib import Path

# ------------------------------------------------------------------ reading


async def test_arrived_data_is_read_before_the_end() -> None:
    async with connected() as (near, far):
        await far.send_all(b"hello")
        receive = reader_of(near)
        assert await receive(3) == b"hel"
        assert await receive(100) == b"lo"
        await far.send_eof()
        assert await receive(100) == b""


async def test_a_reader_waits_for_data() -> None:
    async with connected() as (near, far), trio.open_nursery() as nursery:
        got: list[bytes | bytearray] = []

        async def read() -> None:
            got.append(await reader_of(near)(100))

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert got == []
        await far.send_all(b"late")
        await wait_all_tasks_blocked(0.01)
        assert got == [b"late"]


async def test_a_fast_reader_lets_little_wait_unread() -> None:
    """For a fast reader, the system would let more and more wait, up to 32 MB."""
    async with connected() as (near, far):
        near_link = Link(near)
        near_link.begin_chat(256 * 1024)
        piece, much = bytes(1 << 16), 64 << 20

        async def read() -> None:
            left = much
            while left:
                left -= len(await near_link.receive_raw(min(left, 1 << 20)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for _ in range(0, much, len(piece)):
                await far.send_all(piece)
        assert near.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 1 << 20


async def test_a_waiting_reader_notices_a_closed_socket() -> None:
    async with connected() as (near, _), trio.open_nursery() as nursery:
        receive = reader_of(near)

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await receive(100)

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await near.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await receive(100)


async def test_a_reset_connection_is_broken() -> None:
    async with connected() as (near, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await far.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await reader_of(near)(100)
        assert await Link(near).receive() is None


# ------------------------------------------------------------------ writing


async def test_a_write_that_fits_is_complete() -> None:
    async with connected() as (near, far):
        assert writer_of(near)(b"hello") is None
        assert await take(far, 5) == b"hello"


async def test_a_partial_write_returns_the_rest() -> None:
    async with connected() as (near, far):
        rest, before = writer_of(near)(MUCH) or b"", MUCH
        while rest != before:  # the system may yet make room at the other end
            rest, before = writer_of(near)(rest) or b"", rest
        assert rest
        assert await take(far, len(MUCH) - len(rest)) == MUCH[: len(MUCH) - len(rest)]
        await near.aclose()
        assert writer_of(near)(b"closed") == b"closed"


# ------------------------------------------------------------------ threads


async def test_arrived_data_is_read_without_waiting() -> None:
    async with connected() as (near, far):
        room = memoryview(bytearray(4))
        assert read_nowait(near, room) == 0
        assert not is_ready(near, to_send=False, within=0)
        await far.send_all(b"hello")
        assert is_ready(near, to_send=False, within=GUARD)
        assert read_nowait(near, room) == 4
        assert bytes(room) == b"hell"
        assert read_nowait(near, room) == 1
        await far.aclose()
        assert is_ready(near, to_send=False, within=GUARD)  # to read its end
        assert read_nowait(near, room) == 0


async def test_a_full_socket_is_not_ready_to_send() -> None:
    async with connected() as (near, far):
        assert is_ready(near, to_send=True, within=0)
        sent = 0
        while is_ready(near, to_send=True, within=0):
            sent += len(MUCH) - len(writer_of(near)(MUCH) or b"")
        await take(far, sent)
        assert is_ready(near, to_send=True, within=GUARD)


async def test_a_closed_stream_reads_nothing() -> None:
    async with connected() as (near, _):
        await near.aclose()
        assert not is_ready(near, to_send=False, within=GUARD)
        assert read_nowait(near, memoryview(bytearray(4))) == 0


# ------------------------------------------------------------------ the same over TLS


async def test_unsent_records_are_sent_first(tmp_path: Path) -> None:
    async with secured(tmp_path) as (link, client):
        data = MUCH
        rest = link.send_nowait(data)
        assert rest is not None
        assert link.send_nowait(b"full") == b"full"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.send, rest)
            assert await take(client, len(data)) == data
        assert link.send_nowait(b"free again") is None
        assert await take(client, 10) == b"free again"


async def test_unsent_records_are_sent_when_possible(tmp_path: Path) -> None:
    async with secured(tmp_path) as (link, client):
        left: bytes | None = MUCH
        got = bytearray()
        while left is not None:
            while left is not None and link.is_ready(to_send=True, within=0):
                left = link.send_nowait(left)
            got += await client.receive_some(1 << 16)
        got += await take(client, len(MUCH) - len(got))
        assert got == MUCH


async def test_a_fully_encrypted_send_may_leave_records(tmp_path: Path) -> None:
    async with secured(tmp_path) as (link, client):
        sent = 0
        while (rest := link.send_nowait(bytes(1000))) is None:
            sent += 1000
        assert rest == b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.send, rest)
            assert await take(client, sent + 1000) == bytes(sent + 1000)


async def test_send_nowait_never_overtakes_a_sending_task(tmp_path: Path) -> None:
    async with secured(tmp_path) as (link, client), trio.open_nursery() as nursery:
        nursery.start_soon(link.send, MUCH)
        await wait_all_tasks_blocked()
        assert link.send_nowait(b"now") == b"now"
        assert await take(client, len(MUCH)) == MUCH
        await wait_all_tasks_blocked()
        assert link.send_nowait(b"now") is None


async def test_an_unready_or_closed_stream_sends_nothing(tmp_path: Path) -> None:
    async with connected() as (near, _):
        early = TlsStream(near, make_credentials(tmp_path).context, server_side=True)
        assert Link(early).send_nowait(b"early") == b"early"
    async with secured(tmp_path) as (link, _):
        await link.stream.aclose()
        assert link.send_nowait(b"late") == b"late"


async def test_receiving_leaves_unsent_records_to_the_sender(tmp_path: Path) -> None:
    async with secured(tmp_path) as (link, client):
        while (rest := link.send_nowait(bytes(1000))) is None:
            pass
        await client.send_all(encode(Ping()))
        assert await link.receive() == encode(Ping())[PREFIX:]
        with trio.CancelScope() as scope:
            scope.cancel()
            await link.receive()
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.send, rest + b"the end")
            heard = b""
            while not heard.endswith(b"the end"):
                heard += await client.receive_some(1 << 16)
        assert not heard.removesuffix(b"the end").strip(b"\x00")

"""Transfers that stand still: they take little memory, and end below the minimum rate."""

from __future__ import annotations

import socket
import tracemalloc
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.protocol.frames import Have, Piece, Ping, StartAt, Ticket, Upload
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import Code
from tchat.transfer.pieces import EMPTY_DIGEST
from tests.helpers import GROUP, NO_RATE_LIMITS, members, running_server
from tests.server.file_transfers import (
    DATA,
    SHA,
    TransferConnection,
    fetching,
    pieces,
    refusal_code,
    sending,
    sha,
    share,
    stored_names,
    transfer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HURRIED = replace(NO_RATE_LIMITS, transfer_rate=1 << 40)
"""With a rate that no transfer reaches."""


@contextmanager
def short_windows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tchat.transfer.patience.WINDOW_SECONDS", 0.1)
        patch.setattr("tchat.transfer.patience.GRACE_SECONDS", 0.1)
        yield


async def trickle(connection: TransferConnection, raw: bytes) -> None:
    """Send bytes, or pings, again and again until the server ends the connection."""
    try:
        while True:
            await connection.send(*([] if raw else [Ping()]), raw=raw)
            await trio.sleep(0.01)
    except trio.BrokenResourceError:
        return


async def refusal_of_trickle(connection: TransferConnection, raw: bytes = b"") -> str:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle, connection, raw)
        (failure,) = await connection.until_end()
        nursery.cancel_scope.cancel()
    return refusal_code(failure)


async def test_slow_upload_ends_and_can_be_resumed() -> None:
    data = DATA[:1000] + b"x" * len(DATA)
    async with running_server(limits=HURRIED) as server, members(server, "alice") as (alice,):
        with short_windows():
            async with sending(server, alice, data) as (connection, _):
                (piece, content), *_ = pieces(data)
                await connection.send(StartAt(0), piece, raw=content[:1000])
                assert await refusal_of_trickle(connection, b"x") == Code.TOO_SLOW
        async with sending(server, alice, data) as (connection, have):
            assert have.offset > 1000
            await connection.send_pieces(data, have.offset)
            await connection.until_end()
        assert stored_names(server) == {sha(data).hex()}


@pytest.mark.parametrize("started", [False, True])
async def test_pings_are_no_progress(started: bool) -> None:
    async with running_server(limits=HURRIED) as server, members(server, "alice") as (alice,):
        with short_windows():
            async with sending(server, alice, DATA) as (connection, _):
                await connection.send(*([StartAt(0)] if started else []))
                assert await refusal_of_trickle(connection) == Code.TOO_SLOW


async def test_unread_download_ends() -> None:
    data = DATA * 4
    async with running_server(limits=HURRIED) as server, members(server, "alice") as (alice,):
        await share(server, alice, data)
        with short_windows():
            async with fetching(server, alice, 1, len(data)) as connection:
                assert isinstance(connection.stream, trio.SocketStream)
                connection.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
                await connection.send(Have(0, EMPTY_DIGEST))
                await server.logged("slower than")  # reading would be progress
                assert await connection.rest() < len(data)


# ------------------------------------------------------------------ memory

STALLED = 10
SIZE = 8 * PIECE_SIZE
MOST_MEMORY = 512 * 1024  # of both ends together


@contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


async def test_stalled_uploads_have_no_piece_in_memory() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        AsyncExitStack() as stack,
    ):
        with traced():
            for number in range(STALLED):
                request = partial(Upload, group=GROUP, size=SIZE, head=sha(bytes([number])))
                answer = await alice.ask(request)
                assert isinstance(answer, Ticket)
                upload = await stack.enter_async_context(transfer(server, answer.ticket, SIZE))
                await upload.expect(Have)
                await upload.send(StartAt(0), Piece(PIECE_SIZE, SHA), raw=b"x")
            await alice.post("the chat goes on")
            assert tracemalloc.get_traced_memory()[0] < STALLED * MOST_MEMORY


async def test_unread_downloads_have_no_piece_in_memory() -> None:
    data = DATA * 4
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        AsyncExitStack() as stack,
    ):
        await share(server, alice, data)
        with traced():
            for _ in range(STALLED):
                connection = await stack.enter_async_context(fetching(server, alice, 1, len(data)))
                await connection.send(Have(0, EMPTY_DIGEST))
                await connection.expect(StartAt)
            await alice.post("the chat goes on")
            assert tracemalloc.get_traced_memory()[0] < STALLED * MOST_MEMORY

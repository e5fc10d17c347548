"""Connected TCP sockets on loopback, without and with TLS."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from tchat.net.link import Link
from tchat.net.tls import client_context, make_credentials
from tchat.net.tls_stream import TlsStream
from tests.helpers import GUARD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MUCH = bytes(range(256)) * 65536  # 16 MiB: more than any socket buffer takes at once


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """Give both ends of a TCP connection, for the length of the block."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(GUARD):
        async with listener:
            near = await trio.open_tcp_stream(*listener.socket.getsockname())
            far = await listener.accept()
        async with near, far:
            yield near, far


async def take(stream: trio.abc.Stream, size: int) -> bytes:
    """Receive exactly `size` bytes."""
    taken = bytearray()
    while len(taken) < size:
        data = await stream.receive_some(1 << 16)
        assert data, f"ended after {len(taken)} of {size} bytes"
        taken += data
    return bytes(taken)


@asynccontextmanager
async def secured(directory: Path) -> AsyncIterator[tuple[Link, TlsStream[trio.SocketStream]]]:
    """Give a link and the TLS stream at its other end, handshake done."""
    async with connected() as (near, far):
        server = TlsStream(near, make_credentials(directory).context, server_side=True)
        client = TlsStream(far, client_context(verified=False))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            nursery.start_soon(client.do_handshake)
        yield Link(server), client

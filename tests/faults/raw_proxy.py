"""TCP proxy that disturbs whole connections: delays, cuts, resets, and links that go dead."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tests.faults.servers import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from random import Random

_CHUNK = 1 << 14
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST
_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass(slots=True, eq=False)
class Link:
    """A connection through the proxy: the client's side, the server's side."""

    client: trio.SocketStream
    server: trio.SocketStream
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    is_dead: bool = False

    def cut(self, *, reset: bool) -> None:
        """Cut both sides, with RST or in an orderly way."""
        if reset:
            for stream in (self.client, self.server):
                with suppress(OSError):
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.scope.cancel()


class RawProxy:
    """Forwards connections to `port()`. `delay` is the longest pause before a chunk, in seconds."""

    def __init__(self, port: Callable[[], int], rng: Random, delay: float = 0.0) -> None:
        self.links: set[Link] = set()
        self.delay = delay
        self.listening_on = 0
        self._port = port
        self._random = rng

    async def dial(self) -> trio.abc.Stream:
        """Open a connection through the proxy."""
        return await trio.open_tcp_stream(HOST, self.listening_on)

    async def forward(self, client: trio.SocketStream) -> None:
        """Forward a connection until one of its ends closes it."""
        async with client:
            await trio.sleep(self._random.uniform(0, self.delay))  # so that connects are reordered
            try:
                server = await trio.open_tcp_stream(HOST, self._port())
            except OSError:
                return
            link = Link(client, server)
            self.links.add(link)
            async with server:
                try:
                    with link.scope:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(self._pump, link, client, server)
                            nursery.start_soon(self._pump, link, server, client)
                finally:
                    self.links.discard(link)

    async def _pump(self, link: Link, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            while data := await source.receive_some(_CHUNK):
                if link.is_dead:  # lost, and nobody is told
                    await trio.sleep_forever()
                if self.delay:
                    await trio.sleep(self._random.uniform(0, self.delay))
                await sink.send_all(data)
        except _BROKEN:
            pass
        link.scope.cancel()


@asynccontextmanager
async def raw_proxy(
    port: Callable[[], int], rng: Random, delay: float = 0.0
) -> AsyncIterator[RawProxy]:
    """Run a proxy for the length of the block."""
    proxy = RawProxy(port, rng, delay)
    listeners = await trio.open_tcp_listeners(0, host=HOST)
    proxy.listening_on = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.forward, listeners)
        yield proxy
        nursery.cancel_scope.cancel()

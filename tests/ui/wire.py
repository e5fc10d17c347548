"""TCP proxy that stalls after `HELD` bytes, so that tests can observe a transfer in progress."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from tchat.net.address import Address
from tchat.net.tcp import connect, port_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HELD = 1 << 24
"""Bytes of one connection that pass before it stalls: more than socket buffers can hold."""


@asynccontextmanager
async def held_wire(target: Address) -> AsyncIterator[tuple[Address, trio.Event]]:
    """Forward each connection up to `HELD` bytes; the event is set when one stalls."""
    held = trio.Event()

    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        passed = 0
        try:
            async for data in source:
                passed += len(data)
                await sink.send_all(data)
                if passed >= HELD:
                    held.set()
                    await trio.sleep_forever()
            await sink.send_eof()
        except trio.BrokenResourceError:
            pass

    async def forward(client: trio.SocketStream) -> None:
        server = await connect(target)
        async with client, server, trio.open_nursery() as pumps:
            pumps.start_soon(pump, client, server)
            pumps.start_soon(pump, server, client)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, forward, listeners)
        yield Address("127.0.0.1", port_of(listeners[0])), held
        nursery.cancel_scope.cancel()

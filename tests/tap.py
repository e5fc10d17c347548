"""A tap on the wire between clients and a server, which checks, records, and cuts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import trio

from tchat.core.framing import FrameBuffer, unpack
from tchat.net.address import Address, connect, port_of
from tests.helpers import GUARD
from tests.protocol import validate_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


Side = Literal["client", "server"]
Verdict = Literal["pass", "drop", "cut", "tear"]
"""What becomes of a frame: passed on, lost, or the connection is cut before it or within it."""


class Tap:
    """Stands between clients and a server, checks every frame, and can cut the wire.

    `watch` is called with each frame and who sent it, before it is passed on, and says what is to
    become of it. What follows a `transfer` handshake is not frames, and passes unchecked.
    """

    def __init__(self, target: Address) -> None:
        self.target = target
        self.address: Address
        self.refusing = False
        self.frames: list[tuple[Side, dict[str, Any]]] = []
        self.watch: Callable[[Side, dict[str, Any]], Verdict] = _pass
        self._wires: set[trio.CancelScope] = set()
        self._news = trio.Event()

    async def passes(self, **keys: object) -> dict[str, Any]:
        """Return the first frame with these keys and values, once it has come."""
        with trio.fail_after(GUARD):
            while True:
                for _, frame in self.frames:
                    if keys.items() <= frame.items():
                        return frame
                self._news = trio.Event()
                await self._news.wait()

    def cut(self) -> None:
        """Cut every connection that stands, without a word to either side."""
        for wire in self._wires:
            wire.cancel()

    async def carry(self, client: trio.SocketStream) -> None:
        """Connect one client through to the server, to the end."""
        async with client:
            if self.refusing:
                return
            try:
                server = await connect(self.target)
            except OSError:
                return
            async with server:
                await self._connect_through(client, server)

    async def _connect_through(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        with trio.CancelScope() as wire:
            self._wires.add(wire)
            try:
                async with trio.open_nursery() as pumps:
                    pumps.start_soon(self._pump, "client", client, server, wire)
                    pumps.start_soon(self._pump, "server", server, client, wire)
            finally:
                self._wires.discard(wire)

    async def _pump(
        self, side: Side, source: trio.SocketStream, sink: trio.SocketStream, wire: trio.CancelScope
    ) -> None:
        buffer = FrameBuffer()
        framed = True
        try:
            async for data in source:
                buffer.feed(data)
                while framed and (body := buffer.pop()) is not None:
                    framed = await self._pass_on(side, body, sink, wire)
                if not framed:
                    await sink.send_all(buffer.rest())
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            wire.cancel()

    async def _pass_on(
        self, side: Side, body: bytes, sink: trio.SocketStream, wire: trio.CancelScope
    ) -> bool:
        """Pass on a frame, if it may; return whether what follows is framed as well."""
        validate_body(body)
        frame = unpack(body)
        self.frames.append((side, frame))
        self._news.set()
        verdict = self.watch(side, frame)
        data = len(body).to_bytes(4, "big") + body
        if verdict in ("pass", "tear"):
            await sink.send_all(data if verdict == "pass" else data[: len(data) // 2])
        if verdict in ("cut", "tear"):
            wire.cancel()
            await trio.lowlevel.checkpoint()
        return frame["type"] not in ("transfer", "ready")


def _pass(side: Side, frame: dict[str, Any]) -> Verdict:
    return "pass"


@asynccontextmanager
async def tapped(target: Address) -> AsyncIterator[Tap]:
    """Listen on a port of its own for the length of the block, and pass everything on."""
    tap = Tap(target)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    tap.address = Address("127.0.0.1", port_of(listeners[0]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, tap.carry, listeners)
        yield tap
        nursery.cancel_scope.cancel()

"""TCP proxy between clients and a server: records, validates, cuts, delays, corrupts traffic."""

from __future__ import annotations

import heapq
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import trio

from tchat.core.protocol.framing import FrameBuffer, unpack
from tchat.net.address import Address
from tchat.net.tcp import connect, port_of
from tests.cddl import validate_body
from tests.helpers import GUARD, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tchat.client.session import Session


Side = Literal["client", "server"]
Verdict = Literal["pass", "drop", "cut", "tear"]
"""Fate of a frame: pass it on, drop it, cut the connection before it (cut) or within it (tear)."""
Fault = Literal["cut", "flip", "stall"]

_BUFFER_SIZE = 256 * 1024
"""Size of each socket buffer of the proxy, in bytes.

Bytes that still wait for a program when it is killed have to be sent again, and are counted. By
default the system would buffer megabytes of them, which would be charged to the sender.
"""


@dataclass(slots=True)
class Payload:
    """Faults in the file bytes that one side sends, counted over all its connections.

    `transferred` is the number of bytes that have arrived at the proxy. Faults are planned at an
    offset from the current count: the connection is cut before that byte, a bit of the byte is
    flipped, or the byte is held back until `go_on`.
    """

    transferred: int = 0
    stalled: trio.Event = field(default_factory=trio.Event)
    _go_on: trio.Event = field(default_factory=trio.Event)
    _cut: bool = False
    _faults: list[tuple[int, Fault]] = field(default_factory=list)

    def cut_after(self, *sizes: int) -> None:
        """Cut the connection after each of these numbers of further bytes."""
        self._plan("cut", sizes)

    def flip_after(self, *sizes: int) -> None:
        """Flip a bit of the byte that follows each of these numbers of further bytes."""
        self._plan("flip", sizes)

    def stall_after(self, *sizes: int) -> None:
        """Stall after each of these numbers of further bytes: set `stalled`, wait for `go_on`."""
        self.stalled, self._go_on = trio.Event(), trio.Event()
        self._plan("stall", sizes)

    def go_on(self, *, cut: bool = False) -> None:
        """Resume the stalled connection, or cut it instead."""
        self._cut = cut
        self._go_on.set()

    @property
    def planned(self) -> int:
        """Return the number of faults still to come."""
        return len(self._faults)

    def take(self, data: bytearray) -> tuple[bytearray, Fault | None]:
        """Remove from `data` the bytes before the next fault; return them and that fault."""
        if not self._faults or self._faults[0][0] >= self.transferred + len(data):
            taken, fault = bytearray(data), None
        else:
            place, fault = heapq.heappop(self._faults)
            taken = data[: max(0, place - self.transferred)]
        del data[: len(taken)]
        self.transferred += len(taken) + (len(data) if fault == "cut" else 0)
        return taken, fault

    async def stall(self) -> bool:
        """Wait for `go_on`; return whether to cut the connection."""
        self.stalled.set()
        await self._go_on.wait()
        return self._cut

    def _plan(self, fault: Fault, sizes: tuple[int, ...]) -> None:
        for size in sizes:
            heapq.heappush(self._faults, (self.transferred + size, fault))


class FaultProxy:
    """Proxy in front of a server that validates every frame against the CDDL.

    `watch` is called with the sender and each frame before it is passed on, and returns the verdict
    on it. The bytes after a `piece` frame are file data, not frames: their faults are those of `up`
    when a client sends them, of `down` when the server does. `refusing` closes new connections.
    """

    def __init__(self, target: Address) -> None:
        self.target = target
        self.address: Address
        self.refusing = False
        self.frames: list[tuple[Side, dict[str, Any]]] = []
        self.watch: Callable[[Side, dict[str, Any]], Verdict] = _pass
        self.up, self.down = Payload(), Payload()
        self._scopes: set[trio.CancelScope] = set()
        self._news = trio.Event()
        self._closed = trio.Event()

    async def passes(self, **keys: object) -> dict[str, Any]:
        """Wait for the first frame with these keys and values; return it."""
        with trio.fail_after(GUARD):
            while True:
                for _, frame in self.frames:
                    if keys.items() <= frame.items():
                        return frame
                self._news = trio.Event()
                await self._news.wait()

    def of_type(self, frame_type: str) -> list[dict[str, Any]]:
        """Return the frames of one type so far."""
        return [frame for _, frame in self.frames if frame["type"] == frame_type]

    async def open_at_most(self, most: int) -> None:
        """Wait until at most `most` connections are open and the others' bytes are counted."""
        with trio.fail_after(GUARD):
            while len(self._scopes) > most:
                self._closed = trio.Event()
                await self._closed.wait()

    def cut(self) -> None:
        """Cut every open connection without notice to either side."""
        for scope in self._scopes:
            scope.cancel()

    async def forward(self, client: trio.SocketStream) -> None:
        """Forward one client connection to the server until it ends."""
        async with client:
            if self.refusing:
                return
            try:
                server = await connect(self.target)
            except OSError:
                return
            _shrink_buffers(server)
            async with server:
                await self._connect_through(client, server)

    async def _connect_through(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                async with trio.open_nursery() as pumps:
                    pumps.start_soon(self._pump, "client", client, server, scope)
                    pumps.start_soon(self._pump, "server", server, client, scope)
            finally:
                self._scopes.discard(scope)
                self._closed.set()

    async def _pump(
        self,
        side: Side,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        scope: trio.CancelScope,
    ) -> None:
        buffer = FrameBuffer()
        left = 0  # bytes of the current piece still to come
        try:
            async for data in source:
                buffer.feed(data)
                while True:
                    if left:
                        rest = buffer.rest()
                        buffer.feed(rest[left:])
                        piece = bytearray(rest[:left])
                        left -= len(piece)
                        await self._forward_piece(side, piece, sink, scope)
                    if left or (body := buffer.pop()) is None:
                        break
                    left = await self._forward_frame(side, body, sink, scope)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            scope.cancel()

    async def _forward_frame(
        self, side: Side, body: bytes, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> int:
        """Apply the verdict on a frame; return the number of file bytes that follow it."""
        validate_body(body)
        frame = unpack(body)
        self.frames.append((side, frame))
        self._news.set()
        verdict = self.watch(side, frame)
        data = len(body).to_bytes(4, "big") + body
        if verdict in ("pass", "tear"):
            await sink.send_all(data if verdict == "pass" else data[: len(data) // 2])
        if verdict in ("cut", "tear"):
            scope.cancel()
            await trio.lowlevel.checkpoint()
        return int(frame["size"]) if frame["type"] == "piece" else 0

    async def _forward_piece(
        self, side: Side, data: bytearray, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        """Forward file bytes, applying the planned faults."""
        payload = self.up if side == "client" else self.down
        while data:
            taken, fault = payload.take(data)
            await sink.send_all(taken)
            if fault == "flip":
                data[0] ^= 1
            elif fault == "cut" or (fault == "stall" and await payload.stall()):
                scope.cancel()
                await trio.lowlevel.checkpoint()


def _shrink_buffers(target: trio.SocketStream | trio.SocketListener) -> None:
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        target.socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER_SIZE)


def _pass(side: Side, frame: dict[str, Any]) -> Verdict:
    return "pass"


@asynccontextmanager
async def fault_proxy(target: Address) -> AsyncIterator[FaultProxy]:
    """Proxy a server on a port of its own for the length of the block."""
    proxy = FaultProxy(target)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    for listener in listeners:
        _shrink_buffers(listener)  # accepted connections inherit it
    proxy.address = Address("127.0.0.1", port_of(listeners[0]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.forward, listeners)
        yield proxy
        nursery.cancel_scope.cancel()


async def cut_off(proxy: FaultProxy, session: Session) -> None:
    """Cut a session's connection; refuse new ones until `proxy.refusing` is set to False."""
    proxy.refusing = True
    proxy.cut()
    await until(session, lambda: not session.connected)

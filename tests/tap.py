"""A tap on the wire between clients and a server, which checks, records, cuts and corrupts."""

from __future__ import annotations

import heapq
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import trio

from tchat.core.protocol.framing import FrameBuffer, unpack
from tchat.net.address import Address, connect, port_of
from tests.helpers import GUARD, until
from tests.protocol import validate_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tchat.client.session import Session


Side = Literal["client", "server"]
Verdict = Literal["pass", "drop", "cut", "tear"]
"""What becomes of a frame: passed on, lost, or the connection is cut before it or within it."""
Fault = Literal["cut", "flip", "stall"]

_HELD = 256 * 1024
"""About how many bytes may wait in each of the tap's sockets.

Those that wait for a program when it is killed were sent in vain, and are counted; left to itself,
the system holds megabytes of them here, which is the tap's doing, and no sender's.
"""


@dataclass(slots=True)
class Cargo:
    """The bytes of files that one side sends, over all connections together.

    `carried` is how many have come to the tap. The places of faults are counted like that, from
    now on: the connection is cut before that byte, the byte is another one, or it is not passed on
    before `go_on`.
    """

    carried: int = 0
    stalled: trio.Event = field(default_factory=trio.Event)
    _go_on: trio.Event = field(default_factory=trio.Event)
    _cut: bool = False
    _faults: list[tuple[int, Fault]] = field(default_factory=list)

    def cut_after(self, *sizes: int) -> None:
        """Cut the connection when so many more bytes have come."""
        self._plan("cut", sizes)

    def flip_after(self, *sizes: int) -> None:
        """Change the byte that comes after so many more."""
        self._plan("flip", sizes)

    def stall_after(self, *sizes: int) -> None:
        """Stop when so many more bytes have come; see `stalled` and `go_on`."""
        self.stalled, self._go_on = trio.Event(), trio.Event()
        self._plan("stall", sizes)

    def go_on(self, *, cut: bool = False) -> None:
        """Let those pass that were stopped, or cut their connections instead."""
        self._cut = cut
        self._go_on.set()

    @property
    def planned(self) -> int:
        """How many faults are still to come."""
        return len(self._faults)

    def take(self, data: bytearray) -> tuple[bytearray, Fault | None]:
        """Return, and take from `data`, what comes before the next fault, and that fault."""
        if not self._faults or self._faults[0][0] >= self.carried + len(data):
            taken, fault = bytearray(data), None
        else:
            place, fault = heapq.heappop(self._faults)
            taken = data[: max(0, place - self.carried)]
        del data[: len(taken)]
        self.carried += len(taken) + (len(data) if fault == "cut" else 0)
        return taken, fault

    async def stall(self) -> bool:
        """Wait until it may go on; return whether it is to be cut instead."""
        self.stalled.set()
        await self._go_on.wait()
        return self._cut

    def _plan(self, fault: Fault, sizes: tuple[int, ...]) -> None:
        for size in sizes:
            heapq.heappush(self._faults, (self.carried + size, fault))


class Tap:
    """Stands between clients and a server, checks every frame, and can cut the wire.

    `watch` is called with each frame and who sent it, before it is passed on, and says what is to
    become of it. What follows a `piece` is no frames, but bytes of a file: of the cargo `up`, if a
    client sends them, or `down`.
    """

    def __init__(self, target: Address) -> None:
        self.target = target
        self.address: Address
        self.refusing = False
        self.frames: list[tuple[Side, dict[str, Any]]] = []
        self.watch: Callable[[Side, dict[str, Any]], Verdict] = _pass
        self.up, self.down = Cargo(), Cargo()
        self._wires: set[trio.CancelScope] = set()
        self._news = trio.Event()
        self._fewer = trio.Event()

    async def passes(self, **keys: object) -> dict[str, Any]:
        """Return the first frame with these keys and values, once it has come."""
        with trio.fail_after(GUARD):
            while True:
                for _, frame in self.frames:
                    if keys.items() <= frame.items():
                        return frame
                self._news = trio.Event()
                await self._news.wait()

    def of_type(self, word: str) -> list[dict[str, Any]]:
        """Return the frames of one type that have come so far."""
        return [frame for _, frame in self.frames if frame["type"] == word]

    async def stands_at(self, most: int) -> None:
        """Wait until no more than so many connections stand, and all that they sent is counted."""
        with trio.fail_after(GUARD):
            while len(self._wires) > most:
                self._fewer = trio.Event()
                await self._fewer.wait()

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
            _hold_little(server)
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
                self._fewer.set()

    async def _pump(
        self, side: Side, source: trio.SocketStream, sink: trio.SocketStream, wire: trio.CancelScope
    ) -> None:
        buffer = FrameBuffer()
        left = 0  # of a piece
        try:
            async for data in source:
                buffer.feed(data)
                while True:
                    if left:
                        came = buffer.rest()
                        buffer.feed(came[left:])
                        piece = bytearray(came[:left])
                        left -= len(piece)
                        await self._load(side, piece, sink, wire)
                    if left or (body := buffer.pop()) is None:
                        break
                    left = await self._pass_on(side, body, sink, wire)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            wire.cancel()

    async def _pass_on(
        self, side: Side, body: bytes, sink: trio.SocketStream, wire: trio.CancelScope
    ) -> int:
        """Pass on a frame, if it may; return how many bytes follow that are none."""
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
        return int(frame["size"]) if frame["type"] == "piece" else 0

    async def _load(
        self, side: Side, data: bytearray, sink: trio.SocketStream, wire: trio.CancelScope
    ) -> None:
        """Pass on bytes of a file, as they are or with what befalls them."""
        cargo = self.up if side == "client" else self.down
        while data:
            taken, fault = cargo.take(data)
            await sink.send_all(taken)
            if fault == "flip":
                data[0] ^= 1
            elif fault == "cut" or (fault == "stall" and await cargo.stall()):
                wire.cancel()
                await trio.lowlevel.checkpoint()


def _hold_little(held: trio.SocketStream | trio.SocketListener) -> None:
    for what in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        held.socket.setsockopt(socket.SOL_SOCKET, what, _HELD)


def _pass(side: Side, frame: dict[str, Any]) -> Verdict:
    return "pass"


@asynccontextmanager
async def tapped(target: Address) -> AsyncIterator[Tap]:
    """Listen on a port of its own for the length of the block, and pass everything on."""
    tap = Tap(target)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    for listener in listeners:
        _hold_little(listener)  # so do the connections that it accepts
    tap.address = Address("127.0.0.1", port_of(listeners[0]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, tap.carry, listeners)
        yield tap
        nursery.cancel_scope.cancel()


async def cut_off(tap: Tap, session: Session) -> None:
    """Cut a session's connection, and refuse it another until `refusing` is taken back."""
    tap.refusing = True
    tap.cut()
    await until(session, lambda: not session.connected)

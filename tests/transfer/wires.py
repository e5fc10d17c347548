"""Two links with a wire between them that can break or flip bits, and files to send over it."""

from __future__ import annotations

import hashlib
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
import trio.testing

from tchat.core.protocol.frames import Stored, encode
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import ProtocolError, Refused
from tchat.net.link import Link
from tchat.transfer.endpoints import receive_file, send_file
from tchat.transfer.partial_file import PartialFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.client.files.hashed_source import HashedSource

GUARD = 30
DATA = os.urandom(2 * PIECE_SIZE + 77_777)
DIGEST = hashlib.sha256(DATA).digest()


class Bytes:
    """Content in memory whose reads can fail from an offset on."""

    name = "bytes"

    def __init__(self, data: bytes = DATA, failure: Exception | None = None, at: int = 0) -> None:
        self.size = len(data)
        self._data = data
        self._at = 0
        self._failure = failure
        self._fails_at = at

    def seek(self, offset: int) -> None:
        self._at = offset

    def read_into(self, room: memoryview) -> int:
        if self._failure is not None and self._at + len(room) > self._fails_at:
            raise self._failure
        data = self._data[self._at : self._at + len(room)]
        room[: len(data)] = data
        self._at += len(data)
        return len(data)

    def check(self, sha256: bytes) -> None:
        pass

    def close(self) -> None:
        pass


class Wire:
    """Two links, and a wire that can break, or flip a bit, at an offset."""

    def __init__(self) -> None:
        self.left, self._left = trio.testing.memory_stream_pair()
        self.right, self._right = trio.testing.memory_stream_pair()
        self.sender, self.receiver = Link(self.left), Link(self.right)
        self.carried = 0
        self.breaks_after: int | None = None
        self.flips: int | None = None

    async def pump(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, self._left, self._right, True)
            nursery.start_soon(self._pump, self._right, self._left, False)

    async def _pump(
        self,
        source: trio.abc.Stream,
        sink: trio.abc.Stream,
        counted: bool,
    ) -> None:
        with_errors = (trio.BrokenResourceError, trio.ClosedResourceError)
        try:
            while data := bytearray(await source.receive_some(50_000)):
                if counted:
                    data = self._change(data)
                await sink.send_all(data)
                if counted and self.carried == self.breaks_after:
                    break
        except with_errors:
            pass
        await sink.aclose()
        await source.aclose()

    def _change(self, data: bytearray) -> bytearray:
        start, self.carried = self.carried, self.carried + len(data)
        if self.flips is not None and start <= self.flips < self.carried:
            data[self.flips - start] ^= 1
        if self.breaks_after is not None and self.carried >= self.breaks_after:
            data = data[: self.breaks_after - start]
            self.carried = self.breaks_after
        return data


@asynccontextmanager
async def wired() -> AsyncIterator[Wire]:
    wire = Wire()
    with trio.fail_after(GUARD):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.pump)
            yield wire
            nursery.cancel_scope.cancel()


def nobody(_: int) -> None:
    pass


async def carry(wire: Wire, source: HashedSource, part: PartialFile) -> list[object]:
    """Transfer a file; return the result of each end: the digest, or what it raised."""
    ends: list[object] = [None, None]

    async def send() -> None:
        try:
            ends[0] = await send_file(wire.sender, source, nobody)
        except (Refused, ProtocolError, OSError, trio.BrokenResourceError) as error:
            ends[0] = error
            await wire.left.aclose()

    async def receive() -> None:
        try:
            await receive_file(wire.receiver, part, nobody)
            await wire.receiver.send(encode(Stored(part.digest)))
            ends[1] = part.digest
        except (Refused, ProtocolError, OSError, trio.BrokenResourceError) as error:
            ends[1] = error
            await wire.right.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(receive)
    return ends


def part_at(place: Path, size: int = len(DATA)) -> PartialFile:
    part = PartialFile(place, size)
    part.open()
    return part

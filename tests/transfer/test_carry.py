"""Both ends of a transfer: whole or gone on with, in order, and never more than once."""

from __future__ import annotations

import hashlib
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.client.files.hashed_source import HashedSource
from tchat.core.protocol.frames import Failed, Have, Piece, Ping, StartAt, Stored, encode
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import Code, ProtocolError, Refused
from tchat.net.link import Link
from tchat.transfer.endpoints import FileWithdrawn, patiently, receive_file, send_file
from tchat.transfer.partial_file import BrokenPiece, PartialFile
from tests.protocol import unchecked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

GUARD = 30
DATA = os.urandom(2 * PIECE_SIZE + 77_777)
DIGEST = hashlib.sha256(DATA).digest()


class Bytes:
    """Content that is in memory, and that may fail at a place."""

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
    """Two links, and a wire between them that can break, or change a byte, at a place."""

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
    """Carry a file; return what became of each end: the digest, or what it raised."""
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


@pytest.mark.parametrize("size", [0, 1, PIECE_SIZE - 1, PIECE_SIZE, PIECE_SIZE + 1, len(DATA)])
async def test_a_file_arrives_as_it_was(tmp_path: Path, size: int) -> None:
    digest = hashlib.sha256(DATA[:size]).digest()
    part = part_at(tmp_path / "part", size)
    async with wired() as wire:
        assert await carry(wire, HashedSource(Bytes(DATA[:size])), part) == [digest, digest]
    assert part.path.read_bytes() == DATA[:size]
    part.close()


@pytest.mark.parametrize("at", [0, 1, 60, 1000, PIECE_SIZE, PIECE_SIZE + 150, 2 * PIECE_SIZE + 900])
async def test_what_came_before_a_break_is_not_sent_again(tmp_path: Path, at: int) -> None:
    part, source = part_at(tmp_path / "part"), HashedSource(Bytes())
    async with wired() as wire:
        wire.breaks_after = at
        ends = await carry(wire, source, part)
        assert all(isinstance(end, trio.BrokenResourceError) for end in ends), ends
    part.close()
    again = part_at(tmp_path / "part")
    assert again.offset >= at - 300
    async with wired() as wire:
        assert await carry(wire, source, again) == [DIGEST, DIGEST]
        assert wire.carried <= len(DATA) - again_offset(at) + 400
    assert part.path.read_bytes() == DATA
    again.close()


def again_offset(at: int) -> int:
    return max(at - 300, 0)


@pytest.mark.parametrize("at", [500, PIECE_SIZE - 1, PIECE_SIZE + 500, 2 * PIECE_SIZE + 5000])
async def test_a_byte_that_flipped_on_the_wire_is_found_and_its_piece_sent_again(
    tmp_path: Path, at: int
) -> None:
    part, source = part_at(tmp_path / "part"), HashedSource(Bytes())
    async with wired() as wire:
        wire.flips = at
        ends = await carry(wire, source, part)
        assert isinstance(ends[1], BrokenPiece)
    assert part.offset == at - at % PIECE_SIZE
    assert part.doubt
    async with wired() as wire:
        assert await carry(wire, source, part) == [DIGEST, DIGEST]
        assert wire.carried <= len(DATA) - part_begin(at) + 400
    assert part.path.read_bytes() == DATA
    part.close()


def part_begin(at: int) -> int:
    return at - at % PIECE_SIZE


async def test_another_file_is_sent_from_its_beginning(tmp_path: Path) -> None:
    part = part_at(tmp_path / "part")
    async with wired() as wire:
        wire.breaks_after = PIECE_SIZE + 5000
        await carry(wire, HashedSource(Bytes(DATA[::-1])), part)
    assert part.offset > PIECE_SIZE
    async with wired() as wire:
        assert await carry(wire, HashedSource(Bytes()), part) == [DIGEST, DIGEST]
    assert part.path.read_bytes() == DATA
    part.close()


@pytest.mark.parametrize("at", [0, PIECE_SIZE, 2 * PIECE_SIZE])
@pytest.mark.parametrize("failure", [OSError(5, "a disk failed"), Refused(Code.FILE_CHANGED, "!")])
async def test_a_sender_that_cannot_read_says_so(
    tmp_path: Path, at: int, failure: Exception
) -> None:
    part = part_at(tmp_path / "part")
    async with wired() as wire:
        ends = await carry(wire, HashedSource(Bytes(failure=failure, at=at)), part)
    assert ends[0] is failure
    assert isinstance(ends[1], FileWithdrawn)
    assert ends[1].code == (
        Code.FILE_CHANGED if isinstance(failure, Refused) else Code.FILE_UNREADABLE
    )
    part.close()


async def test_a_receiver_that_cannot_write_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = part_at(tmp_path / "part")
    full = OSError(28, "no space left")

    def write(*_: object) -> None:
        raise full

    monkeypatch.setattr(part, "_write", write)
    async with wired() as wire:
        ends = await carry(wire, HashedSource(Bytes()), part)
    assert ends[1] is full
    assert isinstance(ends[0], trio.BrokenResourceError)
    part.close()


async def test_a_receiver_may_say_why_it_ends_it(tmp_path: Path) -> None:
    async with wired() as wire:
        await wire.receiver.send(encode(Have(0, hashlib.sha256().digest())))
        await wire.receiver.send(encode(Failed("storage_full", "The disk is full.")))
        with pytest.raises(FileWithdrawn, match="disk is full") as caught:
            await send_file(wire.sender, HashedSource(Bytes()), nobody)
    assert caught.value.code == Code.STORAGE_FULL


async def test_one_who_has_stored_what_was_not_sent_is_not_believed(tmp_path: Path) -> None:
    async with wired() as wire:
        await wire.receiver.send(encode(Have(0, hashlib.sha256().digest())))
        await wire.receiver.send(encode(Stored(DIGEST)))
        with pytest.raises(ProtocolError):
            await send_file(wire.sender, HashedSource(Bytes()), nobody)


@pytest.mark.parametrize(
    "frames",
    [
        [StartAt(5)],
        [Stored(DIGEST)],
        [StartAt(0), Piece(PIECE_SIZE + 1, DIGEST)],
        [StartAt(0), Piece(0, DIGEST)],
        [StartAt(0), Piece(PIECE_SIZE - 1, DIGEST)],
        [StartAt(0), Piece(PIECE_SIZE, DIGEST[1:])],
        [StartAt(0), StartAt(0)],
    ],
)
async def test_a_sender_that_breaks_the_rules_is_not_listened_to(
    tmp_path: Path, frames: list[StartAt | Piece | Stored]
) -> None:
    part = part_at(tmp_path / "part")
    async with wired() as wire:
        for frame in frames:
            # Made by hand: not every one of these is a frame that the protocol allows.
            await wire.sender.send(unchecked(frame.to_map()))
        with pytest.raises(ProtocolError):
            await receive_file(wire.receiver, part, nobody)
    assert part.offset == 0
    part.close()


async def test_one_who_looks_through_what_it_has_says_that_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tchat.transfer.endpoints._PING_SECONDS", 0.01)
    async with wired() as wire:
        done = trio.Event()

        def work() -> str:
            trio.from_thread.run(done.wait)
            return "done"

        async def listen() -> None:
            for _ in range(2):
                body = await wire.sender.receive()
                assert body is not None
                assert encode(Ping()).endswith(body)
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            assert await patiently(wire.receiver, work) == "done"


async def test_progress_is_told_as_it_is_made(tmp_path: Path) -> None:
    part = part_at(tmp_path / "part")
    sent: list[int] = []
    got: list[int] = []

    async with wired() as wire, trio.open_nursery() as nursery:

        async def send() -> None:
            await send_file(wire.sender, HashedSource(Bytes()), sent.append)

        nursery.start_soon(send)
        await receive_file(wire.receiver, part, got.append)
        await wire.receiver.send(encode(Stored(part.digest)))
    for told in (sent, got):
        assert told[0] == 0
        assert told[-1] == len(DATA)
        assert told == sorted(told)
        assert len(told) > 3
    part.close()


async def test_what_came_is_kept_by_one_who_is_cancelled(tmp_path: Path) -> None:
    part = part_at(tmp_path / "part")
    enough = PIECE_SIZE + 200_000

    async with wired() as wire, trio.open_nursery() as nursery:
        wire.breaks_after = None

        def told(done: int) -> None:
            if done >= enough:
                nursery.cancel_scope.cancel()

        async def send() -> None:
            await send_file(wire.sender, HashedSource(Bytes()), nobody)

        nursery.start_soon(send)
        await receive_file(wire.receiver, part, told)
    assert part.offset >= enough
    part.close()
    again = part_at(tmp_path / "part")
    assert again.offset >= enough
    assert again.path.read_bytes() == DATA[: again.offset]
    again.close()

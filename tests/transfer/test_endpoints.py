"""Both ends of a transfer: complete or resumable, in order, and never anything twice."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.client.files.hashed_source import HashedSource
from tchat.core.protocol.frames import Failed, Have, Piece, Ping, StartAt, Stored, encode
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import Code, ProtocolError, Refused
from tchat.transfer.endpoints import FileWithdrawn, receive_file, send_file, with_pings
from tchat.transfer.partial_file import BrokenPiece
from tests.cddl import unchecked
from tests.transfer.wires import DATA, DIGEST, Bytes, carry, nobody, part_at, wired

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("size", [0, 1, PIECE_SIZE - 1, PIECE_SIZE, PIECE_SIZE + 1, len(DATA)])
async def test_a_file_arrives_unchanged(tmp_path: Path, size: int) -> None:
    digest = hashlib.sha256(DATA[:size]).digest()
    part = part_at(tmp_path / "part", size)
    async with wired() as wire:
        assert await carry(wire, HashedSource(Bytes(DATA[:size])), part) == [digest, digest]
    assert part.path.read_bytes() == DATA[:size]
    part.close()


@pytest.mark.parametrize("at", [0, 1, 60, 1000, PIECE_SIZE, PIECE_SIZE + 150, 2 * PIECE_SIZE + 900])
async def test_a_resumed_transfer_sends_only_the_rest(tmp_path: Path, at: int) -> None:
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
async def test_a_damaged_piece_is_sent_again(tmp_path: Path, at: int) -> None:
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


async def test_a_different_file_starts_at_zero(tmp_path: Path) -> None:
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
async def test_an_unreadable_source_is_reported(
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


async def test_a_failing_disk_ends_the_transfer(
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


async def test_a_receiver_can_report_its_reason(tmp_path: Path) -> None:
    async with wired() as wire:
        await wire.receiver.send(encode(Have(0, hashlib.sha256().digest())))
        await wire.receiver.send(encode(Failed("storage_full", "The disk is full.")))
        with pytest.raises(FileWithdrawn, match="disk is full") as caught:
            await send_file(wire.sender, HashedSource(Bytes()), nobody)
    assert caught.value.code == Code.STORAGE_FULL


async def test_a_wrong_stored_digest_is_returned(tmp_path: Path) -> None:
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
async def test_protocol_violations_end_the_transfer(
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


async def test_long_work_sends_pings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tchat.transfer.endpoints.PING_SECONDS", 0.01)
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
            assert await with_pings(wire.receiver, work) == "done"


async def test_progress_is_reported(tmp_path: Path) -> None:
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


async def test_cancelled_receiver_keeps_received_data(tmp_path: Path) -> None:
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

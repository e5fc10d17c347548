"""Both ends of a transfer over real sockets, with worker threads."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.files.hashed_source import HashedSource
from tchat.core.protocol.frames import Failed, Have, Piece, Ping, StartAt, Stored, encode
from tchat.core.protocol.framing import PREFIX
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import ProtocolError
from tchat.net.link import Link
from tchat.transfer.endpoints import FileWithdrawn, receive_file, send_file
from tchat.transfer.pieces import EMPTY_DIGEST
from tests.sockets import connected
from tests.transfer.wires import DATA, DIGEST, Bytes, nobody, part_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.transfer.partial_file import PartialFile
    from tests.transfer.conftest import Clock


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, Link]]:
    async with connected() as (near, far):
        yield Link(near), Link(far)


async def receive_whole(link: Link, part: PartialFile) -> None:
    await receive_file(link, part, nobody)
    await link.send(encode(Stored(part.digest)))


class Chatter:
    """A peer that always has another ping, each of which takes a moment to receive."""

    def __init__(self, clock: Clock) -> None:
        self.heard = 0
        self._clock = clock

    def speak(self) -> bytes:
        self.heard += 1
        assert self.heard < 100, "a thread listens for ever"
        self._clock.now += 0.001
        return encode(Ping())[PREFIX:]


async def test_a_file_arrives_over_sockets(tmp_path: Path) -> None:
    part = part_at(tmp_path / "part")
    async with linked() as (sender, receiver), trio.open_nursery() as nursery:
        nursery.start_soon(receive_whole, receiver, part)
        assert await send_file(sender, HashedSource(Bytes()), nobody) == DIGEST
    assert part.path.read_bytes() == DATA
    part.close()


async def test_endless_pings_end_the_transfer(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = part_at(tmp_path / "part")
    async with linked() as (sender, receiver), trio.open_nursery() as nursery:
        chatter = Chatter(clock)

        async def flood() -> None:
            await sender.send(encode(StartAt(0)))
            while True:
                await sender.send(encode(Ping()) * 100)

        monkeypatch.setattr(Link, "receive_nowait", lambda _: chatter.speak())
        nursery.start_soon(flood)
        with pytest.raises(ProtocolError, match="nothing else"):
            await receive_file(receiver, part, nobody)
        nursery.cancel_scope.cancel()
    assert chatter.heard
    part.close()


async def test_a_pinging_receiver_gets_its_file(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = part_at(tmp_path / "part")
    async with linked() as (sender, receiver), trio.open_nursery() as nursery:
        chatter, receive_nowait = Chatter(clock), Link.receive_nowait
        monkeypatch.setattr(
            Link,
            "receive_nowait",
            lambda link: chatter.speak() if link is sender else receive_nowait(link),
        )
        nursery.start_soon(receive_whole, receiver, part)
        assert await send_file(sender, HashedSource(Bytes()), nobody) == DIGEST
    assert chatter.heard
    part.close()


async def test_a_slow_sender_occupies_no_thread(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, source = part_at(tmp_path / "part"), HashedSource(Bytes())
    waits: list[int] = []  # the offset each time
    is_ready = Link.is_ready

    def noted(link: Link, *, to_send: bool, within: float) -> bool:
        waits.append(part.offset)
        return is_ready(link, to_send=to_send, within=within)

    monkeypatch.setattr(Link, "is_ready", noted)
    said, told = trio.open_memory_channel[int](1000)
    async with linked() as (sender, receiver), trio.open_nursery() as nursery:
        nursery.start_soon(receive_file, receiver, part, said.send_nowait)
        await sender.send(encode(StartAt(0)))
        at = 0
        while at < part.size:
            clock.now += 1
            data, digest = source.read()
            await sender.send(encode(Piece(len(data), digest)) + data)
            at += len(data)
            while await told.receive() < at:
                pass
    assert part.path.read_bytes() == DATA
    assert max(waits, default=0) <= PIECE_SIZE, "after that it is known to be slow"
    part.close()


async def test_the_receivers_reason_is_heard_after_a_break(
    tmp_path: Path,
) -> None:
    data = DATA * 20
    async with linked() as (sender, receiver), trio.open_nursery() as nursery:

        async def leave() -> None:
            await receiver.send(encode(Have(0, EMPTY_DIGEST)))
            await receiver.send(encode(Failed("storage_full", "The disk is full.")))
            await receiver.close_gracefully()

        nursery.start_soon(leave)
        with pytest.raises(FileWithdrawn, match="disk is full"):
            await send_file(sender, HashedSource(Bytes(data)), nobody)

"""Files carried by hand: offered, sent, shared and fetched, frame by frame."""

from __future__ import annotations

import hashlib
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import pytest
import trio

from tchat.core.group.commands import Share
from tchat.core.protocol.frames import (
    IN_TRANSFER,
    Download,
    Failed,
    FileList,
    FileListRequest,
    Have,
    Piece,
    Ping,
    StartAt,
    Stored,
    Ticket,
    Upload,
    decode,
    encode_all,
)
from tchat.core.protocol.framing import FrameBuffer
from tchat.core.protocol.handshake import PIECE_SIZE, VERSION, Ready, TransferHello
from tchat.server.clock import now_ms
from tchat.server.connections.files import _sweep
from tchat.server.context import ServerContext
from tchat.server.groups.registry import Registry
from tchat.transfer.pieces import EMPTY_DIGEST, digest_before, piece_end
from tests.helpers import GROUP, GUARD, RawClient, raw_client
from tests.protocol import validate_body
from tests.store.files import blob_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.core.protocol.schema import Frame
    from tests.helpers import RunningServer

DATA = random.Random(1).randbytes(2 * PIECE_SIZE + 1000)
"""A file of two pieces and the beginning of a third."""

SHA = hashlib.sha256(DATA).digest()

F = TypeVar("F", bound="Frame")


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def running(data: bytes) -> list[bytes]:
    """Return a file's running digests, one for each piece."""
    ends = range(PIECE_SIZE, len(data) + PIECE_SIZE, PIECE_SIZE)
    return [sha(data[:end]) for end in ends]


def having(data: bytes, offset: int) -> Have:
    """Return what a receiver says that has so much of a file."""
    whole = offset if offset < len(data) else len(running(data)) * PIECE_SIZE
    return Have(offset, digest_before(whole, running(data)))


def pieces(data: bytes, offset: int = 0) -> list[tuple[Piece, bytes]]:
    """Return what a sender sends behind `offset`."""
    sent = []
    while offset < len(data):
        end = piece_end(offset, len(data))
        sent.append((Piece(end - offset, sha(data[:end])), data[offset:end]))
        offset = end
    return sent


def flipped(data: bytes, at: int) -> bytes:
    """Return the same bytes with one of them wrong."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# ---------------------------------------------------------------------------- in the chat


async def offer(
    person: RawClient, data: bytes, sha256: bytes | None = None, group: str = GROUP
) -> Frame:
    """Ask to send a file, perhaps with the digest of all of it, and return the answer."""
    head = sha(data[:PIECE_SIZE])
    return await person.ask(lambda i: Upload(i, group, len(data), head, sha256))


async def ticket_to_send(person: RawClient, data: bytes, group: str = GROUP) -> bytes:
    """Return a ticket; with the file's digest, so that it does not matter what there is alike."""
    answer = await offer(person, data, sha(flipped(data, 0)) if data else sha(b"-"), group)
    assert isinstance(answer, Ticket), answer
    return answer.ticket


async def ticket_to_fetch(person: RawClient, number: int, group: str = GROUP) -> bytes:
    answer = await person.ask(lambda i: Download(i, group, number))
    assert isinstance(answer, Ticket), answer
    return answer.ticket


async def shelf_of(person: RawClient, before: int | None = None, group: str = GROUP) -> FileList:
    answer = await person.ask(lambda i: FileListRequest(i, group, before))
    assert isinstance(answer, FileList), answer
    return answer


def code_of(answer: Frame | None) -> str:
    """Return what is the matter."""
    assert isinstance(answer, Failed), answer
    return answer.code


# ---------------------------------------------------------------------------- on its connection


class Carrier:
    """A connection that carries one file, by hand."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = FrameBuffer()

    async def send(self, *frames: Frame, raw: bytes = b"") -> None:
        """Send frames, and behind them bytes that are in none."""
        await self.stream.send_all(encode_all(frames) + raw)

    async def receive(self) -> Frame | None:
        """Return the next frame; None at the end."""
        while (body := self._buffer.pop()) is None:
            if not (data := await self._more()):
                return None
            self._buffer.feed(data)
        validate_body(body)
        return decode(body, IN_TRANSFER)

    async def expect(self, kind: type[F]) -> F:
        frame = await self.receive()
        while isinstance(frame, Ping):
            frame = await self.receive()
        assert isinstance(frame, kind), frame
        return frame

    async def piece(self) -> tuple[Piece, bytes]:
        """Return a piece and its bytes."""
        piece = await self.expect(Piece)
        data = bytearray(self._buffer.rest())
        while len(data) < piece.size:
            more = await self._more()
            assert more, "the connection ended in the middle of a piece"
            data += more
        self._buffer.feed(bytes(data[piece.size :]))
        return piece, bytes(data[: piece.size])

    async def send_pieces(self, data: bytes, offset: int = 0) -> None:
        """Say where it begins, and send all from there on."""
        await self.send(StartAt(offset))
        for piece, content in pieces(data, offset):
            await self.send(piece, raw=content)

    async def fetch(self, data: bytes, offset: int) -> None:
        """Take what has to be `data` from `offset` on, piece by piece."""
        assert await self.receive() == StartAt(offset)
        for expected in pieces(data, offset):
            assert await self.piece() == expected

    async def until_end(self) -> list[Frame]:
        """Return what comes until the server ends the connection."""
        frames: list[Frame] = []
        while (frame := await self.receive()) is not None:
            frames.append(frame)
        return frames

    async def rest(self) -> int:
        """Return how many bytes come until the server ends the connection."""
        size = len(self._buffer.rest())
        while data := await self._more():
            size += len(data)
        return size

    async def cut(self) -> list[Frame]:
        """Send nothing more; return when the server has done with it, and what it said."""
        assert isinstance(self.stream, trio.SocketStream)
        await self.stream.send_eof()
        return await self.until_end()

    async def _more(self) -> bytes:
        with trio.fail_after(GUARD):
            try:
                return bytes(await self.stream.receive_some())
            except trio.BrokenResourceError:
                return b""


@asynccontextmanager
async def transfer(server: RunningServer, ticket: bytes, size: int) -> AsyncIterator[Carrier]:
    """Be ready to carry a file for the length of the block."""
    async with raw_client(server.address) as raw:
        carrier = Carrier(raw.stream)
        await carrier.send(TransferHello(VERSION, ticket))
        assert await carrier.receive() == Ready(VERSION, size)
        yield carrier


@asynccontextmanager
async def sending(
    server: RunningServer, person: RawClient, data: bytes, group: str = GROUP
) -> AsyncIterator[tuple[Carrier, Have]]:
    """Be about to send a file; the server has said what it has of it."""
    ticket = await ticket_to_send(person, data, group)
    async with transfer(server, ticket, len(data)) as carrier:
        yield carrier, await carrier.expect(Have)


@asynccontextmanager
async def fetching(
    server: RunningServer, person: RawClient, number: int, size: int, group: str = GROUP
) -> AsyncIterator[Carrier]:
    """Be about to fetch a file: all that is left is to say what one has."""
    ticket = await ticket_to_fetch(person, number, group)
    async with transfer(server, ticket, size) as carrier:
        yield carrier


# ---------------------------------------------------------------------------- all of it


async def upload(
    server: RunningServer, person: RawClient, data: bytes, group: str = GROUP
) -> bytes:
    """Send a file of which the server has nothing; return its digest."""
    async with sending(server, person, data, group) as (carrier, have):
        assert have == Have(0, EMPTY_DIGEST)
        await carrier.send_pieces(data)
        assert await carrier.until_end() == [Stored(sha(data))]
    return sha(data)


async def go_on(server: RunningServer, person: RawClient, data: bytes, offset: int) -> None:
    """Send what the server lacks, which has `offset` bytes."""
    async with sending(server, person, data) as (carrier, have):
        assert have == having(data, offset)
        await carrier.send_pieces(data, offset)
        assert await carrier.until_end() == [Stored(sha(data))]


async def send_some(server: RunningServer, person: RawClient, data: bytes, size: int) -> None:
    """Begin to send a file, and be cut off after so many of its bytes."""
    async with sending(server, person, data) as (carrier, have):
        await carrier.send(StartAt(have.offset))
        for piece, content in pieces(data, have.offset):
            if size > 0:
                await carrier.send(piece, raw=content[:size])
                size -= len(content)
        assert await carrier.cut() == []


async def share(
    server: RunningServer, person: RawClient, data: bytes, name: str = "file", group: str = GROUP
) -> bytes:
    """Send a file and share it; return its digest."""
    await upload(server, person, data, group)
    await person.command(Share, name, len(data), sha(data), group=group)
    return sha(data)


async def download(
    server: RunningServer, person: RawClient, number: int, data: bytes, group: str = GROUP
) -> None:
    """Fetch a file that has to be `data`."""
    async with fetching(server, person, number, len(data), group) as carrier:
        await carrier.send(Have(0, EMPTY_DIGEST))
        await carrier.fetch(data, 0)
        await carrier.send(Stored(sha(data)))
        assert await carrier.until_end() == []


def place_of(server: RunningServer, data: bytes) -> Path:
    """Return where the server has a file."""
    digest = sha(data).hex()
    return blob_path(server.store) / digest[:2] / digest


def kept(server: RunningServer) -> set[str]:
    """Return the names of all that the server has on its disk, but for files of digests."""
    names = {path.name for path in blob_path(server.store).rglob("*") if path.is_file()}
    return {name for name in names if not name.endswith(".sums")}


def begun(server: RunningServer) -> list[Path]:
    """Return what the server has of files that are not whole."""
    return [p for p in blob_path(server.store).glob("incoming/*/*") if p.suffix != ".sums"]


# ---------------------------------------------------------------------------- its clock


@dataclass
class Keeper:
    """The clock that a server keeps files by, and its broom, in the hand of a test."""

    later: int = 0
    host: ServerContext | None = None
    has_swept: trio.Event = field(default_factory=trio.Event)

    async def sweep(self) -> None:
        """Do now what the server does every minute, and has done once at its start."""
        await self.has_swept.wait()
        assert self.host is not None
        await _sweep(self.host)

    async def sweep_and_tell(self, host: ServerContext) -> None:
        await _sweep(host)
        self.has_swept.set()

    def now(self) -> int:
        return now_ms() + self.later

    def host_of(self, *arguments: object, **more: object) -> ServerContext:
        """Return a host that goes by this clock."""
        self.host = ServerContext(*arguments, **more)  # type: ignore[arg-type]
        self.host.clock = self.now
        self.has_swept = trio.Event()
        return self.host

    def registry_of(self, *arguments: object) -> Registry:
        """Return groups that go by this clock."""
        registry = Registry(*arguments)  # type: ignore[arg-type]
        registry._clock = self.now
        return registry


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Keeper:
    """Be the keeper of every server that is started behind this."""
    keeper = Keeper()
    monkeypatch.setattr("tchat.server.app.ServerContext", keeper.host_of)
    monkeypatch.setattr("tchat.server.connections.files._sweep", keeper.sweep_and_tell)
    monkeypatch.setattr("tchat.server.app.Registry", keeper.registry_of)
    return keeper

"""File transfers frame by frame, with a raw client: offers, tickets, uploads, downloads."""

from __future__ import annotations

import hashlib
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest
import trio
import trio.testing

from tchat.core.group.files import Share
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
from tchat.machine_clocks import now_ms
from tchat.server import retention
from tchat.store.blobs import trash_path
from tchat.transfer.pieces import EMPTY_DIGEST, digest_before, piece_end
from tests.cddl import validate_body
from tests.helpers import GROUP, GUARD, RawClient, raw_client
from tests.store.files import blob_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.core.protocol.schema import Frame
    from tests.helpers import RunningServer

DATA = random.Random(1).randbytes(2 * PIECE_SIZE + 1000)
"""A file of two whole pieces and part of a third."""

SHA = hashlib.sha256(DATA).digest()

F = TypeVar("F", bound="Frame")


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def running_digests(data: bytes) -> list[bytes]:
    """Return a file's running digests, one for each piece."""
    ends = range(PIECE_SIZE, len(data) + PIECE_SIZE, PIECE_SIZE)
    return [sha(data[:end]) for end in ends]


def have_at(data: bytes, offset: int) -> Have:
    """Return the `Have` of a receiver with the first `offset` bytes of a file."""
    whole = offset if offset < len(data) else len(running_digests(data)) * PIECE_SIZE
    return Have(offset, digest_before(whole, running_digests(data)))


def pieces(data: bytes, offset: int = 0) -> list[tuple[Piece, bytes]]:
    """Return the pieces that a sender sends from `offset` on."""
    sent = []
    while offset < len(data):
        end = piece_end(offset, len(data))
        sent.append((Piece(end - offset, sha(data[:end])), data[offset:end]))
        offset = end
    return sent


def with_flipped_byte(data: bytes, at: int) -> bytes:
    """Return the bytes with one of them changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# ---------------------------------------------------------------------------- requests in the chat


async def offer(
    person: RawClient, data: bytes, sha256: bytes | None = None, group: str = GROUP
) -> Frame:
    """Offer a file, perhaps with its whole digest; return the answer."""
    head = sha(data[:PIECE_SIZE])
    return await person.ask(lambda i: Upload(i, group, len(data), head, sha256))


async def ticket_to_send(person: RawClient, data: bytes, group: str = GROUP) -> bytes:
    """Return a ticket; a whole digest is sent along, so that similar files do not matter."""
    answer = await offer(
        person, data, sha(with_flipped_byte(data, 0)) if data else sha(b"-"), group
    )
    assert isinstance(answer, Ticket), answer
    return answer.ticket


async def ticket_to_fetch(person: RawClient, number: int, group: str = GROUP) -> bytes:
    answer = await person.ask(lambda i: Download(i, group, number))
    assert isinstance(answer, Ticket), answer
    return answer.ticket


async def list_files(person: RawClient, before: int | None = None, group: str = GROUP) -> FileList:
    answer = await person.ask(lambda i: FileListRequest(i, group, before))
    assert isinstance(answer, FileList), answer
    return answer


def refusal_code(answer: Frame | None) -> str:
    """Return the code of a refusal."""
    assert isinstance(answer, Failed), answer
    return answer.code


# ---------------------------------------------------------------------------- transfer connections


class TransferConnection:
    """A transfer connection, driven by hand."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = FrameBuffer()

    async def send(self, *frames: Frame, raw: bytes = b"") -> None:
        """Send frames, then raw bytes."""
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
        """Receive a piece and its bytes."""
        piece = await self.expect(Piece)
        data = bytearray(self._buffer.rest())
        while len(data) < piece.size:
            more = await self._more()
            assert more, "the connection ended in the middle of a piece"
            data += more
        self._buffer.feed(bytes(data[piece.size :]))
        return piece, bytes(data[: piece.size])

    async def send_pieces(self, data: bytes, offset: int = 0) -> None:
        """Send the start and all pieces from there on."""
        await self.send(StartAt(offset))
        for piece, content in pieces(data, offset):
            await self.send(piece, raw=content)

    async def fetch(self, data: bytes, offset: int) -> None:
        """Receive `data` from `offset` on, piece by piece, and check it."""
        assert await self.receive() == StartAt(offset)
        for expected in pieces(data, offset):
            assert await self.piece() == expected

    async def until_end(self) -> list[Frame]:
        """Return the frames until the server ends the connection."""
        frames: list[Frame] = []
        while (frame := await self.receive()) is not None:
            frames.append(frame)
        return frames

    async def rest(self) -> int:
        """Return the number of bytes until the server ends the connection."""
        size = len(self._buffer.rest())
        while data := await self._more():
            size += len(data)
        return size

    async def close_sending(self) -> list[Frame]:
        """Close the sending side; return the server's last frames."""
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
async def transfer(
    server: RunningServer, ticket: bytes, size: int
) -> AsyncIterator[TransferConnection]:
    """Open a transfer connection with a ticket."""
    async with raw_client(server.address) as raw:
        connection = TransferConnection(raw.stream)
        await connection.send(TransferHello(VERSION, ticket))
        assert await connection.receive() == Ready(VERSION, size)
        yield connection


@asynccontextmanager
async def sending(
    server: RunningServer, person: RawClient, data: bytes, group: str = GROUP
) -> AsyncIterator[tuple[TransferConnection, Have]]:
    """Begin an upload; also return what the server has of the file."""
    ticket = await ticket_to_send(person, data, group)
    async with transfer(server, ticket, len(data)) as connection:
        yield connection, await connection.expect(Have)


@asynccontextmanager
async def fetching(
    server: RunningServer, person: RawClient, number: int, size: int, group: str = GROUP
) -> AsyncIterator[TransferConnection]:
    """Begin a download, up to the receiver's `Have`."""
    ticket = await ticket_to_fetch(person, number, group)
    async with transfer(server, ticket, size) as connection:
        yield connection


# ---------------------------------------------------------------------------- whole transfers


async def upload(
    server: RunningServer, person: RawClient, data: bytes, group: str = GROUP
) -> bytes:
    """Upload a file from its beginning; return its digest."""
    async with sending(server, person, data, group) as (connection, have):
        assert have == Have(0, EMPTY_DIGEST)
        await connection.send_pieces(data)
        assert await connection.until_end() == [Stored(sha(data))]
    return sha(data)


async def resume_upload(server: RunningServer, person: RawClient, data: bytes, offset: int) -> None:
    """Resume an upload of which the server has `offset` bytes."""
    async with sending(server, person, data) as (connection, have):
        assert have == have_at(data, offset)
        await connection.send_pieces(data, offset)
        assert await connection.until_end() == [Stored(sha(data))]


async def interrupt_upload(
    server: RunningServer, person: RawClient, data: bytes, size: int
) -> None:
    """Upload the first `size` bytes of a file, then disconnect."""
    async with sending(server, person, data) as (connection, have):
        await connection.send(StartAt(have.offset))
        for piece, content in pieces(data, have.offset):
            if size > 0:
                await connection.send(piece, raw=content[:size])
                size -= len(content)
        assert await connection.close_sending() == []


async def share(
    server: RunningServer, person: RawClient, data: bytes, name: str = "file", group: str = GROUP
) -> bytes:
    """Upload a file and share it; return its digest."""
    await upload(server, person, data, group)
    await person.command(Share, name, len(data), sha(data), group=group)
    return sha(data)


async def download(
    server: RunningServer, person: RawClient, number: int, data: bytes, group: str = GROUP
) -> None:
    """Download a file and check that it is `data`."""
    async with fetching(server, person, number, len(data), group) as connection:
        await connection.send(Have(0, EMPTY_DIGEST))
        await connection.fetch(data, 0)
        await connection.send(Stored(sha(data)))
        assert await connection.until_end() == []


def stored_path(server: RunningServer, data: bytes) -> Path:
    """Return the path of a stored file."""
    digest = sha(data).hex()
    return blob_path(server.store) / digest[:2] / digest


def stored_names(server: RunningServer) -> set[str]:
    """Return the names of all stored and partial files, without files of digests and the trash."""
    files = blob_path(server.store)
    paths = {path for path in files.rglob("*") if path.is_file() and path.suffix != ".sums"}
    return {path.name for path in paths if path.parent != trash_path(files)}


def trashed_names(server: RunningServer) -> set[str]:
    """Return the names of the files in the trash, without files of digests."""
    trash = trash_path(blob_path(server.store))
    return {path.name for path in trash.glob("*") if path.suffix != ".sums"}


def partial_files(server: RunningServer) -> list[Path]:
    """Return the paths of partial files."""
    return [p for p in blob_path(server.store).glob("incoming/*/*") if p.suffix != ".sums"]


# ---------------------------------------------------------------------------- retention


class ShiftedClock:
    """The clock of a server, `later` ms ahead of the real one."""

    def __init__(self) -> None:
        self.later = 0

    def __call__(self) -> int:
        return now_ms() + self.later


@pytest.fixture
def clock() -> ShiftedClock:
    """Return a clock for `running_server(clock=clock)`."""
    return ShiftedClock()


async def sweep(server: RunningServer) -> None:
    """Remove expired files now, which a server does every minute."""
    await trio.testing.wait_all_tasks_blocked()  # the cleaning at the start comes first
    config = server.config
    await retention.sweep(server.store, server.log, config.limits.keep_files, config.clock())

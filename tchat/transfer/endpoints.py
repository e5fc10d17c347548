"""Both ends of a file transfer: send and receive pieces, with backpressure.

    receiver                              sender
    have: offset, digest           ─▶
                                   ◀─     from: offset, or 0
                                   ◀─     piece: size, running digest, and that many bytes
                                   ◀─     piece …
    stored: the file's digest      ─▶

A transfer has a separate connection. Uploads and downloads use the same code: either end may be
the server. At each end, a worker thread moves pieces between disk and socket in time slices
(`time_slice.py`), as long as it hardly has to wait. If it would have to wait longer, the thread
ends; a task waits for the connection, and the next time slice continues with the rest of the piece.
So a fast connection needs almost no scheduling, a slow one occupies no thread, and only one piece
is in memory; TCP provides the backpressure. During long work, such as hashing an existing file, a
side sends `ping`, so that the other side does not time out.

However a transfer ends, the receiver keeps the data that arrived, so that the transfer can be
resumed. It discards the data only if the sender reports a problem with the file itself.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from tchat.core.fingerprints import SHA256_SIZE
from tchat.core.protocol.frames import (
    IN_TRANSFER,
    Failed,
    Have,
    Piece,
    Ping,
    StartAt,
    Stored,
    decode,
    encode,
    failed,
)
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.core.text import clean_line
from tchat.errors import Code, ProtocolError, Refused, TchatError
from tchat.transfer.partial_file import BrokenPiece
from tchat.transfer.pieces import piece_end
from tchat.transfer.threads import check_cancelled, in_thread, in_thread_shielded
from tchat.transfer.time_slice import LinkSpeed, TimeSlice

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.core.protocol.schema import Frame
    from tchat.net.link import Link
    from tchat.transfer.partial_file import PartialFile

T = TypeVar("T")
F = TypeVar("F", bound="Frame")

STALL_SECONDS = 60.0
"""Seconds without progress after which a transfer counts as broken, and is retried."""

_SLICE = 256 * 1024
PING_SECONDS = 10.0
_MOST_PINGS = 10_000  # consecutive: more than a day of disk work
_GOODBYE_SECONDS = 1.0


class FileWithdrawn(Refused):
    """The other side has reported a problem with the file, or does not accept it."""


class Source(Protocol):
    """A file to send. Its methods block, and are called in worker threads."""

    size: int

    def start(self, have: Have, check: Callable[[], None]) -> int:
        """Seek to the offset at which the receiver stopped; to 0 if it has a different file.

        Returns the offset. `check` is called regularly, and may cancel this by raising. Raises
        OSError or `Refused`.
        """

    def read(self) -> tuple[memoryview, bytes]:
        """Return the rest of the next piece, and its running digest.

        The memory is reused for the following piece. Raises OSError or `Refused`.
        """


async def with_pings(link: Link, work: Callable[[], T]) -> T:
    """Run long work in a thread, and send pings so that the other side does not time out."""
    result: list[T] = []
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ping, link)
        try:
            result.append(await in_thread(work, long=True))
        except (OSError, TchatError) as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result[0]


async def expect(link: Link, kind: type[F], stall_seconds: float) -> F:
    """Return the next frame, which has to be of that type; skip pings.

    Raises `FileWithdrawn`, ProtocolError, `trio.BrokenResourceError` or `trio.TooSlowError`.
    """
    for _ in range(_MOST_PINGS):
        with trio.fail_after(stall_seconds):
            body = await link.receive()
        if body is None:
            raise trio.BrokenResourceError("the connection ended")
        if (frame := _decode(body, kind)) is not None:
            return frame
    raise ProtocolError(Code.MALFORMED, "The other side sends pings and nothing else.")


def _decode(body: bytes, kind: type[F]) -> F | None:
    """Return a frame of that type, None for a `ping`; raises as `expect` does."""
    frame = decode(body, IN_TRANSFER)
    if isinstance(frame, Failed):
        raise FileWithdrawn(clean_line(frame.code), clean_line(frame.text))
    if isinstance(frame, kind):
        return frame
    if not isinstance(frame, Ping):
        raise ProtocolError(
            Code.MALFORMED, f"A {frame.type} frame is not allowed at this point of a transfer."
        )
    return None


async def receive_file(
    link: Link,
    part: PartialFile,
    on_progress: Callable[[int], None],
    stall_seconds: float = STALL_SECONDS,
) -> None:
    """Receive the missing part of an open partial file; `on_progress` gets each new offset.

    Raises `BrokenPiece`, OSError, and the exceptions of `expect`.
    """
    await link.send(encode(Have(part.offset, part.digest, part.doubt)))
    begin = await expect(link, StartAt, stall_seconds)
    if begin.offset != part.offset:
        if begin.offset:
            raise ProtocolError(
                Code.MALFORMED, "The sender starts at an offset that was not requested."
            )
        await in_thread(lambda: part.rewind(to_start=True))
    on_progress(part.offset)
    await _Receiver(link, part, on_progress, stall_seconds).run()


class _Receiver:
    """Receives pieces; verifies and stores each once it is complete."""

    def __init__(
        self,
        link: Link,
        part: PartialFile,
        on_progress: Callable[[int], None],
        stall_seconds: float,
    ) -> None:
        self._link = link
        self._part = part
        self._on_progress = on_progress
        self._stall_seconds = stall_seconds
        self._piece: Piece | None = None
        self._buffer = memoryview(bytearray(min(PIECE_SIZE, part.size)))
        self._received = 0  # of the current piece
        self._offset = part.offset  # as last reported
        self._speed = LinkSpeed(self._offset)

    async def run(self) -> None:
        """Receive the missing part; store all data that arrived, even if this fails."""
        try:
            while self._part.offset < self._part.size:
                must_wait = await in_thread(self._run_slice)
                self._report()
                if must_wait:
                    await self._wait_for_piece()
        except (OSError, BrokenPiece):
            self._received = 0  # the data is damaged, or the disk is full
            raise
        finally:
            if self._received:
                await in_thread_shielded(self._store_rest)

    def _run_slice(self) -> bool:
        """Receive for a time slice; return whether a task has to wait for more."""
        time_slice = TimeSlice(self._link, may_wait=self._speed.is_fast(self._offset))
        while self._part.offset < self._part.size and not time_slice.is_over:
            if not self._receive_piece(time_slice):
                return True
            self._store_piece()
        return False

    def _receive_piece(self, time_slice: TimeSlice) -> bool:
        """Receive the data of a piece that has arrived; return whether the piece is complete."""
        while self._piece is None:
            if time_slice.is_over or (body := time_slice.frame()) is None:
                return False
            self._begin(_decode(body, Piece))
        while missing := self._missing:
            size = time_slice.receive(self._buffer[self._received : self._received + missing])
            if not size:
                return False
            self._received += size
        return True

    async def _wait_for_piece(self) -> None:
        """Wait for the rest of the current piece, or for a whole one."""
        if self._piece is None:
            self._begin(await expect(self._link, Piece, self._stall_seconds))
        while missing := self._missing:
            with trio.fail_after(self._stall_seconds):
                data = await self._link.receive_raw(min(missing, _SLICE))
            if not data:
                raise trio.BrokenResourceError("the connection ended")
            self._buffer[self._received : self._received + len(data)] = data
            self._received += len(data)
            self._report()

    @property
    def _missing(self) -> int:
        start = self._part.offset
        return piece_end(start, self._part.size) - start - self._received

    def _begin(self, piece: Piece | None) -> None:
        if piece and (piece.size != self._missing or len(piece.sha256) != SHA256_SIZE):
            raise ProtocolError(Code.MALFORMED, "A piece has the wrong size.")
        self._piece = piece

    def _report(self) -> None:
        offset = self._part.offset + self._received
        if offset > self._offset:
            # Data that a thread receives does not update `last_received`.
            self._offset, self._link.last_received = offset, trio.current_time()
            self._on_progress(offset)

    def _store_piece(self) -> None:
        if self._piece is not None:
            self._part.add(self._buffer[: self._received], self._piece.sha256)
            self._piece, self._received = None, 0

    def _store_rest(self) -> None:
        """Store the received part of the current piece, or the whole piece if it is complete."""
        with suppress(OSError, BrokenPiece):
            if self._missing:
                self._part.add_incomplete(self._buffer[: self._received])
            else:
                self._store_piece()


async def send_file(
    link: Link,
    source: Source,
    on_progress: Callable[[int], None],
    stall_seconds: float = STALL_SECONDS,
) -> bytes:
    """Send the part that the receiver lacks; return the digest of the file that it has stored.

    `on_progress` gets each new offset. Raises the exceptions of the source and of `expect`.
    """
    link.optimize_for_throughput()
    have = await expect(link, Have, stall_seconds)
    try:
        offset = await with_pings(link, lambda: source.start(have, check_cancelled))
    except (OSError, Refused) as error:
        await _withdraw(link, error)
        raise
    await link.send(encode(StartAt(offset)))
    on_progress(offset)
    return await _Sender(link, source, offset, on_progress, stall_seconds).run()


class _Sender:
    """Reads and sends pieces; checks before each whether the receiver has reported an error."""

    def __init__(
        self,
        link: Link,
        source: Source,
        offset: int,
        on_progress: Callable[[int], None],
        stall_seconds: float,
    ) -> None:
        self._link = link
        self._source = source
        self._offset = offset  # the source is read up to here
        self._speed = LinkSpeed(offset)
        self._on_progress = on_progress
        self._stall_seconds = stall_seconds
        self._unsent: list[memoryview] = []  # read, and waiting for the connection
        self._unreadable: OSError | Refused | None = None

    async def run(self) -> bytes:
        """Send all missing pieces; return the digest of the file that the receiver has stored."""
        try:
            while self._offset < self._source.size and self._unreadable is None:
                await in_thread(self._run_slice)
                await self._send_rest()
        except (trio.BrokenResourceError, trio.TooSlowError):
            with suppress(trio.BrokenResourceError), trio.move_on_after(_GOODBYE_SECONDS):
                # The receiver may have sent a reason, which `expect` raises.
                await expect(self._link, Stored, self._stall_seconds)
            raise
        if self._unreadable is not None:
            await _withdraw(self._link, self._unreadable)
            raise self._unreadable
        return (await expect(self._link, Stored, self._stall_seconds)).sha256

    def _run_slice(self) -> None:
        """Read and send for a time slice, as long as the connection accepts it."""
        time_slice = TimeSlice(self._link, may_wait=self._speed.is_fast(self._offset))
        while self._offset < self._source.size and not self._unsent and not time_slice.is_over:
            self._check_receiver()
            try:
                data, digest = self._source.read()
            except (OSError, Refused) as error:
                self._unreadable = error
                return
            self._offset += len(data)
            for block in (memoryview(encode(Piece(len(data), digest))), data):
                rest = block if self._unsent else time_slice.send(block)
                if rest is not None:
                    self._unsent.append(rest)

    async def _send_rest(self) -> None:
        blocks, self._unsent = self._unsent, []
        waiting = sum(map(len, blocks))
        for block in blocks:
            # Send empty blocks, too: the link may still have unsent encrypted records.
            for start in range(0, len(block) or 1, _SLICE):
                chunk = block[start : start + _SLICE]
                with trio.fail_after(self._stall_seconds):
                    await self._link.send(chunk)
                waiting -= len(chunk)
                self._on_progress(self._offset - waiting)
        self._on_progress(self._offset)

    def _check_receiver(self) -> None:
        """Raise the error that the receiver has reported, if any. Reads one frame at most."""
        if (body := self._link.receive_nowait()) is not None:
            _decode(body, Ping)


async def _withdraw(link: Link, error: OSError | Refused) -> None:
    """Report a problem with the file; the receiver then discards its data."""
    with suppress(trio.BrokenResourceError), trio.move_on_after(_GOODBYE_SECONDS):
        await link.send(
            encode(failed(error if isinstance(error, Refused) else unreadable_file(error)))
        )
        await link.close_gracefully()


def unreadable_file(error: Exception) -> Refused:
    """Return the refusal for a file that cannot be read."""
    reason = getattr(error, "strerror", None) or str(error)
    return Refused(Code.FILE_UNREADABLE, f"The file cannot be read to its end: {reason}.")


async def _ping(link: Link) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            await trio.sleep(PING_SECONDS)
            await link.send(encode(Ping()))

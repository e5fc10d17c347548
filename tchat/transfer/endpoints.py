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
So a fast connection needs almost no scheduling, and a slow one occupies no thread; TCP provides the
backpressure. A receiver hashes and writes a piece as it arrives, and a sender reads it as it is
accepted: in memory is at most `CHUNK_SIZE` of it, and nothing of what has not arrived. During long
work, such as hashing an existing file, a side sends `ping`, so that the other side does not time
out; but pings are no progress, see `patience.py`.

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
from tchat.core.text import clean_line
from tchat.errors import Code, ProtocolError, Refused, TchatError
from tchat.transfer.pacing import UNPACED
from tchat.transfer.partial_file import BrokenPiece
from tchat.transfer.patience import Patience, TooSlow
from tchat.transfer.pieces import CHUNK_SIZE, piece_end
from tchat.transfer.threads import check_cancelled, in_thread, in_thread_shielded
from tchat.transfer.time_slice import LinkSpeed, TimeSlice

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tchat.core.protocol.schema import Frame
    from tchat.net.link import Link
    from tchat.transfer.pacing import Pacing
    from tchat.transfer.partial_file import PartialFile

T = TypeVar("T")
F = TypeVar("F", bound="Frame")

STALL_SECONDS = 60.0
"""Seconds without progress after which a transfer counts as broken, and is retried."""

_SEND_SIZE = 32 * 1024  # well below what the minimum rate needs in a window
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

    def read(self) -> tuple[memoryview, bytes | None]:
        """Return the next bytes of a piece, and its running digest if none were returned before.

        The memory is reused for the following bytes. Raises OSError or `Refused`.
        """


async def with_pings(link: Link, work: Callable[[], T]) -> T:
    """Run long work in a thread, and send pings so that the other side does not time out."""
    return await wait_with_pings(link, lambda: in_thread(work, long=True))


async def wait_with_pings(link: Link, wait: Callable[[], Awaitable[T]]) -> T:
    """Wait for something, and send pings so that the other side does not time out."""
    result: list[T] = []
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ping, link)
        try:
            result.append(await wait())
        except (OSError, TchatError) as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result[0]


async def expect(link: Link, kind: type[F], patience: Patience) -> F:
    """Return the next frame, which has to be of that type; skip pings.

    Raises `FileWithdrawn`, `TooSlow`, ProtocolError, `trio.BrokenResourceError` or
    `trio.TooSlowError`.
    """
    for _ in range(_MOST_PINGS):
        with patience.wait():
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
    min_rate: float = 0,
    pacing: Pacing = UNPACED,
) -> None:
    """Receive the missing part of an open partial file; `on_progress` gets each new offset.

    `min_rate` is in bytes per second; `pacing` limits what is received at a time. Raises
    `BrokenPiece`, OSError, and the exceptions of `expect`.
    """
    patience = Patience(stall_seconds, min_rate)
    patience.restart(part.offset, part.size if part.doubt else part.offset)
    await link.send(encode(Have(part.offset, part.digest, part.doubt)))
    begin = await expect(link, StartAt, patience)
    if begin.offset != part.offset:
        if begin.offset:
            raise ProtocolError(
                Code.MALFORMED, "The sender starts at an offset that was not requested."
            )
        await in_thread(lambda: part.rewind(to_start=True))
    on_progress(part.offset)
    patience.restart(part.offset)
    await _Receiver(link, part, on_progress, patience, pacing).run()


class _PacedSlices:
    """Runs time slices in threads, each when the pacing admits it."""

    def __init__(self, pacing: Pacing, patience: Patience, offset: int) -> None:
        self._pacing = pacing
        self._patience = patience
        self._settled = offset

    async def run(self, work: Callable[[int], T], offset: Callable[[], int]) -> T:
        """Run a time slice, which gets the largest number of bytes that it may move.

        `offset` returns how far the transfer is. What a task has moved since the last slice counts
        with this one.
        """
        began = trio.current_time()
        most = await self._pacing.admit()
        self._patience.extend(trio.current_time() - began)
        try:
            return await in_thread(lambda: work(most))
        finally:
            self._pacing.settle(max(0, offset() - self._settled))
            self._settled = offset()


class _Receiver:
    """Receives pieces: stores their data as it arrives, and verifies each once it is complete."""

    def __init__(
        self,
        link: Link,
        part: PartialFile,
        on_progress: Callable[[int], None],
        patience: Patience,
        pacing: Pacing,
    ) -> None:
        self._link = link
        self._part = part
        self._slices = _PacedSlices(pacing, patience, part.offset)
        self._on_progress = on_progress
        self._patience = patience
        self._piece: Piece | None = None
        self._waiting = bytearray()  # of the current piece: arrived, but not stored yet
        self._offset = part.offset  # as last reported
        self._speed = LinkSpeed(self._offset)

    async def run(self) -> None:
        """Receive the missing part; store all data that arrived, even if this fails."""
        try:
            while self._part.offset < self._part.size:
                must_wait = await self._slices.run(self._run_slice, lambda: self._part.offset)
                self._report()
                if must_wait:
                    await self._wait_for_data()
        except (OSError, BrokenPiece):
            self._waiting.clear()  # the data is damaged, or the disk is full
            raise
        finally:
            if self._waiting:
                await in_thread_shielded(self._store_rest)

    def _run_slice(self, most: int) -> bool:
        """Receive for a time slice, or `most` bytes; return whether a task has to wait for more."""
        time_slice = TimeSlice(self._link, may_wait=self._speed.is_fast(self._offset))
        end = min(self._part.size, self._part.offset + most)
        # Only for the time slice: a transfer that waits has no buffer.
        buffer = memoryview(bytearray(min(CHUNK_SIZE, self._part.size - self._part.offset)))
        while self._part.offset < end and not time_slice.is_over:
            if not (self._piece or self._receive_header(time_slice)):
                return True
            chunk = buffer[: self._missing]
            size = self._fill(time_slice, chunk)
            self._store(chunk[:size])
            if size < len(chunk):
                return True
        return False

    def _receive_header(self, time_slice: TimeSlice) -> bool:
        """Receive the header of the next piece; return whether it has arrived."""
        while self._piece is None:
            if time_slice.is_over or (body := time_slice.frame()) is None:
                return False
            self._begin(_decode(body, Piece))
        return True

    def _fill(self, time_slice: TimeSlice, chunk: memoryview) -> int:
        """Fill a buffer with data that has arrived; return how much there was."""
        size = len(self._waiting)
        chunk[:size] = self._waiting
        self._waiting = bytearray()
        while size < len(chunk) and (more := time_slice.receive(chunk[size:])):
            size += more
        return size

    async def _wait_for_data(self) -> None:
        """Wait for the header of the next piece, or until a chunk of the current one is complete.

        It is collected here, because on a slow connection a thread for each packet would cost more
        than the packet.
        """
        if self._piece is None:
            self._begin(await expect(self._link, Piece, self._patience))
        chunk = min(CHUNK_SIZE, self._missing)
        while (missing := chunk - len(self._waiting)) > 0:
            with self._patience.wait():
                data = await self._link.receive_raw(missing)
            if not data:
                raise trio.BrokenResourceError("the connection ended")
            self._waiting += data
            self._report()

    @property
    def _missing(self) -> int:
        """The size of the current piece, without what is stored of it."""
        start = self._part.offset
        return piece_end(start, self._part.size) - start

    def _begin(self, piece: Piece | None) -> None:
        if piece and (piece.size != self._missing or len(piece.sha256) != SHA256_SIZE):
            raise ProtocolError(Code.MALFORMED, "A piece has the wrong size.")
        self._piece = piece

    def _report(self) -> None:
        offset = self._part.offset + len(self._waiting)
        if offset > self._offset:
            # Data that a thread receives does not update `last_received`.
            self._offset, self._link.last_received = offset, trio.current_time()
            self._patience.on_progress(offset)
            self._on_progress(offset)

    def _store(self, data: bytearray | memoryview) -> None:
        """Store data of the current piece, and verify the piece if it is complete."""
        if self._piece is None or not data:
            return
        if len(data) < self._missing:
            self._part.add_incomplete(data)
        else:
            self._part.add(data, self._piece.sha256)
            self._piece = None

    def _store_rest(self) -> None:
        with suppress(OSError, BrokenPiece):
            self._store(self._waiting)


async def send_file(
    link: Link,
    source: Source,
    on_progress: Callable[[int], None],
    stall_seconds: float = STALL_SECONDS,
    min_rate: float = 0,
    pacing: Pacing = UNPACED,
    hashed: int = 0,
) -> bytes:
    """Send the part that the receiver lacks; return the digest of the file that it has stored.

    `on_progress` gets each new offset; `min_rate` is in bytes per second; `pacing` limits what is
    sent at a time; `hashed` bytes may have to be hashed by the receiver before it begins, and again
    at the end. Raises the exceptions of the source and of `expect`.
    """
    link.optimize_for_throughput()
    patience = Patience(stall_seconds, min_rate)
    patience.restart(0, hashed)
    have = await expect(link, Have, patience)
    if have.doubt:  # the source verifies its copy
        await wait_with_pings(link, lambda: pacing.admit_hashing(source.size))
    try:
        offset = await with_pings(link, lambda: source.start(have, check_cancelled))
    except (OSError, Refused) as error:
        await _withdraw(link, error)
        raise
    await link.send(encode(StartAt(offset)))
    on_progress(offset)
    patience.restart(offset)
    return await _Sender(link, source, offset, on_progress, patience, pacing).run(hashed)


class _Sender:
    """Reads and sends pieces; checks before each whether the receiver has reported an error."""

    def __init__(
        self,
        link: Link,
        source: Source,
        offset: int,
        on_progress: Callable[[int], None],
        patience: Patience,
        pacing: Pacing,
    ) -> None:
        self._link = link
        self._source = source
        self._slices = _PacedSlices(pacing, patience, offset)
        self._offset = offset  # the source is read up to here
        self._in_piece = False  # a piece has been begun, and is not complete
        self._speed = LinkSpeed(offset)
        self._on_progress = on_progress
        self._patience = patience
        self._unsent: list[memoryview] = []  # read, and waiting for the connection
        self._unreadable: OSError | Refused | None = None

    async def run(self, hashed: int) -> bytes:
        """Send all missing pieces; return the digest of the file that the receiver has stored.

        It may have to hash `hashed` bytes before it answers.
        """
        try:
            while self._offset < self._source.size and self._unreadable is None:
                await self._slices.run(self._run_slice, lambda: self._offset)
                await self._send_rest()
        except (trio.BrokenResourceError, trio.TooSlowError, TooSlow):
            with suppress(trio.BrokenResourceError), trio.move_on_after(_GOODBYE_SECONDS):
                # The receiver may have sent a reason, which `expect` raises.
                await expect(self._link, Stored, Patience(_GOODBYE_SECONDS))
            await self._link.abort()  # a frame would be taken for the rest of the piece
            raise
        if self._unreadable is not None:
            if self._in_piece:
                await self._link.abort()
            else:
                await _withdraw(self._link, self._unreadable)
            raise self._unreadable
        self._patience.restart(self._offset, hashed)
        return (await expect(self._link, Stored, self._patience)).sha256

    def _run_slice(self, most: int) -> None:
        """Read and send for a time slice, or `most` bytes, while the connection accepts them."""
        time_slice = TimeSlice(self._link, may_wait=self._speed.is_fast(self._offset))
        last = min(self._source.size, self._offset + most)
        while self._offset < last and not self._unsent and not time_slice.is_over:
            self._check_receiver()
            try:
                data, digest = self._source.read()
            except (OSError, Refused) as error:
                self._unreadable = error
                return
            end = piece_end(self._offset, self._source.size)
            blocks = [data]
            if digest is not None:
                blocks.insert(0, memoryview(encode(Piece(end - self._offset, digest))))
            self._offset += len(data)
            self._in_piece = self._offset < end
            for block in blocks:
                rest = block if self._unsent else time_slice.send(block)
                if rest is not None:
                    self._unsent.append(rest)

    async def _send_rest(self) -> None:
        blocks, self._unsent = self._unsent, []
        waiting = sum(map(len, blocks))
        for block in blocks:
            # Send empty blocks, too: the link may still have unsent encrypted records.
            for start in range(0, len(block) or 1, _SEND_SIZE):
                chunk = block[start : start + _SEND_SIZE]
                with self._patience.wait():
                    await self._link.send(chunk)
                waiting -= len(chunk)
                self._report(self._offset - waiting)
        self._report(self._offset)

    def _report(self, offset: int) -> None:
        self._patience.on_progress(offset)
        self._on_progress(offset)

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

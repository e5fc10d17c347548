"""The two ends of a transfer, over a connection that carries nothing else.

    receiver                              sender
    have: offset, digest           ─▶
                                   ◀─     from: offset, or 0
                                   ◀─     piece: size, running digest, and that many bytes
                                   ◀─     piece …
    stored: the file's digest      ─▶

A file goes up and comes down in the same way: which end of it the server is makes no difference
here. At each end a worker thread takes turns (`files/turn.py`): it reads and hashes and writes
piece after piece, between the disk and the socket, as long as there is little to wait for. Else the
thread is given back, and the task waits; with the rest of that piece the next turn begins. So a
fast connection costs next to no scheduling, a slow one holds no thread, and one piece is in memory.
Whoever has more to do in between, because it looks through what it has, sends `ping`, so that the
other side does not take it for dead.

A receiver keeps what it got, however a transfer ends. Only a sender that says that something is
wrong with the file itself takes it back.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

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
from tchat.transfer.pieces import DIGEST_SIZE, end_of_piece
from tchat.transfer.time_slice import Pace, TimeSlice

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.core.protocol.schema import Frame
    from tchat.net.link import Link
    from tchat.transfer.partial_file import PartialFile

T = TypeVar("T")
F = TypeVar("F", bound="Frame")

STALL_SECONDS = 60.0
"""How long a transfer may stand still."""

_SLICE = 256 * 1024
_PING_SECONDS = 10.0
_MOST_PINGS = 10_000  # in a row: more than a day of work on a disk
_LAST_WORD_SECONDS = 1.0
_PIECES = trio.CapacityLimiter(max(1, (os.cpu_count() or 1) - 1))
"""Threads that read, write and hash pieces. One processor is left to the chat."""

_FILES = trio.CapacityLimiter(2)
"""Threads for what takes as long as a whole file is: nobody's next piece waits behind that."""


class FileWithdrawn(Refused):
    """The other side has found something wrong with the file, or will not have it."""


class Source(Protocol):
    """A file to send. Its methods block, and are called in worker threads."""

    size: int

    def start(self, have: Have, check: Callable[[], None]) -> int:
        """Go to where the receiver is and return that, or 0 if it has another file.

        `check` is called now and then, and may end it by raising. Raises OSError or `Refused`.
        """

    def read(self) -> tuple[memoryview, bytes]:
        """Return the rest of the piece that is next, and its running digest.

        The piece is there until the next is read. Raises OSError or `Refused`.
        """


def check_cancelled() -> None:
    """End the work of a thread whose task was cancelled."""
    trio.from_thread.check_cancelled()


async def in_thread(work: Callable[[], T], *, long: bool = False) -> T:
    """Return what `work` returns, without holding up anything else.

    `long` is what may have to look through a whole file.
    """
    return await trio.to_thread.run_sync(work, limiter=_FILES if long else _PIECES)


async def in_the_end(work: Callable[[], object]) -> None:
    """Have a thread do what has to be done when all is over, a cancellation notwithstanding.

    To remove a large file, or to close one that was removed, takes a disk some time.
    """
    with trio.CancelScope(shield=True):
        await in_thread(work)


async def patiently(link: Link, work: Callable[[], T]) -> T:
    """Return what `work` in a thread returns, and let the other side know that it takes long."""
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


async def expect(link: Link, kind: type[F], patience: float) -> F:
    """Return the other side's next frame, which has to be one of that kind.

    Raises `FileWithdrawn`, ProtocolError, `trio.BrokenResourceError` or `trio.TooSlowError`.
    """
    for _ in range(_MOST_PINGS):
        with trio.fail_after(patience):
            body = await link.receive()
        if body is None:
            raise trio.BrokenResourceError("the connection ended")
        if (frame := _sorted_out(body, kind)) is not None:
            return frame
    raise ProtocolError(Code.MALFORMED, "The other side says that it works, and nothing else.")


def _sorted_out(body: bytes, kind: type[F]) -> F | None:
    """Return a frame if it is of that kind, None if it is a `ping`; raises as `expect` does."""
    frame = decode(body, IN_TRANSFER)
    if isinstance(frame, Failed):
        raise FileWithdrawn(clean_line(frame.code), clean_line(frame.text))
    if isinstance(frame, kind):
        return frame
    if not isinstance(frame, Ping):
        raise ProtocolError(Code.MALFORMED, f"{frame.type} has no place here in a transfer.")
    return None


async def receive_file(
    link: Link, part: PartialFile, told: Callable[[int], None], patience: float = STALL_SECONDS
) -> None:
    """Receive what an opened part lacks; `told` gets the offset as it moves.

    Raises, besides what `expect` does, `BrokenPiece` or OSError.
    """
    await link.send(encode(Have(part.offset, part.digest, part.doubt)))
    begin = await expect(link, StartAt, patience)
    if begin.offset != part.offset:
        if begin.offset:
            raise ProtocolError(Code.MALFORMED, "The sender begins where nobody asked it to.")
        await in_thread(lambda: part.rewind(to_start=True))
    told(part.offset)
    await _Receiver(link, part, told, patience).run()


class _Receiver:
    """Takes pieces from a link; checks and keeps each when all of it is here."""

    def __init__(
        self, link: Link, part: PartialFile, told: Callable[[int], None], patience: float
    ) -> None:
        self._link = link
        self._part = part
        self._told = told
        self._patience = patience
        self._piece: Piece | None = None
        self._room = memoryview(bytearray(min(PIECE_SIZE, part.size)))
        self._came = 0  # of the piece
        self._at = part.offset  # as was told
        self._pace = Pace(self._at)

    async def run(self) -> None:
        """Receive all that is missing, and keep all that came, however this ends."""
        try:
            while self._part.offset < self._part.size:
                has_to_wait = await in_thread(self._take_turn)
                self._moved()
                if has_to_wait:
                    await self._wait_for_piece()
        except (OSError, BrokenPiece):
            self._came = 0  # it is worth nothing, or there is no room for it
            raise
        finally:
            if self._came:
                await in_the_end(self._keep_rest)

    def _take_turn(self) -> bool:
        """Take what has come, for a while; return whether more has to be waited for."""
        turn = TimeSlice(self._link, may_wait=self._pace.is_fast(self._at))
        while self._part.offset < self._part.size and not turn.is_over:
            if not self._take_piece(turn):
                return True
            self._keep_piece()
        return False

    def _take_piece(self, turn: TimeSlice) -> bool:
        """Take what has come of a piece; return whether that is all of it."""
        while self._piece is None:
            if turn.is_over or (body := turn.frame()) is None:
                return False
            self._begin(_sorted_out(body, Piece))
        while missing := self._missing:
            size = turn.receive(self._room[self._came : self._came + missing])
            if not size:
                return False
            self._came += size
        return True

    async def _wait_for_piece(self) -> None:
        """Return when a piece, or the rest of it, is here."""
        if self._piece is None:
            self._begin(await expect(self._link, Piece, self._patience))
        while missing := self._missing:
            with trio.fail_after(self._patience):
                data = await self._link.receive_raw(min(missing, _SLICE))
            if not data:
                raise trio.BrokenResourceError("the connection ended")
            self._room[self._came : self._came + len(data)] = data
            self._came += len(data)
            self._moved()

    @property
    def _missing(self) -> int:
        begin = self._part.offset
        return end_of_piece(begin, self._part.size) - begin - self._came

    def _begin(self, piece: Piece | None) -> None:
        if piece and (piece.size != self._missing or len(piece.sha256) != DIGEST_SIZE):
            raise ProtocolError(Code.MALFORMED, "A piece has the wrong size.")
        self._piece = piece

    def _moved(self) -> None:
        at = self._part.offset + self._came
        if at > self._at:
            self._at, self._link.last_received = at, trio.current_time()
            self._told(at)

    def _keep_piece(self) -> None:
        if self._piece is not None:
            self._part.add(self._room[: self._came], self._piece.sha256)
            self._piece, self._came = None, 0

    def _keep_rest(self) -> None:
        """Keep what came of a piece, which may be all of it."""
        with suppress(OSError, BrokenPiece):
            if self._missing:
                self._part.add_beginning(self._room[: self._came])
            else:
                self._keep_piece()


async def send_file(
    link: Link, source: Source, told: Callable[[int], None], patience: float = STALL_SECONDS
) -> bytes:
    """Send what the receiver lacks; return the file's digest once that has it on its disk.

    `told` gets the offset as it moves. Raises, besides what `expect` does, what the source does.
    """
    link.optimize_for_throughput()
    have = await expect(link, Have, patience)
    try:
        offset = await patiently(link, lambda: source.start(have, check_cancelled))
    except (OSError, Refused) as error:
        await _take_back(link, error)
        raise
    await link.send(encode(StartAt(offset)))
    told(offset)
    return await _Sender(link, source, offset, told, patience).run()


class _Sender:
    """Reads pieces and sends each, and listens in between whether they are still wanted."""

    def __init__(
        self,
        link: Link,
        source: Source,
        offset: int,
        told: Callable[[int], None],
        patience: float,
    ) -> None:
        self._link = link
        self._source = source
        self._at = offset  # how far it is read
        self._pace = Pace(offset)
        self._told = told
        self._patience = patience
        self._left: list[memoryview] = []  # what was read, and waits for the connection
        self._unreadable: OSError | Refused | None = None

    async def run(self) -> bytes:
        """Send all that is missing and return what the receiver says it has stored."""
        try:
            while self._at < self._source.size and self._unreadable is None:
                await in_thread(self._take_turn)
                await self._send_left()
        except (trio.BrokenResourceError, trio.TooSlowError):
            with suppress(trio.BrokenResourceError), trio.move_on_after(_LAST_WORD_SECONDS):
                await expect(self._link, Stored, self._patience)  # which it is not, but the reason
            raise
        if self._unreadable is not None:
            await _take_back(self._link, self._unreadable)
            raise self._unreadable
        return (await expect(self._link, Stored, self._patience)).sha256

    def _take_turn(self) -> None:
        """Read and send, for a while, as long as the connection takes it."""
        turn = TimeSlice(self._link, may_wait=self._pace.is_fast(self._at))
        while self._at < self._source.size and not self._left and not turn.is_over:
            self._listen()
            try:
                data, digest = self._source.read()
            except (OSError, Refused) as error:
                self._unreadable = error
                return
            self._at += len(data)
            for what in (memoryview(encode(Piece(len(data), digest))), data):
                rest = what if self._left else turn.send(what)
                if rest is not None:
                    self._left.append(rest)

    async def _send_left(self) -> None:
        left, self._left = self._left, []
        waiting = sum(map(len, left))
        for what in left:
            # What is empty, too: more than that may be left within the connection.
            for start in range(0, len(what) or 1, _SLICE):
                part = what[start : start + _SLICE]
                with trio.fail_after(self._patience):
                    await self._link.send(part)
                waiting -= len(part)
                self._told(self._at - waiting)
        self._told(self._at)

    def _listen(self) -> None:
        """Raise what the receiver has said, if it was anything; one frame at a time is enough."""
        if (body := self._link.receive_nowait()) is not None:
            _sorted_out(body, Ping)


async def _take_back(link: Link, error: OSError | Refused) -> None:
    """Say that something is wrong with the file: what came of it is not to be kept."""
    with suppress(trio.BrokenResourceError), trio.move_on_after(_LAST_WORD_SECONDS):
        await link.send(encode(failed(error if isinstance(error, Refused) else unreadable(error))))
        await link.close_gracefully()


def unreadable(error: Exception) -> Refused:
    """Return what to say of a file that cannot be read."""
    reason = getattr(error, "strerror", None) or str(error)
    return Refused(Code.FILE_UNREADABLE, f"The file cannot be read to its end: {reason}.")


async def _ping(link: Link) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            await trio.sleep(_PING_SECONDS)
            await link.send(encode(Ping()))

"""The two ends of a transfer, over a connection that carries nothing else.

    receiver                              sender
    have: offset, digest           ─▶
                                   ◀─     from: offset, or 0
                                   ◀─     piece: size, running digest, and that many bytes
                                   ◀─     piece …
    stored: the file's digest      ─▶

A file goes up and comes down in the same way: which end of it the server is makes no difference
here. At each end one task reads or writes the socket while a worker thread reads or writes the
disk and hashes, a piece apart, so that neither waits for the other and no more than two or three
pieces are in memory. The one that has more to do than that in between, because it looks through
what it has, sends `ping`, so that the other one does not take it for dead.

A receiver keeps what it got, however a transfer ends. Only a sender that says that something is
wrong with the file itself takes it back.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from tchat.core.frames import (
    IN_TRANSFER,
    Failed,
    From,
    Have,
    Piece,
    Ping,
    Stored,
    decode,
    encode,
    failed,
)
from tchat.core.text import clean_line
from tchat.errors import Code, ProtocolError, Refused, TchatError
from tchat.files.part import BrokenPiece
from tchat.files.pieces import DIGEST_SIZE, end_of_piece

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.core.schema import Frame
    from tchat.files.part import Part
    from tchat.net.link import Link

T = TypeVar("T")
F = TypeVar("F", bound="Frame")

STALL_SECONDS = 60.0
"""How long a transfer may stand still."""

_SLICE = 256 * 1024
_PING_SECONDS = 10.0
_MOST_PINGS = 10_000  # in a row: more than a day of work on a disk
_LAST_WORD_SECONDS = 1.0
_TOO_SOON = "The receiver says that it has what was not sent yet."
_PIECES = trio.CapacityLimiter(max(1, (os.cpu_count() or 1) - 1))
"""Threads that read, write and hash pieces. One processor is left to the chat."""

_FILES = trio.CapacityLimiter(2)
"""Threads for what takes as long as a whole file is: nobody's next piece waits behind that."""


class TakenBack(Refused):
    """The other side has found something wrong with the file, or will not have it."""


class Source(Protocol):
    """A file to send. Its methods block, and are called in worker threads."""

    size: int

    def start(self, have: Have, check: Callable[[], None]) -> int:
        """Go to where the receiver is and return that, or 0 if it has another file.

        `check` is called now and then, and may end it by raising. Raises OSError or `Refused`.
        """

    def read(self) -> tuple[bytes, bytes]:
        """Return the rest of the piece that is next, and its running digest.

        Raises OSError or `Refused`.
        """


def check_cancelled() -> None:
    """End the work of a thread whose task was cancelled."""
    trio.from_thread.check_cancelled()


async def in_thread(work: Callable[[], T], *, long: bool = False) -> T:
    """Return what `work` returns, without holding up anything else.

    `long` is what may have to look through a whole file.
    """
    return await trio.to_thread.run_sync(work, limiter=_FILES if long else _PIECES)


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

    Raises `TakenBack`, ProtocolError, `trio.BrokenResourceError` or `trio.TooSlowError`.
    """
    for _ in range(_MOST_PINGS):
        with trio.fail_after(patience):
            body = await link.receive()
        if body is None:
            raise trio.BrokenResourceError("the connection ended")
        frame = decode(body, IN_TRANSFER)
        if isinstance(frame, Failed):
            raise TakenBack(clean_line(frame.code), clean_line(frame.text))
        if isinstance(frame, kind):
            return frame
        if not isinstance(frame, Ping):
            raise ProtocolError(Code.MALFORMED, f"{frame.type} has no place here in a transfer.")
    raise ProtocolError(Code.MALFORMED, "The other side says that it works, and nothing else.")


async def receive_file(
    link: Link, part: Part, told: Callable[[int], None], patience: float = STALL_SECONDS
) -> None:
    """Receive what an opened part lacks; `told` gets the offset as it moves.

    Raises, besides what `expect` does, `BrokenPiece` or OSError.
    """
    await link.send(encode(Have(part.offset, part.digest, part.doubt)))
    begin = await expect(link, From, patience)
    if begin.offset != part.offset:
        if begin.offset:
            raise ProtocolError(Code.MALFORMED, "The sender begins where nobody asked it to.")
        await in_thread(lambda: part.rewind(to_start=True))
    told(part.offset)
    await _Receiver(link, part, told, patience).run()


class _Receiver:
    """Takes pieces from a link while a thread checks and writes the one before."""

    def __init__(
        self, link: Link, part: Part, told: Callable[[int], None], patience: float
    ) -> None:
        self._link = link
        self._part = part
        self._told = told
        self._patience = patience
        self._at = part.offset
        self._coming: list[bytes] = []
        self._digest: bytes | None = None
        self._failure: Exception | None = None  # of what is done here
        self._broken: Exception | None = None  # of what came
        self._give, self._take = trio.open_memory_channel[tuple[list[bytes], bytes]](0)

    async def run(self) -> None:
        """Receive all that is missing, and keep all that came, however this ends."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, nursery.cancel_scope)
                with self._give:
                    await self._collect()
        finally:
            if self._failure is None and self._coming:
                with trio.CancelScope(shield=True):
                    await in_thread(self._keep_rest)
        failure = self._failure or self._broken
        if failure is not None:
            raise failure

    async def _write(self, all_of_it: trio.CancelScope) -> None:
        try:
            async for chunks, digest in self._take:
                with trio.CancelScope(shield=True):  # what has come is kept
                    await in_thread(partial(self._part.add, chunks, digest))
        except (OSError, TchatError) as error:
            self._failure = error
            all_of_it.cancel()

    async def _collect(self) -> None:
        try:
            while self._at < self._part.size:
                await self._collect_piece()
        except (TchatError, trio.BrokenResourceError, trio.TooSlowError) as error:
            self._broken = error

    async def _collect_piece(self) -> None:
        piece = await expect(self._link, Piece, self._patience)
        end = end_of_piece(self._at, self._part.size)
        if piece.size != end - self._at or len(piece.sha256) != DIGEST_SIZE:
            raise ProtocolError(Code.MALFORMED, "A piece has the wrong size.")
        with trio.fail_after(self._patience) as wait:
            while self._at < end:
                data = await self._link.receive_raw(min(end - self._at, _SLICE))
                if not data:
                    raise trio.BrokenResourceError("the connection ended")
                wait.deadline = trio.current_time() + self._patience
                self._coming.append(data)
                self._at += len(data)
                self._told(self._at)
        self._digest = piece.sha256
        await self._give.send((self._coming, piece.sha256))
        self._coming, self._digest = [], None

    def _keep_rest(self) -> None:
        """Keep what came of a piece that did not come to its end."""
        with suppress(OSError, BrokenPiece):
            if self._digest is None:
                self._part.add_beginning(self._coming)
            else:
                self._part.add(self._coming, self._digest)


async def send_file(
    link: Link, source: Source, told: Callable[[int], None], patience: float = STALL_SECONDS
) -> bytes:
    """Send what the receiver lacks; return the file's digest once that has it on its disk.

    `told` gets the offset as it moves. Raises, besides what `expect` does, what the source does.
    """
    have = await expect(link, Have, patience)
    try:
        offset = await patiently(link, lambda: source.start(have, check_cancelled))
    except (OSError, Refused) as error:
        with suppress(trio.BrokenResourceError), trio.move_on_after(_LAST_WORD_SECONDS):
            await link.send(_taking_back(error))
            await link.farewell()
        raise
    await link.send(encode(From(offset)))
    told(offset)
    return await _Sender(link, source, offset, told, patience).run()


class _Sender:
    """Sends pieces while a thread reads and hashes the next one, and listens for the answer."""

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
        self._at = offset
        self._told = told
        self._patience = patience
        self._last_is_out = offset == source.size
        self._heard = trio.Event()
        self._stored: bytes | None = None
        self._unreadable: Exception | None = None
        self._broken: Exception | None = None
        self._give, self._take = trio.open_memory_channel[tuple[bytes, bytes]](0)

    async def run(self) -> bytes:
        """Send all that is missing and return what the receiver says it has stored."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            nursery.start_soon(self._listen, nursery.cancel_scope)
            try:
                await self._send()
            except (trio.BrokenResourceError, trio.TooSlowError) as error:
                await self._hear_why(error)
                nursery.cancel_scope.cancel()
        failure = self._unreadable or self._broken
        if failure is not None or self._stored is None:
            raise failure or trio.BrokenResourceError("the connection ended")
        return self._stored

    async def _read(self) -> None:
        at = self._at
        try:
            with self._give:
                while at < self._source.size:
                    piece = await in_thread(self._source.read)
                    at += len(piece[0])
                    await self._give.send(piece)
        except (OSError, TchatError) as error:
            self._unreadable = error

    async def _send(self) -> None:
        async for data, digest in self._take:
            with trio.fail_after(self._patience):
                await self._link.send(encode(Piece(len(data), digest)))
            for start in range(0, len(data), _SLICE):
                part = memoryview(data)[start : start + _SLICE]
                self._at += len(part)
                # Before it is sent: the answer may be here before this task goes on.
                self._last_is_out = self._at == self._source.size
                with trio.fail_after(self._patience):
                    await self._link.send(part)
                self._told(self._at)
        if self._unreadable is not None:
            await self._link.send(_taking_back(self._unreadable))
            raise trio.BrokenResourceError("the file could not be read")

    async def _hear_why(self, error: Exception) -> None:
        """Give the other side a moment to hear our last word, or us to hear theirs."""
        with trio.move_on_after(_LAST_WORD_SECONDS):
            await self._heard.wait()
        self._broken = self._broken or error

    async def _listen(self, all_of_it: trio.CancelScope) -> None:
        while True:
            try:
                stored = await expect(self._link, Stored, self._patience)
                self._stored = stored.sha256
                if not self._last_is_out:
                    self._broken = ProtocolError(Code.MALFORMED, _TOO_SOON)
            except trio.TooSlowError as error:
                if not self._last_is_out:  # it has no reason to say anything
                    continue
                self._broken = error
            except (TchatError, trio.BrokenResourceError) as error:
                self._broken = error
            self._heard.set()
            all_of_it.cancel()
            return


def _taking_back(error: Exception) -> bytes:
    """Return the word that something is wrong with the file: what came of it is not to be kept."""
    return encode(failed(error if isinstance(error, Refused) else unreadable(error)))


def unreadable(error: Exception) -> Refused:
    """Return what to say of a file that cannot be read."""
    reason = getattr(error, "strerror", None) or str(error)
    return Refused(Code.FILE_UNREADABLE, f"The file cannot be read to its end: {reason}.")


async def _ping(link: Link) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            await trio.sleep(_PING_SECONDS)
            await link.send(encode(Ping()))

"""TLS 1.3 over any stream of bytes, all the records at a time that have come.

TLS cuts what is sent into records of at most 16 KiB of text, each sealed on its own, with its
number in the seal. The receiver can open any whole record at once, and finds out of each whether
it was changed, left out, repeated or put elsewhere; so what it returns is always a beginning of
what was sent. Whether it is all of it, only the last record says, an alert by the name of
close_notify: where the bytes end without one, somebody may have cut them off. Between the text
travel the protocol's own messages (RFC 8446, 4.6), new keys for one direction, say, with which
the library deals when it meets them. Since TLS 1.3 there is no renegotiation, so receiving never
has to wait for sending, nor sending for receiving.

The library (`ssl.SSLObject`) does no input or output: sealed bytes go into one buffer in memory,
and come out of another. All that is done here is to carry them between those and a stream.
`trio.SSLStream` does so too, but returns each record by itself: every 16 KiB cost a pass through
the scheduler, and whatever its receiver does with each piece, a thread's turn for a file, say.
Here all that have come are returned together, and files that are hashed on their way come
through 1.6 to 1.85 times as fast.

Two locks that a stream can have without paying for them while nobody else wants it.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

import trio

from tchat.net.sockets import read_now, way_in, way_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.net.sockets import D


class FairLock:
    """A lock that costs nothing while nobody waits for it: no turn of the scheduler, no memory.

    Who waits gets it from the one before, and nobody gets in between: what is sealed has an order.
    """

    __slots__ = ("_waiting", "locked")

    def __init__(self) -> None:
        self.locked = False
        self._waiting: trio.lowlevel.ParkingLot | None = None

    async def acquire(self) -> None:
        """Have the lock, after those who came before."""
        if not self.locked:
            self.locked = True
            return
        if self._waiting is None:
            self._waiting = trio.lowlevel.ParkingLot()
        await self._waiting.park()

    def release(self) -> None:
        """Leave the lock to whoever waits longest."""
        if self._waiting:
            self._waiting.unpark()
        else:
            self.locked = False


class SingleTaskGuard:
    """Lets one task in at a time, and tells the other instead of having it wait."""

    __slots__ = ("_busy", "_doing")

    def __init__(self, doing: str) -> None:
        self._doing, self._busy = doing, False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(f"another task is {self._doing} this stream")
        self._busy = True

    def __exit__(self, *_: object) -> None:
        self._busy = False


_RECORD = 16 * 1024  # the most text in a record (RFC 8446, 5.1)
_SEND_SIZE = 256 * 1024
_NOW_SIZE = 64 * 1024  # so that not much is sealed that the transport does not take
_FETCH_SIZE = 128 * 1024  # for one who takes without waiting, and so takes much
_NOTHING = memoryview(b"")

S = TypeVar("S", bound=trio.abc.Stream)


class TlsStream(trio.abc.Stream, Generic[S]):
    """A stream that is encrypted; `transport_stream` is what it goes over.

    The handshake comes first: anything else before it raises `trio.NeedHandshakeError`. One task
    may receive while another sends. Whatever is wrong with what the other side sends, or ends
    without its word, raises `trio.BrokenResourceError` from the `ssl.SSLError`, now and ever
    after; the other side has been sent an alert, if TLS has one for it.

    A receiving that is cancelled loses nothing. After anything else that is cut off midway, the
    stream is broken.
    """

    __slots__ = (
        "_at_once",
        "_broken",
        "_carrying",
        "_closed",
        "_fault",
        "_fetched",
        "_incoming",
        "_left",
        "_outgoing",
        "_ready",
        "_receive_sealed",
        "_receiving",
        "_room",
        "_sending",
        "_tls",
        "_write_sealed",
        "transport_stream",
    )

    def __init__(
        self,
        transport_stream: S,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        self.transport_stream = transport_stream
        self._receive_sealed = way_in(transport_stream)
        self._write_sealed = way_out(transport_stream)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # As trio encodes what it resolves: `ssl` itself would check another name (IDNA 2003).
        name = trio.lowlevel.encode_hostname(server_hostname) if server_hostname else None
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, name)
        self._fetched = _NOTHING  # what the library has not been given yet
        self._at_once = _RECORD  # how much text is sealed in one call
        self._room = _NOTHING  # to fetch into, if much is
        self._left = b""  # what is sealed and was not sent: the next that is sent is behind it
        self._receiving, self._sending = (
            SingleTaskGuard("receiving from"),
            SingleTaskGuard("sending to"),
        )
        self._carrying = FairLock()
        self._fault: ssl.SSLError | None = None
        self._ready = self._broken = self._closed = False

    def peer_certificate(self) -> bytes:
        """Return the other side's certificate, in DER; nothing if it has shown none."""
        return self._tls.getpeercert(binary_form=True) or b""

    def expect_much(self) -> None:
        """Seal more at a time, for which the library's buffer keeps that size ever after."""
        self._at_once = _NOW_SIZE

    async def do_handshake(self) -> None:
        """Agree upon keys, and check the certificate if the context says so."""
        with self._receiving, self._sending:
            self._check(before=True)
            await self._agree(self._tls.do_handshake)
            self._ready = True

    async def unwrap(self) -> S:
        """Say that nothing more comes, wait until the other side says so too; return the transport.

        Text that comes instead is an error: whoever still wants it receives it first.
        """
        with self._receiving, self._sending:
            self._check()
            await self._agree(self._tls.unwrap)
            self._closed = True
            return self.transport_stream

    async def aclose(self) -> None:
        """Say that nothing more comes, unless something is being sent, and close the transport."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        try:
            if self._ready and not self._broken:
                # The other side's own word is not awaited: it may never read ours.
                with suppress(ssl.SSLError):
                    self._tls.unwrap()
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._flush_if_free()
        finally:
            await self.transport_stream.aclose()

    async def _agree(self, step: Callable[[], object]) -> None:
        """Take a step that needs words of both sides."""
        await trio.lowlevel.checkpoint()
        try:
            while _wants_more(step):
                await self._carry_out(self._outgoing.read())
                await self._fetch(_RECORD)
            await self._carry_out(self._outgoing.read())
        except ssl.SSLError as error:
            await self._fail(error)
        except BaseException:
            self._broken = True
            raise

    def _check(self, *, before: bool = False) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self._broken:
            raise trio.BrokenResourceError(str(self._fault or "")) from self._fault
        if not self._ready and not before:
            raise trio.NeedHandshakeError("the handshake comes first")

    async def _fail(self, error: ssl.SSLError) -> NoReturn:
        """Send the alert, if there is one and nobody is in the way, and raise."""
        # Without its traceback, which would hold this stream until garbage is collected.
        self._fault, self._broken = error.with_traceback(None), True
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._flush_if_free()
        raise trio.BrokenResourceError(str(error)) from error

    # ------------------------------------------------------------------ receiving

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return all that has come, at most `max_bytes`; nothing when the other side has ended."""
        most = _RECORD if max_bytes is None else max_bytes
        if most < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._receiving:
            self._check()
            await trio.lowlevel.checkpoint_if_cancelled()
            text = await self._open(most)
            if text is not None:
                await trio.lowlevel.cancel_shielded_checkpoint()
            while text is None:
                await self._flush_if_free()
                await self._fetch(max(most, _RECORD))
                text = await self._open(most)
            return text

    async def _open(self, most: int) -> bytes | None:
        """Return the text that has come; nothing at the end, None if more has to come first."""
        pieces: list[bytes] = []
        try:
            if self._fault is not None:
                raise self._fault
            while most > 0:
                pieces.append(piece := self._read(min(most, _RECORD)))
                if not piece:
                    break
                most -= len(piece)
        except ssl.SSLWantReadError:
            if not pieces:
                return None
        except ssl.SSLError as error:
            if not pieces:
                await self._fail(error)
            # For the next time: what came before it is whole.
            self._fault = error.with_traceback(None)
        return b"".join(pieces)

    def _read(self, most: int) -> bytes:
        while True:
            try:
                return self._tls.read(most)
            except ssl.SSLWantReadError:
                if not self._fetched:
                    raise
                self._feed()

    def receive_now(self, into: memoryview) -> int:
        """Fill a buffer with the text that has come; return how much that was, maybe none.

        What is wrong with what comes behind it, or that nothing does, `receive_some` says.
        """
        if not self._ready or self._closed:
            return 0
        size = 0
        while size < len(into) and self._fault is None:
            try:
                got = self._tls.read(len(into) - size, into[size:])
            except ssl.SSLWantReadError:
                if not self._fetch_now():
                    break
            except ssl.SSLError as error:
                self._fault = error.with_traceback(None)
            else:
                if not got:
                    break
                size += int(got)
        return size

    def _fetch_now(self) -> bool:
        """Give the library what sealed bytes have come; return whether there were any."""
        if not self._fetched:
            self._room = self._room or memoryview(bytearray(_FETCH_SIZE))
            self._fetched = self._room[: read_now(self.transport_stream, self._room)]
        size = self._incoming.write(self._fetched)
        self._fetched = _NOTHING
        return size > 0

    async def _fetch(self, most: int) -> None:
        """Give the library more sealed bytes, from the transport if none are left."""
        if not self._fetched:
            data = await self._receive_sealed(most)
            if not data:
                self._incoming.write_eof()
                return
            self._fetched = memoryview(data)
        self._feed()

    def _feed(self) -> None:
        # In pieces, as the library's buffer never shrinks, and a connection that idles keeps it.
        self._incoming.write(self._fetched[:_RECORD])
        self._fetched = self._fetched[_RECORD:] or _NOTHING

    # ------------------------------------------------------------------ sending

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`. If this is cancelled, nobody knows how much of it went out."""
        with self._sending, memoryview(data).cast("B") as text:
            self._check()
            await trio.lowlevel.checkpoint_if_cancelled()
            if not text:
                await self._carry_out(b"")
                await trio.lowlevel.cancel_shielded_checkpoint()
            for start in range(0, len(text), _SEND_SIZE):
                try:
                    sealed = self._seal(text[start : start + _SEND_SIZE])
                except ssl.SSLError as error:
                    await self._fail(error)
                await self._carry_out(sealed)

    def send_now(self, data: D) -> D | None:
        """Send what the transport takes without waiting; return the rest, None if there is none.

        What is sealed and left is kept, and goes with the next that is sent; so the rest may be
        empty, and is to be given to `send_all` all the same.
        Nothing is sent while a task is sending, nor by a stream that is broken or closed.
        """
        if self._carrying.locked or self._broken or self._closed or not self._ready:
            return data
        text = memoryview(data)
        self._left = self._left and (self._write_sealed(self._left) or b"")
        while text and not self._left:
            try:
                sealed = self._seal(text[:_NOW_SIZE])
            except ssl.SSLError as error:
                self._fault, self._broken = error.with_traceback(None), True
                return data
            text = text[_NOW_SIZE:]
            self._left = self._write_sealed(sealed) or b""
        return data[len(data) - len(text) :] if text or self._left else None

    def _seal(self, text: memoryview) -> bytes:
        """Return the records of `text`, behind anything else that was to be sent."""
        if len(text) <= self._at_once:
            self._tls.write(text)
            return self._outgoing.read()
        sealed = []
        while text:
            text = text[self._tls.write(text[: self._at_once]) :]
            sealed.append(self._outgoing.read())
        return b"".join(sealed)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the transport may take something."""
        with self._sending:
            self._check()
            await self._carrying.acquire()
            try:
                await self.transport_stream.wait_send_all_might_not_block()
            finally:
                self._carrying.release()

    async def _carry_out(self, sealed: bytes) -> None:
        """Send what is sealed, and the protocol's own words that the receiver leaves meanwhile."""
        try:
            await self._carrying.acquire()
            try:
                sealed, self._left = self._left + sealed, b""
                while sealed:
                    await self.transport_stream.send_all(sealed)
                    sealed = self._outgoing.read()
            finally:
                self._carrying.release()
        except BaseException:
            self._broken = True
            raise

    async def _flush_if_free(self) -> None:
        """Send the protocol's own words, or leave them to the task that is sending.

        That is not waited for: the other side may take no more of it until it is heard.
        """
        if self._outgoing.pending and not self._carrying.locked:
            # Cancelled here, nothing is lost; while sending, the stream would be broken.
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._carry_out(self._outgoing.read())


def _wants_more(step: Callable[[], object]) -> bool:
    try:
        step()
    except ssl.SSLWantReadError:
        return True
    return False

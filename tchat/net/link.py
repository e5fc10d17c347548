"""A connection that carries frames: TLS, framing, keepalive times and a graceful close.

A link begins unencrypted; `connect` and `accept_tls` encrypt it in place. So the owner of the
connection uses one object from the first byte to the last, independent of the kind of stream below.
One task may receive while another sends, or one worker thread may do both.

Methods that end in `_nowait` never block. They and `is_ready` may be called in any thread, as long
as no task uses the link at the same time.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.framing import FRAME_LIMIT, HANDSHAKE_LIMIT, FrameBuffer
from tchat.errors import Code, ProtocolError
from tchat.net.sockets import is_ready, limit_unread, read_nowait, reader_of, writer_of
from tchat.net.tcp import connect, peer_of
from tchat.net.tls import NotTls, accept_tls, former_pins_seen, open_tls, pin_seen
from tchat.net.tls_stream import TlsStream

if TYPE_CHECKING:
    import ssl

    from tchat.net.address import Address
    from tchat.net.tls import Credentials

RECEIVE_SIZE = 64 * 1024
CLOSE_SECONDS = 1.0
"""How long a graceful close waits for the other side to close."""

_SHORT_FRAME = 1024  # enough for the frames that travel between pieces of files


class Link:
    """Frames over one connection.

    `peer` is the other end's address, None if the other end was gone already. `last_received` is
    the `trio.current_time()` at which bytes last arrived, `last_sent` that of the last `send`.

    `send_nowait` sends as much as the socket accepts without blocking. It returns None if all was
    sent, otherwise the unsent data. Pass the unsent data to `send`, even if it is empty, because
    the link may still hold encrypted bytes. Do not call `send_nowait` while a task is in `send`.
    """

    __slots__ = (
        "_buffer",
        "_can_send",
        "_receive_some",
        "broken",
        "last_received",
        "last_sent",
        "peer",
        "send_nowait",
        "stream",
    )

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.peer = peer_of(stream)
        self.broken = False
        self.last_received = self.last_sent = trio.current_time()
        self._buffer = FrameBuffer(HANDSHAKE_LIMIT)
        self._use(stream)

    def _use(self, stream: trio.abc.Stream) -> None:
        # Look up the methods once here, because they are called for every frame.
        self.stream = stream
        self.send_nowait = (
            stream.send_nowait if isinstance(stream, TlsStream) else writer_of(stream)
        )
        self._receive_some = reader_of(stream)
        self._can_send = True

    @property
    def address(self) -> str:
        """The other end's address, as text for the log."""
        return str(self.peer or "an unknown address")

    @property
    def encrypted(self) -> bool:
        """Whether a TLS handshake has been completed."""
        return isinstance(self.stream, TlsStream)

    # ------------------------------------------------------------------ opening

    @classmethod
    async def connect(
        cls, address: Address, context: ssl.SSLContext | None, preface: bytes = b""
    ) -> Link:
        """Connect to a server, with TLS if `context` is given; `preface` is sent before it.

        Raises OSError if the server cannot be reached, and the exceptions of `open_tls`.
        """
        stream = await connect(address)
        try:
            await stream.send_all(preface)
            link = cls(stream)
            if context is not None:
                link._use(await open_tls(stream, context, address.host))
                link.server_pin()  # raises if the certificate cannot be parsed
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return link

    async def accept_tls(self, credentials: Credentials) -> None:
        """Encrypt the link, as the server.

        Raises `ProtocolError` (not_encrypted) if the client does not speak TLS 1.3: the link stays
        unencrypted, and can still be used to send the reason. Raises `trio.BrokenResourceError` if
        the handshake fails in any other way.
        """
        # No plaintext may be sent in the middle of a TLS handshake.
        self._can_send = False
        try:
            self._use(await accept_tls(self.stream, credentials))
        except NotTls as error:
            self._can_send = True
            raise ProtocolError(
                Code.NOT_ENCRYPTED, "This server speaks TLS 1.3; the client has to speak it, too."
            ) from error

    def server_pin(self) -> bytes:
        """Return the pin of the server at the other end; empty if the link is not encrypted."""
        return pin_seen(self.stream)

    def former_pins(self) -> tuple[bytes, ...]:
        """Return the pins that the server had before; see `former_pins_seen`."""
        return former_pins_seen(self.stream)

    def begin_chat(self, unread: int) -> None:
        """Accept frames of full length, after both sides are authenticated.

        And let about `unread` bytes at most wait in the system before they are read. What the other
        side sends faster than this one reads waits there: a flood is over soon after its end.
        """
        self._buffer.limit = FRAME_LIMIT
        limit_unread(self._transport, unread)

    def optimize_for_throughput(self) -> None:
        """Prepare for a file transfer: encrypt larger blocks at a time, which takes more memory."""
        if isinstance(self.stream, TlsStream):
            self.stream.optimize_for_throughput()

    # ------------------------------------------------------------------ sending and receiving

    async def send(self, data: bytes | memoryview) -> None:
        """Send packed frames, after data that `send_nowait` has encrypted but not sent.

        Raises `trio.BrokenResourceError` when the other side is gone. After a cancelled send it is
        unknown how much was sent, so the link has to be closed.
        """
        await self.stream.send_all(data)
        self.last_sent = trio.current_time()

    async def receive(self) -> bytes | None:
        """Return the body of the next frame; None if the other side has closed, or is gone.

        In the second case, `broken` is set.
        """
        while (body := self._buffer.pop()) is None:
            try:
                data = await self._receive_some(RECEIVE_SIZE)
            except trio.BrokenResourceError:
                self.broken = True
                return None
            self.last_received = trio.current_time()
            if not data:
                return None
            self._buffer.feed(data)
        return body

    async def receive_raw(self, max_bytes: int) -> bytes:
        """Wait for unframed bytes and return up to `max_bytes` of them; empty at the end.

        Bytes that were read together with the last frame come first.
        """
        data = self._buffer.rest()
        if len(data) > max_bytes:
            self._buffer.feed(data[max_bytes:])
        if data:
            return data[:max_bytes]
        try:
            data = bytes(await self._receive_some(max_bytes))
        except trio.BrokenResourceError:
            return b""
        self.last_received = trio.current_time()
        return data

    def receive_raw_nowait(self, into: memoryview) -> int:
        """Fill a buffer with unframed bytes that have arrived; return their number.

        0 does not mean that the connection has ended; only `receive_raw` detects that.
        """
        if data := self._buffer.rest():
            size = min(len(data), len(into))
            into[:size] = data[:size]
            self._buffer.feed(data[size:])
            return size
        return self._read_nowait(into)

    def receive_nowait(self) -> bytes | None:
        """Return the body of the next frame if it has arrived and is short, otherwise None."""
        if (body := self._buffer.pop()) is None:
            room = bytearray(_SHORT_FRAME)
            if size := self._read_nowait(memoryview(room)):
                self._buffer.feed(room[:size])
                body = self._buffer.pop()
        return body

    def is_ready(self, *, to_send: bool, within: float) -> bool:
        """Return whether the socket becomes readable, or writable, within that many seconds.

        This blocks the calling thread.
        """
        return is_ready(self._transport, to_send=to_send, within=within)

    def _read_nowait(self, into: memoryview) -> int:
        if isinstance(self.stream, TlsStream):
            return self.stream.receive_nowait(into)
        return read_nowait(self.stream, into)

    @property
    def _transport(self) -> trio.abc.Stream:
        stream = self.stream
        return stream.transport_stream if isinstance(stream, TlsStream) else stream

    # ------------------------------------------------------------------ closing

    async def close_with(self, data: bytes) -> None:
        """Send the last bytes and close gracefully; ignore errors if the other side is gone."""
        if not self._can_send:
            return
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.send(data)
            await self.close_gracefully()

    async def close_gracefully(self) -> None:
        """Close the connection after everything that was sent has arrived.

        If a socket is closed with unread bytes, the kernel sends a reset, and the other side may
        lose the last frames. So shut down the sending half first, read until the other side does
        the same, and only then close.
        """
        stream = self.stream
        with trio.move_on_after(CLOSE_SECONDS):
            if isinstance(stream, TlsStream):
                stream = await _end_encryption(stream)
            if isinstance(stream, trio.SocketStream):
                with suppress(trio.BrokenResourceError):
                    await stream.send_eof()
                    while await stream.receive_some(RECEIVE_SIZE):
                        pass
        await trio.aclose_forcefully(stream)

    async def abort(self) -> None:
        """Close at once, without notifying the other side."""
        await trio.aclose_forcefully(self.stream)


async def _end_encryption(stream: TlsStream[trio.SocketStream]) -> trio.SocketStream:
    """Send close_notify, the end of the encrypted stream, and return the transport."""
    transport = stream.transport_stream
    # An error means that a task is still sending, or that the other side is gone.
    with suppress(trio.BrokenResourceError):
        await stream.unwrap()
    return transport

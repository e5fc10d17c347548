"""A stream that carries frames."""

from __future__ import annotations

from contextlib import suppress

import trio

from tchat.core.protocol.framing import FRAME_LIMIT, HANDSHAKE_LIMIT, FrameBuffer
from tchat.net.sockets import is_ready, read_now, way_in, way_out
from tchat.net.tls_stream import TlsStream

RECEIVE_SIZE = 64 * 1024

_FAREWELL_SECONDS = 1.0
_FRAME_NOW = 1024  # enough for the short frames between which files travel


class Link:
    """Frames over a stream: one task receives, one task sends, or one thread does both.

    `heard` is the `trio.current_time()` at which bytes last came in, `said` that of the last
    `send`. `send_now` sends what the socket takes without waiting, and returns what is left for
    `send`, which may be empty, or None if nothing is. It is not for when a task is in `send`.

    What ends in `_now` waits for nothing. That, and `is_ready`, may be called in any thread, if no
    task uses the link meanwhile.
    """

    __slots__ = ("_buffer", "_receive_from", "heard", "said", "send_now", "stream")

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.heard = self.said = trio.current_time()
        self.send_now = stream.send_now if isinstance(stream, TlsStream) else way_out(stream)
        self._receive_from = way_in(stream)
        self._buffer = FrameBuffer(HANDSHAKE_LIMIT)

    def introduced(self) -> None:
        """Allow frames of full length: both sides have said who they are."""
        self._buffer.limit = FRAME_LIMIT

    def expect_much(self) -> None:
        """Be made for a file, rather than for waiting with little memory."""
        if isinstance(self.stream, TlsStream):
            self.stream.expect_much()

    async def send(self, data: bytes | memoryview) -> None:
        """Send packed frames, behind what `send_now` has left.

        Raises `trio.BrokenResourceError` when the other side is gone. After a cancelled send nobody
        knows how much went out: the link is to be closed.
        """
        await self.stream.send_all(data)
        self.said = trio.current_time()

    async def receive(self) -> bytes | None:
        """Return the next frame's body; None when the other side has ended or is gone."""
        while (body := self._buffer.pop()) is None:
            try:
                data = await self._receive_from(RECEIVE_SIZE)
            except trio.BrokenResourceError:
                return None
            self.heard = trio.current_time()
            if not data:
                return None
            self._buffer.feed(data)
        return body

    async def receive_raw(self, most: int) -> bytes:
        """Return at most so many bytes as they come, for what travels unframed; none at the end.

        Those that came behind the last frame, and were read with it, come first.
        """
        data = self._buffer.rest()
        if len(data) > most:
            self._buffer.feed(data[most:])
        if data:
            return data[:most]
        try:
            data = bytes(await self._receive_from(most))
        except trio.BrokenResourceError:
            return b""
        self.heard = trio.current_time()
        return data

    def receive_now(self, into: memoryview) -> int:
        """Fill a buffer with what has come unframed; return how much that was, which may be none.

        Whether more will come, who waits for it finds out.
        """
        if data := self._buffer.rest():
            size = min(len(data), len(into))
            into[:size] = data[:size]
            self._buffer.feed(data[size:])
            return size
        return self._read_now(into)

    def frame_now(self) -> bytes | None:
        """Return the next frame's body if it has come, and is short."""
        if (body := self._buffer.pop()) is None:
            room = bytearray(_FRAME_NOW)
            if size := self._read_now(memoryview(room)):
                self._buffer.feed(room[:size])
                body = self._buffer.pop()
        return body

    def is_ready(self, *, to_send: bool, within: float) -> bool:
        """Return whether the socket has something, or takes something, in so many seconds."""
        stream = self.stream
        encrypted = stream.transport_stream if isinstance(stream, TlsStream) else stream
        return is_ready(encrypted, to_send=to_send, within=within)

    def _read_now(self, into: memoryview) -> int:
        if isinstance(self.stream, TlsStream):
            return self.stream.receive_now(into)
        return read_now(self.stream, into)

    async def farewell(self) -> None:
        """Close so that what was sent arrives.

        A socket that is closed while received bytes lie unread is reset, and the reset may
        overtake the last frames: so end our half first, and let the other side end its own.
        """
        stream = self.stream
        with trio.move_on_after(_FAREWELL_SECONDS):
            if isinstance(stream, TlsStream):
                stream = await _end_encryption(stream)
            if isinstance(stream, trio.SocketStream):
                with suppress(trio.BrokenResourceError):
                    await stream.send_eof()
                    while await stream.receive_some(RECEIVE_SIZE):
                        pass
        await trio.aclose_forcefully(stream)


async def _end_encryption(stream: TlsStream[trio.SocketStream]) -> trio.SocketStream:
    """Say that nothing more comes (close_notify), and return what was encrypted."""
    encrypted = stream.transport_stream
    with suppress(trio.BrokenResourceError):  # was still sending, or has gone: our word is out
        await stream.unwrap()
    return encrypted

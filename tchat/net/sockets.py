"""Non-blocking socket I/O at one system call per read or write.

Trio first tries to read and only then waits. For a server with many clients that say little, that
first try is nearly always in vain: a failing call, an exception, then the wait, then the call
again. Here we wait first. And a write that the socket's buffer can take need not pass through the
scheduler at all, so any task may do it directly. Worker threads of file transfers read and write
without blocking in the same way, and leave long waits to their tasks.

All of this uses public guarantees of Trio: its sockets are in non-blocking mode, and
`trio.lowlevel` reports when one is ready. Where a socket is no file descriptor (Windows), the
stream's own methods are used, and nothing is sent or received without waiting.
"""

from __future__ import annotations

import os
import select
import sys
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Receive = Callable[[int], Awaitable[bytes | bytearray]]

D = TypeVar("D", bytes, memoryview)

_WITH_DESCRIPTORS = sys.platform != "win32"


class Write(Protocol):
    """A function that sends without blocking; it returns the unsent rest, or None if none is."""

    def __call__(self, data: D, /) -> D | None:
        """Send."""


def reader_of(stream: trio.abc.Stream) -> Receive:
    """Return a function that receives up to so many bytes as they arrive; none at the end.

    It raises what `receive_some` raises, and is a checkpoint every time.
    """
    socket = _socket_of(stream)
    return stream.receive_some if socket is None else partial(_wait_and_read, socket)


def writer_of(stream: trio.abc.Stream) -> Write:
    """Return a function that sends without blocking. Not to be called while a task is sending."""
    socket = _socket_of(stream)
    return _keep if socket is None else partial(_write_nowait, socket)


def read_nowait(stream: trio.abc.Stream, into: memoryview) -> int:
    """Fill a buffer with bytes that have arrived; return their number.

    0 says nothing about the end of the stream: a receive that waits finds that out. Not to be
    called while a task is receiving.
    """
    socket = _socket_of(stream)
    if socket is None:
        return 0
    try:
        return os.readv(socket.fileno(), [into])
    except OSError:
        return 0


def is_ready(stream: trio.abc.Stream, *, to_send: bool, within: float) -> bool:
    """Return whether a stream becomes readable, or writable, within so many seconds.

    For worker threads: it blocks the thread, and Trio knows nothing of it.
    """
    socket = _socket_of(stream)
    if socket is None or socket.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(socket, select.POLLOUT if to_send else select.POLLIN)
    return bool(poll.poll(within * 1000))


def _socket_of(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    """Return the socket if its file descriptor may be used directly, else None."""
    if _WITH_DESCRIPTORS and isinstance(stream, trio.SocketStream):
        return stream.socket
    return None


async def _wait_and_read(socket: trio.socket.SocketType, max_bytes: int) -> bytes:
    while True:
        await trio.lowlevel.wait_readable(_descriptor(socket))
        try:
            # The descriptor is asked for again: while we waited, the socket may have been closed,
            # and the number reused for another one.
            return os.read(_descriptor(socket), max_bytes)
        except BlockingIOError:  # a spurious wake-up
            continue
        except OSError as error:
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error


def _descriptor(socket: trio.socket.SocketType) -> int:
    descriptor = socket.fileno()
    if descriptor < 0:
        raise trio.ClosedResourceError("this socket was already closed")
    return descriptor


def _write_nowait(socket: trio.socket.SocketType, data: D) -> D | None:
    try:
        sent = os.write(socket.fileno(), data)
    except OSError:
        return data  # full, or broken: a send that waits finds out which
    return None if sent == len(data) else data[sent:]


def _keep(data: D) -> D:
    return data

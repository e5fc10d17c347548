"""Non-blocking socket I/O with one system call per read or write.

Trio first tries to read and waits only if that fails. On a server with many quiet clients, the
first try nearly always fails, which costs a system call and an exception. So here, a read waits
first. A write that fits into the socket's buffer does not need the scheduler, so any task may do it
directly. Worker threads of file transfers also read and write without blocking; if a socket is not
ready for some time, the thread ends, and a task waits for the socket.

All of this relies only on public guarantees of Trio: its sockets are in non-blocking mode, and
`trio.lowlevel` reports when one is ready. Of other streams, the own methods are used, and the
`_nowait` functions send and receive nothing.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Receive = Callable[[int], Awaitable[bytes | bytearray]]

D = TypeVar("D", bytes, memoryview)


class Write(Protocol):
    """A function that sends without blocking; it returns the unsent rest, or None."""

    def __call__(self, data: D, /) -> D | None:
        """Send."""


def reader_of(stream: trio.abc.Stream) -> Receive:
    """Return a function that waits for bytes and returns up to a maximum; empty at the end.

    It raises the exceptions of `receive_some`, and is always a checkpoint.
    """
    socket = _socket_of(stream)
    return stream.receive_some if socket is None else partial(_wait_and_read, socket)


def writer_of(stream: trio.abc.Stream) -> Write:
    """Return a function that sends without blocking. Do not call it while a task is sending."""
    socket = _socket_of(stream)
    return _send_nothing if socket is None else partial(_write_nowait, socket)


def read_nowait(stream: trio.abc.Stream, into: memoryview) -> int:
    """Fill a buffer with bytes that have arrived; return their number.

    0 does not mean that the stream has ended; only a receive that waits detects that. Do not call
    this while a task is receiving.
    """
    socket = _socket_of(stream)
    if socket is None:
        return 0
    try:
        return os.readv(socket.fileno(), [into])
    except OSError:
        return 0


def is_ready(stream: trio.abc.Stream, *, to_send: bool, within: float) -> bool:
    """Return whether a stream becomes readable, or writable, within that many seconds.

    Only for worker threads: it blocks the thread, and cannot be cancelled by Trio.
    """
    socket = _socket_of(stream)
    if socket is None or socket.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(socket, select.POLLOUT if to_send else select.POLLIN)
    return bool(poll.poll(within * 1000))


def limit_unread(stream: trio.abc.Stream, size: int) -> None:
    """Let the system hold about `size` bytes that have arrived and were not read yet.

    Otherwise it holds more and more for a program that reads fast: up to 32 MB on some systems.
    """
    socket = _socket_of(stream)
    if socket is not None:
        with suppress(OSError):  # the other side is gone: reading tells
            socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, size)


def _socket_of(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    """Return the socket of a stream, whose file descriptor may be used directly, or None."""
    return stream.socket if isinstance(stream, trio.SocketStream) else None


async def _wait_and_read(socket: trio.socket.SocketType, max_bytes: int) -> bytes:
    while True:
        if (descriptor := socket.fileno()) < 0:
            raise _closed()
        await trio.lowlevel.wait_readable(descriptor)
        try:
            # Get the descriptor again: during the wait, the socket may have been closed and its
            # number reused for another one.
            return os.read(socket.fileno(), max_bytes)
        except BlockingIOError:  # a spurious wake-up
            continue
        except OSError as error:
            if socket.fileno() < 0:
                raise _closed() from None
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error


def _closed() -> trio.ClosedResourceError:
    return trio.ClosedResourceError("this socket was already closed")


def _write_nowait(socket: trio.socket.SocketType, data: D) -> D | None:
    try:
        sent = os.write(socket.fileno(), data)
    except OSError:
        return data  # full or broken; a send that waits finds out which
    return None if sent == len(data) else data[sent:]


def _send_nothing(data: D) -> D:
    return data

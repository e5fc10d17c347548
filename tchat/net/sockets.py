"""Reading and writing a socket at the cost of one system call each.

Trio tries to read before it waits, which for a server with many clients that say little is in
vain nearly every time: a call that fails, an exception, and then the wait and the call again. Here
it waits first. And what a socket takes at once need not wait for anything, so it can be given to
it from any task, without a turn of the scheduler. A thread that has much to carry can take what
has come, and give what is taken, for as long as there is any, and leave long waits to its task.

All are Trio's own business by its public interface: it leaves its sockets in non-blocking mode
and says when one is ready (`trio.lowlevel`). Where a socket is no file descriptor (Windows), the
stream's own methods do, and nothing goes without waiting.
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
    """What sends what goes without waiting; it returns what is left, None if nothing is."""

    def __call__(self, data: D, /) -> D | None:
        """Send."""


def way_in(stream: trio.abc.Stream) -> Receive:
    """Return what to call for at most so many bytes as they come, and none at the end.

    It raises what `receive_some` raises, and is a checkpoint every time.
    """
    socket = _socket_of(stream)
    return stream.receive_some if socket is None else partial(_wait_and_read, socket)


def way_out(stream: trio.abc.Stream) -> Write:
    """Return what to call to send what a stream takes, when no task is sending."""
    socket = _socket_of(stream)
    return _keep if socket is None else partial(_write_now, socket)


def read_now(stream: trio.abc.Stream, into: memoryview) -> int:
    """Read what has come into a buffer, and return how much that was.

    It may be nothing: whoever waits for more finds out whether more comes. It is not for when a
    task is receiving.
    """
    socket = _socket_of(stream)
    if socket is None:
        return 0
    try:
        return os.readv(socket.fileno(), [into])
    except OSError:
        return 0


def is_ready(stream: trio.abc.Stream, *, to_send: bool, within: float) -> bool:
    """Return whether a stream has something to read, or takes something, in so many seconds.

    It is for threads: the wait is the system's, not Trio's.
    """
    socket = _socket_of(stream)
    if socket is None or socket.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(socket, select.POLLOUT if to_send else select.POLLIN)
    return bool(poll.poll(within * 1000))


def _socket_of(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    """Return the socket that can be used by its descriptor; None if it is not to be."""
    if _WITH_DESCRIPTORS and isinstance(stream, trio.SocketStream):
        return stream.socket
    return None


async def _wait_and_read(socket: trio.socket.SocketType, most: int) -> bytes:
    while True:
        await trio.lowlevel.wait_readable(_descriptor(socket))
        try:
            # Asked for again: it may have been closed since, and the number be another's.
            return os.read(_descriptor(socket), most)
        except BlockingIOError:  # there is nothing to read after all
            continue
        except OSError as error:
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error


def _descriptor(socket: trio.socket.SocketType) -> int:
    descriptor = socket.fileno()
    if descriptor < 0:
        raise trio.ClosedResourceError("this socket was already closed")
    return descriptor


def _write_now(socket: trio.socket.SocketType, data: D) -> D | None:
    try:
        sent = os.write(socket.fileno(), data)
    except OSError:
        return data  # it takes nothing now, or never: who sends it then finds out
    return None if sent == len(data) else data[sent:]


def _keep(data: D) -> D:
    return data

"""Reading and writing a socket at the cost of one system call each.

Trio tries to read before it waits, which for a server with many clients that say little is in
vain nearly every time: a call that fails, an exception, and then the wait and the call again. Here
it waits first. And what a socket takes at once need not wait for anything, so it can be given to
it from any task, without a turn of the scheduler.

Both are Trio's own business by its public interface: it leaves its sockets in non-blocking mode
and says when one is ready (`trio.lowlevel`). Where a socket is no file descriptor (Windows), the
stream's own methods do.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Receive = Callable[[int], Awaitable[bytes | bytearray]]
    Write = Callable[[bytes], bytes | None]

_WITH_DESCRIPTORS = sys.platform != "win32"


def way_in(stream: trio.abc.Stream) -> Receive:
    """Return what to call for at most so many bytes as they come, and none at the end.

    It raises what `receive_some` raises, and is a checkpoint every time.
    """
    if _WITH_DESCRIPTORS and isinstance(stream, trio.SocketStream):
        return partial(_wait_and_read, stream.socket)
    return stream.receive_some


def way_out(stream: trio.abc.Stream) -> Write:
    """Return what to call to send what a stream takes without waiting.

    It returns what is left, None if nothing is. It is not for when a task is sending.
    """
    if _WITH_DESCRIPTORS and isinstance(stream, trio.SocketStream):
        return partial(_write_now, stream.socket)
    return _keep


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


def _write_now(socket: trio.socket.SocketType, data: bytes) -> bytes | None:
    try:
        sent = os.write(socket.fileno(), data)
    except OSError:
        return data  # it takes nothing now, or never: who sends it then finds out
    return None if sent == len(data) else data[sent:]


def _keep(data: bytes) -> bytes:
    return data

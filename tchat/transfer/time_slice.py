"""Time slices of worker threads: move as much of a file as possible without blocking for long.

What a thread can do at once costs no scheduling, so a fast connection is best left to a thread. But
a thread that waits for a slow connection is wasted, and there are few of them. So a time slice is
short, and the waiting within it shorter: long enough for another program on this machine, or on
the local network, to respond, and no longer. After that a task waits, which costs nothing. On a
link where no piece can be expected within such a wait, the thread does not wait at all: otherwise
a hundred slow connections would keep the threads waiting, and fast ones waiting for the threads.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from tchat.core.protocol.handshake import PIECE_SIZE

if TYPE_CHECKING:
    from tchat.net.link import Link
    from tchat.net.sockets import D

_SLICE_SECONDS = 0.05
_WAIT_SECONDS = 0.005


class LinkSpeed:
    """The speed of a link, measured from one time slice to the next."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._since = -math.inf

    def is_fast(self, offset: int) -> bool:
        """Return whether a thread should wait for the link, now that the transfer is at `offset`.

        It should if pieces since the last call took no longer than a time slice would wait for one.
        The first time nothing has been measured yet, and the link counts as fast.
        """
        now = time.monotonic()
        moved, took = offset - self._offset, now - self._since
        is_first = math.isinf(took)
        self._offset, self._since = offset, now
        return is_first or took / _WAIT_SECONDS <= moved / PIECE_SIZE


class TimeSlice:
    """A thread's permission to use a link for a short time. No task may use it meanwhile."""

    def __init__(self, link: Link, *, may_wait: bool = True) -> None:
        self._link = link
        self._end = time.monotonic() + _SLICE_SECONDS
        self._wait_left = _WAIT_SECONDS if may_wait else 0.0

    @property
    def is_over(self) -> bool:
        """Whether the thread should be given back."""
        return time.monotonic() >= self._end

    def receive(self, into: memoryview) -> int:
        """Receive unframed bytes into a buffer; return 0 if a task has to wait for more."""
        size = self._link.receive_raw_nowait(into)
        return size or (self._link.receive_raw_nowait(into) if self._wait(to_send=False) else 0)

    def frame(self) -> bytes | None:
        """Return the body of the next frame; None if a task has to wait for it."""
        body = self._link.receive_nowait()
        if body is None and self._wait(to_send=False):
            body = self._link.receive_nowait()
        return body

    def send(self, data: D) -> D | None:
        """Send; return the rest that a task has to send, which may be empty, or None."""
        rest = self._link.send_nowait(data)
        while rest is not None and self._wait(to_send=True):
            rest = self._link.send_nowait(rest)
        return rest

    def _wait(self, *, to_send: bool) -> bool:
        began = time.monotonic()
        is_ready = self._wait_left > 0 and self._link.is_ready(
            to_send=to_send, within=self._wait_left
        )
        self._wait_left -= time.monotonic() - began
        return is_ready

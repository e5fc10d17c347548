"""Time slices of worker threads: move as much of a file as possible without blocking for long.

A thread that never has to wait needs no scheduling, so it is the best way to use a fast connection.
But a thread that waits for a slow connection is wasted, and there are few threads. So a time slice
is short, and may contain only a short wait: long enough for a response from this machine or the
local network. After that, a task waits instead, which costs nothing. If a link is too slow to
deliver a piece within such a wait, the thread does not wait at all: otherwise a hundred slow
connections could occupy all threads, and fast connections would have to wait for a thread.
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
        self._is_fast = True

    def is_fast(self, offset: int) -> bool:
        """Return whether a thread should wait for the link; `offset` is the transfer's progress.

        It should if a piece took at most `_WAIT_SECONDS` on average since the last measurement. In
        the first call, the speed is unknown, and the link counts as fast.
        """
        now = time.monotonic()
        moved, took = offset - self._offset, now - self._since
        if moved < PIECE_SIZE and took < _WAIT_SECONDS:
            return self._is_fast  # too little to tell: a slow link delivers bursts, too
        self._is_fast = math.isinf(took) or took / _WAIT_SECONDS <= moved / PIECE_SIZE
        self._offset, self._since = offset, now
        return self._is_fast


class TimeSlice:
    """A thread's exclusive use of a link for a short time. No task may use the link meanwhile."""

    def __init__(self, link: Link, *, may_wait: bool = True) -> None:
        self._link = link
        self._end = time.monotonic() + _SLICE_SECONDS
        self._wait_left = _WAIT_SECONDS if may_wait else 0.0

    @property
    def is_over(self) -> bool:
        """Whether the thread should return."""
        return time.monotonic() >= self._end

    def receive(self, into: memoryview) -> int:
        """Receive unframed bytes into a buffer; return 0 if a task has to wait for them."""
        size = self._link.receive_raw_nowait(into)
        return size or (self._link.receive_raw_nowait(into) if self._wait(to_send=False) else 0)

    def frame(self) -> bytes | None:
        """Return the body of the next frame; None if a task has to wait for it."""
        body = self._link.receive_nowait()
        if body is None and self._wait(to_send=False):
            body = self._link.receive_nowait()
        return body

    def send(self, data: D) -> D | None:
        """Send; return the rest that a task has to send, which may be empty, or None if done."""
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

"""A thread's turn at a transfer: for a while it carries, between the disk and the socket.

What a thread can do at once costs no scheduling, so a fast connection is best left to one. But a
thread that waits for a slow connection is of no use to anybody, and there are few of them. So a
turn is short, and the waiting in it shorter: long enough for another program on this machine, or
in this network, to do its share, and no longer. Who then has to wait further is a task, as tasks
do, for nothing. And where no piece can be expected within such a wait, there is none: a hundred
slow connections would have a thread do nothing but wait, while fast ones wait for the thread.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from tchat.core.protocol.handshake import PIECE_SIZE

if TYPE_CHECKING:
    from tchat.net.link import Link
    from tchat.net.sockets import D

_TURN_SECONDS = 0.05
_WAIT_SECONDS = 0.005


class Pace:
    """How fast a link has been, from one turn to the next."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._since = -math.inf

    def is_fast(self, at: int) -> bool:
        """Return whether waiting pays, now that the transfer is at that offset.

        It does if every piece since the last time took no longer than a turn would wait for it.
        The first time nothing is known, and the best is hoped for.
        """
        now = time.monotonic()
        moved, took = at - self._at, now - self._since
        is_first = math.isinf(took)
        self._at, self._since = at, now
        return is_first or took / _WAIT_SECONDS <= moved / PIECE_SIZE


class TimeSlice:
    """What a thread may do with a link for now. No task may use that meanwhile."""

    def __init__(self, link: Link, *, may_wait: bool = True) -> None:
        self._link = link
        self._end = time.monotonic() + _TURN_SECONDS
        self._patience = _WAIT_SECONDS if may_wait else 0.0

    @property
    def is_over(self) -> bool:
        """Whether it is time to let others have theirs."""
        return time.monotonic() >= self._end

    def receive(self, into: memoryview) -> int:
        """Take what comes unframed; return how much that was, none if it has to be waited for."""
        size = self._link.receive_raw_nowait(into)
        return size or (self._link.receive_raw_nowait(into) if self._wait(to_send=False) else 0)

    def frame(self) -> bytes | None:
        """Return the next frame's body, None if it has to be waited for."""
        body = self._link.receive_nowait()
        if body is None and self._wait(to_send=False):
            body = self._link.receive_nowait()
        return body

    def send(self, data: D) -> D | None:
        """Send; return what is left and has to be waited for, which may be empty, or None."""
        rest = self._link.send_nowait(data)
        while rest is not None and self._wait(to_send=True):
            rest = self._link.send_nowait(rest)
        return rest

    def _wait(self, *, to_send: bool) -> bool:
        began = time.monotonic()
        is_ready = self._patience > 0 and self._link.is_ready(
            to_send=to_send, within=self._patience
        )
        self._patience -= time.monotonic() - began
        return is_ready

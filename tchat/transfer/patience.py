"""How long one end of a transfer waits for the other: for anything at all, and for a minimum rate.

Without a minimum rate, one byte a minute would keep a transfer, and what it occupies, for ever. The
rate is measured on the offset, not on the connection: pings are no progress. Whenever the offset
has grown by a window's worth, the next window begins. So a line may stand still for most of a
window, as bad mobile ones do, if it makes up for that in the rest.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from tchat.core.text import size_text
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW_SECONDS = 60.0
GRACE_SECONDS = 60.0
"""What the first window is longer than the others."""

HASH_RATE = 1 << 20
"""Bytes per second at which even a slow computer hashes what has been transferred before."""


class TooSlow(Refused):
    """The other side was slower than the minimum rate; the transfer can be resumed."""

    def __init__(self, rate: float) -> None:
        super().__init__(
            Code.TOO_SLOW,
            f"The transfer was slower than {size_text(int(rate))} per second for too long; it"
            " continues where it stopped when it is started again.",
        )


class Patience:
    """Limits one end's waits to `stall_seconds` each, and all of them by a minimum rate.

    `min_rate` is in bytes per second; 0 allows any rate.
    """

    def __init__(self, stall_seconds: float, min_rate: float = 0) -> None:
        self._stall_seconds = stall_seconds
        self._rate = min_rate
        self._begin = 0  # the offset at the beginning of the window
        self._end = math.inf  # of the window
        self.restart(0)

    def restart(self, offset: int, hashed: int = 0) -> None:
        """Begin a first window, in which the other side may have to hash `hashed` bytes."""
        self._begin = offset
        if self._rate:
            allowed = GRACE_SECONDS + WINDOW_SECONDS + hashed / HASH_RATE
            self._end = trio.current_time() + allowed

    def on_progress(self, offset: int) -> None:
        """Begin the next window if enough has been transferred in this one."""
        if self._rate and offset - self._begin >= self._rate * WINDOW_SECONDS:
            self._begin, self._end = offset, trio.current_time() + WINDOW_SECONDS

    def extend(self, seconds: float) -> None:
        """Prolong the window by a time in which this side has made the other one wait."""
        self._end += seconds

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Limit the time of the block. Raises `TooSlow`, or `trio.TooSlowError` for a stall."""
        stalled = trio.current_time() + self._stall_seconds
        with trio.move_on_at(min(stalled, self._end)) as scope:
            yield
        if scope.cancelled_caught:
            if self._end <= stalled:
                raise TooSlow(self._rate)
            raise trio.TooSlowError

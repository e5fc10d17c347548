"""The clocks of this machine, in ms: the wall clock, which can be set, and one that only counts."""

from __future__ import annotations

import time

DAY_MS = 24 * 3600 * 1000

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_ms() -> int:
    """Return the wall clock's time in ms since the Unix epoch."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """Return the time in ms of a monotonic clock, which also runs while the machine sleeps."""
    return time.clock_gettime_ns(_STEADY) // 1_000_000

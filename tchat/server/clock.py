"""Wall clock: the source of the timestamps of events."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the time in ms since the Unix epoch."""
    return time.time_ns() // 1_000_000

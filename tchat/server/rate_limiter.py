"""Rate limits per person (token buckets).

A refusal contains the time to wait, so that clients can retry automatically.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import trio

from tchat.core.pace import TokenBucket
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.core.pace import Rate
    from tchat.server.limits import Limits

RateKind = Literal["messages", "joins", "requests"]
"""The rates of `Limits` that apply to a person."""

_MIN_WAIT_SHOWN = 0.1


class RateLimiter:
    """A token bucket for each person and kind of action.

    `clock` is monotonic, in seconds. At `max_buckets`, full buckets are dropped.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = trio.current_time,
        max_buckets: int = 10_000,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._max_buckets = max_buckets
        self._buckets: dict[tuple[RateKind, str], TokenBucket] = {}

    def acquire(self, kind: RateKind, person: str, cost: int = 1) -> None:
        """Take `cost` tokens from a person's bucket. Raises `Refused` (rate_limited)."""
        rate: Rate | None = getattr(self._limits, kind)
        if rate is None:
            return
        now = self._clock()
        bucket = self._buckets.get((kind, person))
        if bucket is None:
            self._drop_full_buckets(now)
            bucket = self._buckets[kind, person] = TokenBucket(rate, now)
        wait = bucket.take(now, cost)
        if wait:
            raise Refused(
                Code.RATE_LIMITED,
                f"Too fast; try again in {max(wait, _MIN_WAIT_SHOWN):.1f} s.",
                math.ceil(wait * 1000),
            )

    @property
    def limits(self) -> Limits:
        """The limits in force; with other limits, all buckets are full again."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets.clear()

    def __len__(self) -> int:
        """Return the number of buckets in memory."""
        return len(self._buckets)

    def _drop_full_buckets(self, now: float) -> None:
        """Bound the memory: a full bucket is no different from a new one."""
        if len(self._buckets) >= self._max_buckets:
            self._buckets = {k: b for k, b in self._buckets.items() if not b.is_full(now)}

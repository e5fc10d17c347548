"""How often something may be done: a bucket of tokens that fills with time.

A bucket holds up to `burst` tokens and gets `per_second` new ones; each thing done takes one. So
a burst is free, and what goes on for long keeps to the rate. The server refuses by it, and a
client keeps to it by itself, so that only one that does not is ever refused.
"""

from __future__ import annotations

from dataclasses import dataclass

_NEARLY = 1e-9  # of a token: what adding up fractions may lose, so that a wait is long enough


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `burst` at once, and `per_second` in the long run."""

    per_second: float
    burst: int


class TokenBucket:
    """Tokens for one rate. `now` is in seconds, of any clock that never goes back."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._at = now

    def take(self, now: float, cost: int = 1) -> float:
        """Take tokens and return 0.0, or leave all and return after how many seconds to ask."""
        self._fill(now)
        cost = min(cost, self._rate.burst)
        if self._tokens >= cost - _NEARLY:
            self._tokens -= cost
            return 0.0
        return (cost - self._tokens) / self._rate.per_second

    def is_full(self, now: float) -> bool:
        """Return whether this bucket says no more than a new one would."""
        self._fill(now)
        return self._tokens >= self._rate.burst

    def _fill(self, now: float) -> None:
        self._tokens = min(
            self._tokens + (now - self._at) * self._rate.per_second, self._rate.burst
        )
        self._at = now

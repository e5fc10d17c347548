"""Token bucket: the rate limit of the server, and the pacing of the client that keeps within it.

A bucket holds up to `burst` tokens and gains `per_second` of them; each action takes one. So a
burst passes at once, and a longer sequence is held to the rate. The server rejects what exceeds the
rate; a client paces itself by the same rule, so that a well-behaved one is never rejected.
"""

from __future__ import annotations

from dataclasses import dataclass

# Tokens that rounding may lose when fractions are added up. Without this tolerance, a caller that
# waited exactly as long as it was told could be rejected again.
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate limit: at most `burst` at once, and `per_second` in the long run."""

    per_second: float
    burst: int


class TokenBucket:
    """The tokens of one rate. `now` is in seconds of a monotonic clock."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._at = now

    def take(self, now: float, cost: int = 1) -> float:
        """Take `cost` tokens and return 0.0, or take none and return the seconds to wait."""
        self._fill(now)
        cost = min(cost, self._rate.burst)
        if self._tokens >= cost - _TOLERANCE:
            self._tokens -= cost
            return 0.0
        return (cost - self._tokens) / self._rate.per_second

    def is_full(self, now: float) -> bool:
        """Return whether the bucket is full: it then behaves like a new one and may be dropped."""
        self._fill(now)
        return self._tokens >= self._rate.burst

    def _fill(self, now: float) -> None:
        self._tokens = min(
            self._tokens + (now - self._at) * self._rate.per_second, self._rate.burst
        )
        self._at = now

"""Token bucket: the server's rate limit, and the client's pacing to stay within it.

A bucket holds up to `burst` tokens and gains `per_second` tokens a second; each action takes one.
So a burst passes at once, and a longer sequence is limited to the rate. The server delays actions
above the rate; a well-behaved client paces itself by the same rule and is never delayed.
"""

from __future__ import annotations

from dataclasses import dataclass

# Adding fractions may lose this many tokens to rounding. Without the tolerance, a caller that
# waited exactly the required time could be rejected again.
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

    def reserve(self, now: float, longest: float, cost: float = 1) -> float:
        """Take `cost` tokens that the bucket has now, or will have within `longest` seconds.

        Return the seconds until then. If they are more than `longest`, no token is taken.
        """
        self._fill(now)
        cost = min(cost, self._rate.burst)
        missing = cost - self._tokens
        wait = missing / self._rate.per_second if missing > _TOLERANCE else 0.0
        if wait <= longest:
            self._tokens -= cost
        return wait

    def level(self, now: float) -> float:
        """Return how full the bucket is: 1 if it behaves like a new one, below 0 in debt."""
        self._fill(now)
        return self._tokens / self._rate.burst

    def _fill(self, now: float) -> None:
        self._tokens = min(
            self._tokens + (now - self._at) * self._rate.per_second, self._rate.burst
        )
        self._at = now

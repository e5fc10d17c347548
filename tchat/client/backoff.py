"""Exponential backoff with jitter: the delays between retries.

The upper limit of the delay doubles with each retry, up to a cap, so that a struggling server is
not overloaded. Each delay is drawn at random from the upper half of its range, so that clients that
lost their connections at the same moment do not all reconnect at the same moment. Nor do those that
a busy server has told to wait for the same time: the delay is added to it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


FIRST_SECONDS = 0.1
LONGEST_SECONDS = 15.0


class Backoff:
    """The delays of one series of retries, in seconds.

    `failures` counts the delays since the last success. `uniform` returns a random number from a
    range. `first` and `longest` are the first and the longest delay; without them, those of
    reconnections.
    """

    def __init__(
        self,
        uniform: Callable[[float, float], float] = random.uniform,
        first: float | None = None,
        longest: float | None = None,
    ) -> None:
        self.failures = 0
        self._first = self._upper = FIRST_SECONDS if first is None else first
        self._longest = LONGEST_SECONDS if longest is None else longest
        self._uniform = uniform

    def reset(self) -> None:
        """Start again with the shortest delay, after a success."""
        self.failures = 0
        self._upper = self._first

    def next_delay(self, least: float = 0.0) -> float:
        """Return how long to wait after one more failure, longer than `least`."""
        upper = self._upper
        self.failures += 1
        # Doubled step by step: 2**failures overflows a float after some hours without a server.
        self._upper = min(upper * 2, self._longest)
        return least + self._uniform(upper / 2, upper)

"""Token buckets by kind and key, such as a person or a network, in a bounded amount of memory.

A full bucket is no different from a new one, so it may be dropped. At the bound, each new bucket
displaces another one: a full one, if there is one among the next few that are looked at, or else
the fullest of these, which differs least from a new one. So the work for one bucket is constant,
and nobody gets much by filling the memory with other keys.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from tchat.core.pace import Rate, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.server.limits import Limits

Kind = TypeVar("Kind", bound=str)

_CANDIDATES = 8  # buckets that are looked at to drop one of them


class KeyedBuckets(Generic[Kind]):
    """Token buckets with the rates of `limits`, by kind and key.

    `clock` is monotonic, in seconds. There are never more than `max_buckets`.
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
        # Ordered, because it is a queue, too: `dict` is slow if its first items are removed.
        self._buckets: OrderedDict[tuple[Kind, str], TokenBucket] = OrderedDict()

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

    def _new_bucket(self, kind: Kind, key: str, rate: Rate, now: float) -> TokenBucket:
        """Return a new bucket; an older one may be dropped for it."""
        if len(self._buckets) >= self._max_buckets:
            self._drop_one(now)
        bucket = self._buckets[kind, key] = TokenBucket(rate, now)
        return bucket

    def _drop_one(self, now: float) -> None:
        """Drop the fullest of the next few buckets; put the others last."""
        key, fullest = self._buckets.popitem(last=False)
        for _ in range(min(_CANDIDATES - 1, len(self._buckets))):
            if fullest.level(now) == 1:
                return
            other_key, other = self._buckets.popitem(last=False)
            if other.level(now) > fullest.level(now):
                key, fullest, other_key, other = other_key, other, key, fullest
            self._buckets[other_key] = other

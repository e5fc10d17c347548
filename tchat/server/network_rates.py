"""Rate limits per network (token buckets): new names, and logins.

A /56 network may have twice, and a /48 four times the rate of a /64 or an IPv4 address. A refusal
contains the time to wait, so that clients can retry automatically.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

import trio

from tchat.core.pace import Rate, TokenBucket
from tchat.errors import Code, Refused
from tchat.net.address import enclosing_networks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.net.address import Address
    from tchat.server.limits import Limits

NetworkRateKind = Literal["claims", "logins"]
"""The rates of `Limits` that apply to a network."""

_SENTENCES: dict[NetworkRateKind, str] = {
    "claims": "Too many new names come from your network; try again in {:.0f} s.",
    "logins": "Too many logins come from your network; try again in {:.0f} s.",
}


class NetworkRates:
    """A token bucket for each network and kind.

    `clock` is monotonic, in seconds. Above `max_buckets`, those are dropped that were not used for
    the longest time.
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
        self._buckets: OrderedDict[tuple[NetworkRateKind, str], TokenBucket] = OrderedDict()

    @property
    def limits(self) -> Limits:
        """The limits in force; with other limits, all buckets are full again."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets.clear()

    def acquire(self, kind: NetworkRateKind, address: Address | None) -> None:
        """Take a token from the buckets of an address. Raises `Refused` (busy)."""
        rate: Rate | None = getattr(self._limits, kind)
        if rate is None or (kind == "logins" and self._limits.has_one_address):
            return
        now = self._clock()
        networks = enclosing_networks(address.host) if address else ("",)
        for level, network in enumerate(networks):
            # What a small network is refused does not count for its neighbours in larger ones.
            if wait := self._bucket(kind, network, rate, 1 << level, now).take(now):
                raise Refused(
                    Code.BUSY, _SENTENCES[kind].format(math.ceil(wait)), math.ceil(wait * 1000)
                )

    def __len__(self) -> int:
        """Return the number of buckets in memory."""
        return len(self._buckets)

    def _bucket(
        self, kind: NetworkRateKind, network: str, rate: Rate, factor: int, now: float
    ) -> TokenBucket:
        bucket = self._buckets.get((kind, network))
        if bucket is None:
            bucket = TokenBucket(Rate(rate.per_second * factor, rate.burst * factor), now)
            self._buckets[kind, network] = bucket
            if len(self._buckets) > self._max_buckets:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end((kind, network))
        return bucket

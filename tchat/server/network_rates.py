"""Rate limits per network (token buckets): new names, logins, and texts.

A person can have many names, so what each name may do does not bound what somebody does from one
address. A /56 network may have twice, and a /48 four times the rate of a /64 or an IPv4 address. A
refusal contains the time to wait, so that clients can retry automatically.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from tchat.core.pace import Rate, TokenBucket
from tchat.errors import Code, Refused
from tchat.net.address import networks_of
from tchat.server.keyed_buckets import KeyedBuckets
from tchat.server.ledger import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.net.address import Address

NetworkRateKind = Literal["claims", "address_logins", "address_texts"]
"""The rates of `Limits` that apply to a network."""

_SENTENCES: dict[NetworkRateKind, str] = {
    "claims": "Too many new names come from your network; try again in {:.0f} s.",
    "address_logins": "Too many logins come from your network; try again in {:.0f} s.",
}


class NetworkRates(KeyedBuckets[NetworkRateKind]):
    """A token bucket for each network and kind."""

    def acquire(self, kind: NetworkRateKind, address: Address | None) -> None:
        """Take a token from the buckets of an address. Raises `Refused` (busy)."""
        now = self._clock()
        # What a small network is refused does not count for its neighbours in larger ones.
        for bucket in self._buckets_of(kind, address, now):
            if wait := bucket.take(now):
                raise Refused(
                    Code.BUSY, _SENTENCES[kind].format(math.ceil(wait)), math.ceil(wait * 1000)
                )

    def reserve(self, kind: NetworkRateKind, address: Address | None, amount: float) -> float:
        """Return the seconds that an address has to wait; see `RateLimiter.reserve`."""
        now = self._clock()
        longest = 0.0
        for bucket in self._buckets_of(kind, address, now):
            longest = max(longest, bucket.reserve(now, LONGEST_WAIT, amount))
            if longest > LONGEST_WAIT:
                break
        return longest

    def _buckets_of(
        self, kind: NetworkRateKind, address: Address | None, now: float
    ) -> Iterator[TokenBucket]:
        """Yield the buckets of an address, that of the smallest network first."""
        rate: Rate | None = getattr(self._limits, kind)
        if rate is None:
            return
        for level, network in enumerate(networks_of(address)):
            bucket = self._buckets.get((kind, network))
            if bucket is None:
                wider = Rate(rate.per_second * (1 << level), rate.burst << level)
                bucket = self._new_bucket(kind, network, wider, now)
            yield bucket

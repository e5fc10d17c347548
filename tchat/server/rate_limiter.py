"""Rate limits per person (token buckets), and a cap on connections that are not authenticated.

A refusal contains the time to wait, so that clients can retry automatically.
"""

from __future__ import annotations

import ipaddress
import math
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import trio

from tchat.core.pace import TokenBucket
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tchat.core.pace import Rate
    from tchat.net.address import Address
    from tchat.server.limits import Limits

RateKind = Literal["messages", "joins", "requests"]
"""The rates of `Limits` that apply to a person."""

_MIN_WAIT_SHOWN = 0.1
BUSY_RETRY_MS = 1000
# A customer of an internet provider has one IPv4 address, but a whole /64 network of IPv6.
_PREFIX = {4: 32, 6: 64}
_PROXIED = "a proxy"  # in place of a network


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


class UnauthenticatedLimiter:
    """Limits the connections that have not authenticated yet, in total and per address."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._by_network: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """The number of connections that are authenticating now."""
        return self._by_network.total()

    @contextmanager
    def admit(self, address: Address | None) -> Iterator[None]:
        """Count one connection while the block runs. Raises `Refused` (busy) if there are too many.

        `address` is None for a peer without an address, such as a Unix socket.
        """
        network = _network(address.host) if address else ""
        with self._counted(network, self.limits.unauthenticated_per_address):
            yield

    @contextmanager
    def admit_proxy(self) -> Iterator[None]:
        """Count one connection while its PROXY header is read. Raises `Refused` as `admit` does.

        Only the total is limited: a proxy forwards for many clients from one address.
        """
        with self._counted(_PROXIED, self.limits.unauthenticated):
            yield

    @contextmanager
    def _counted(self, network: str, limit: int) -> Iterator[None]:
        if self.count >= self.limits.unauthenticated or self._by_network[network] >= limit:
            raise Refused(
                Code.BUSY,
                "Too many connections are authenticating just now; try again.",
                BUSY_RETRY_MS,
            )
        self._by_network[network] += 1
        try:
            yield
        finally:
            self._by_network[network] -= 1
            if not self._by_network[network]:
                del self._by_network[network]


def _network(host: str) -> str:
    """Return the network that shares one limit: an IPv4 address, or a /64 network of IPv6."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])  # without an IPv6 zone
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(ipaddress.ip_network((address, _PREFIX[address.version]), strict=False))

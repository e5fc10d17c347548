"""Limits of the connections that have not authenticated yet, in total and per network.

A refusal contains the time to wait, so that clients can retry automatically.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tchat.errors import Code, Refused
from tchat.net.address import enclosing_networks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.net.address import Address
    from tchat.server.limits import Limits

BUSY_RETRY_MS = 1000
_PROXIED = "a proxy"  # in place of a network


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
        network = enclosing_networks(address.host)[0] if address else ""
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

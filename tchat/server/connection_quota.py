"""Shares of the server's connections: no network takes them all, and newcomers find some free.

Names cost nothing, so limits per person do not bound what one attacker can open. A network may open
a further connection while it has fewer than a share of the connections that are free (a *dynamic
threshold*, as in switches that share one buffer: Choudhury and Hahne, 1998). With a share of 25 %,
one busy address gets a fifth of all connections, and twenty get 4 % each, with 17 % free. So there
is no fixed limit that would be too small for a quiet server or too large for a busy one, and an
address without connections gets in as long as there are any.

Networks are those of `networks_of`: the share is that of an IPv4 address and of a /64
network; a /56 has twice, and a /48 four times as much.

A quarter of all connections is for people with established names; new names cannot use it up,
however many networks they come from.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tchat.errors import Code, Refused
from tchat.net.address import networks_of
from tchat.server.unauthenticated import BUSY_RETRY_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.net.address import Address
    from tchat.server.limits import Limits

_RESERVED = 4  # one in so many connections is for established names
_ALWAYS = 8  # connections that an address may have while any are free


class ConnectionQuota:
    """Counts the authenticated connections: chats and transfers."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.count = 0
        self._by_network: Counter[str] = Counter()

    def check_capacity(self) -> None:
        """Raise `Refused` (busy) if the server has no free connection for anybody."""
        self._free(established=True)

    def check(self, address: Address | None, *, established: bool) -> None:
        """Raise `Refused` (busy) unless one more connection from an address is allowed.

        `established` is whether it belongs to somebody with an established name. Call `counted`
        next, without a checkpoint.
        """
        share = self.limits.network_share / 100 * self._free(established=established)
        if self.limits.has_one_address:
            return
        for level, network in enumerate(networks_of(address)):
            if self._by_network[network] >= max(share, _ALWAYS) * (1 << level):
                raise Refused(
                    Code.BUSY,
                    "This server has too many connections from your network; try again later.",
                    BUSY_RETRY_MS,
                )

    @contextmanager
    def counted(self, address: Address | None) -> Iterator[None]:
        """Count a connection while the block runs."""
        networks = networks_of(address)
        self.count += 1
        self._by_network.update(networks)
        try:
            yield
        finally:
            self.count -= 1
            self._by_network.subtract(networks)
            for network in networks:
                if not self._by_network[network]:
                    del self._by_network[network]

    def _free(self, *, established: bool) -> int:
        most = self.limits.connections
        free = most - self.count - (0 if established else most // _RESERVED)
        if free <= 0:
            raise Refused(
                Code.BUSY, "This server has too many connections; try again later.", BUSY_RETRY_MS
            )
        return free

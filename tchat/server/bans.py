"""Bans on the whole server, by name, by key or by address; only the operator sets them.

A banned person cannot authenticate, and a banned address not even try to. Names are compared
folded, keys by their fingerprints, and an address may be a network: `192.0.2.0/24` or
`2001:db8::/32`. The set is small, and is kept in memory as well as in the store.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from tchat.core.fingerprints import fingerprint
from tchat.core.text import check_name, clean_limited, fold, quote_name
from tchat.errors import Code, Refused
from tchat.store.base import ServerBan

if TYPE_CHECKING:
    from tchat.core.group.state import Author
    from tchat.net.address import Address
    from tchat.store.base import BanKind, Maintenance

    _Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REASON_LIMIT = 200
_FINGERPRINT = 19  # characters
_MAPPED_BITS = 96  # of ::ffff:192.0.2.7 before the IPv4 address


class Bans:
    """The bans of a server."""

    def __init__(self, maintenance: Maintenance) -> None:
        self._maintenance = maintenance
        self._bans: dict[tuple[BanKind, str], ServerBan] = {}
        self._networks: dict[_Network, ServerBan] = {}

    async def load(self) -> None:
        """Load the bans from the store."""
        for ban in await self._maintenance.bans():
            self._add(ban)

    def all(self) -> list[ServerBan]:
        """Return all bans, by kind and value."""
        return [ban for _, ban in sorted(self._bans.items())]

    async def add(self, ban: ServerBan) -> None:
        """Add a ban, or give an existing one another reason."""
        await self._maintenance.add_ban(ban)
        self._add(ban)

    async def remove(self, kind: BanKind, value: str) -> None:
        """Remove a ban. Raises `Refused` (no_such_ban)."""
        if (kind, value) not in self._bans:
            raise Refused(
                Code.NO_SUCH_BAN,
                f"There is no ban on the {kind} {quote_name(value)}; 'tchat admin bans' lists all.",
            )
        # First in the store: if its disk is full, the ban stays, here and after a restart.
        await self._maintenance.remove_ban(kind, value)
        self._bans.pop((kind, value), None)
        self._networks = {n: ban for n, ban in self._networks.items() if ban.value != value}

    def check_address(self, address: Address | None) -> None:
        """Raise `Refused` (banned) for a banned address; None is a peer without one."""
        if address is None or not self._networks:
            return
        found = _address_of(address.host)
        for network, ban in self._networks.items():
            if found is not None and found.version == network.version and found in network:
                raise _refusal(ban)

    def check_person(self, author: Author) -> None:
        """Raise `Refused` (banned) for a person whose name or key is banned."""
        ban = self._bans.get(("name", fold(author.name)))
        if ban is None and author.key is not None:
            ban = self._bans.get(("key", fingerprint(author.key))) if self._bans else None
        if ban is not None:
            raise _refusal(ban)

    def _add(self, ban: ServerBan) -> None:
        self._bans[ban.kind, ban.value] = ban
        if ban.kind == "address":
            self._networks[_network_of(ban.value)] = ban


def new_ban(kind: BanKind, value: str, reason: str, at: int) -> ServerBan:
    """Return a ban of what an operator typed. Raises `Refused` (bad_name, text_too_long)."""
    return ServerBan(
        kind, normalized(kind, value), at, clean_limited(reason, _REASON_LIMIT, "A reason")
    )


def normalized(kind: BanKind, value: str) -> str:
    """Return a value in the form in which it is compared. Raises `Refused` (bad_name)."""
    if kind == "name":
        return fold(check_name(value, "username"))
    if kind == "key":
        if len(value) == _FINGERPRINT and all(c in "0123456789abcdef-" for c in value.lower()):
            return value.lower()
        raise Refused(Code.BAD_NAME, "A key is given as its fingerprint: 3f2a-91c4-77de-0b12.")
    try:
        return str(_network_of(value))
    except ValueError as error:
        raise Refused(
            Code.BAD_NAME,
            f"{quote_name(value)} is neither an IP address nor a network like 192.0.2.0/24.",
        ) from error


def _network_of(text: str) -> _Network:
    """Return a network; that of IPv4 addresses in their IPv6 form is one of IPv4.

    Raises ValueError.
    """
    network = ipaddress.ip_network(text, strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


def _address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])  # without an IPv6 zone
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _refusal(ban: ServerBan) -> Refused:
    reason = f": {ban.reason}" if ban.reason else ""
    return Refused(Code.BANNED, f"The operator of this server has banned you{reason}.")

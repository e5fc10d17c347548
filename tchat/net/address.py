"""Network addresses: a host and a port, as people type and programs print them.

Everything here is cheap to import, since every command line needs it; `tcp` does the work.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

# What one customer can have: of IPv4 an address, of IPv6 a /64 network at least, and often a /56 or
# a /48 (RFC 6177).
_PREFIXES = {4: (32,), 6: (64, 56, 48)}

_TYPED = re.compile(r"(?:\[(?P<bracketed>[^\[\]]+)\]|(?P<host>[^\[\]:]+))(?::(?P<port>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class Address:
    """A host (a name, an IPv4 or an IPv6 address) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return `host:port`, an IPv6 address in brackets as in URLs (RFC 3986)."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split_address(text: str) -> tuple[str, int | None]:
    """Return the host and, if there is one, the port of an address as people type it.

    That is a name or an IP address; an IPv6 address may have brackets, as programs print them, and
    needs them in front of a port: `localhost:7777`, `[::1]:7777`, `[::1]`, `::1`.
    """
    found = _TYPED.fullmatch(text)
    if found is None:
        return text, None
    return found["bracketed"] or found["host"], int(found["port"]) if found["port"] else None


def full_address(text: str) -> Address:
    """Return an address that has a port, as people type it. Raises ValueError."""
    host, port = split_address(text)
    if port is None or port > 65535:
        raise ValueError(f"{text!r} is not an address with a port, like 127.0.0.1:9464")
    return Address(host, port)


def read_networks(text: str) -> Networks:
    """Return the IP addresses and networks in a list with commas; "off" is none.

    Raises ValueError.
    """
    if text.strip().lower() == "off":
        return ()
    try:
        return tuple(ipaddress.ip_network(one.strip()) for one in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no list of networks, like 127.0.0.1,10.0.0.0/8 ({error})"
        ) from error


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an IP address without its IPv6 zone, IPv4 as such. Raises ValueError for a name."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # how a listener on :: sees IPv4
    return address


@lru_cache(maxsize=4096)
def enclosing_networks(host: str) -> tuple[str, ...]:
    """Return the networks of one customer that a host may be in, the smallest first.

    For IPv4 that is the address, for IPv6 the /64, the /56 and the /48 network. Anything else, such
    as the empty name of a peer without an address, is a network of its own.
    """
    try:
        address = _ip_address(host)
    except ValueError:
        return (host,)
    return tuple(
        str(ipaddress.ip_network((address, prefix), strict=False))
        for prefix in _PREFIXES[address.version]
    )


def networks_of(peer: Address | None) -> tuple[str, ...]:
    """Return `enclosing_networks` of a peer; one without an address is a network of its own."""
    return enclosing_networks(peer.host if peer else "")


def is_within(host: str, networks: Networks) -> bool:
    """Return whether an IP address is in one of the networks."""
    if not networks:  # the rule, and for every connection
        return False
    try:
        address = _ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in networks)


def is_local(host: str) -> bool:
    """Return whether a host is a loopback address or "localhost"."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def notes_for_elsewhere(host: str) -> list[str]:
    """Return what to change of a server's host in a command for another machine, if at all."""
    note = f"On another machine, replace {host} with this machine's name or address."
    return [note] * is_local(host)

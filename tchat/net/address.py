"""Network addresses: a host and a port, as people type and programs print them.

Everything here is cheap to import, since every command line needs it; `tcp` does the work.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

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


def is_within(host: str, networks: Networks) -> bool:
    """Return whether an IP address is in one of the networks."""
    if not networks:  # the rule, and for every connection
        return False
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # how a listener on :: sees IPv4
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

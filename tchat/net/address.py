"""Network addresses: a host and a port, as people type and programs print them.

Everything here is cheap to import, since every command line needs it; `tcp` does the work.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

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

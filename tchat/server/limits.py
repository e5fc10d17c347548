"""How much one may ask of a server. Whoever asks for more is told so, and when to try again."""

from __future__ import annotations

import ipaddress
import math
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import trio

from tchat.core.group import GroupLimits
from tchat.core.pace import Bucket, Rate
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.net.address import Address

Kind = Literal["messages", "joins", "requests"]

MESSAGES = Rate(20, 50)
JOINS = Rate(0.2, 20)
REQUESTS = Rate(50, 500)
FRAMES = Rate(500, 2000)

_MOST_BUCKETS = 10_000
_PREFIX = {4: 32, 6: 64}  # what one customer has: an IPv4 address, an IPv6 network


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one client may ask for, and how long it may take. Sizes in bytes.

    `keep_files` is for how many ms after it was shared a file is kept; for ever if None.
    `connections` are all there are, `devices` those of one person at a time, `strangers` those
    that have not proved who they are; the rates hold for each
    person, on all devices together: for what goes into logs, for asking to join (or founding),
    and for requests that change no log. At more `frames` than that, whatever is in them, a
    connection is read more slowly.
    """

    file: int = 1 << 30
    files_per_user: int = 10 << 30
    keep_files: int | None = None
    handshake_seconds: float = 10.0
    silence_seconds: float = 60.0
    stall_seconds: float = 60.0
    connections: int = 10_000
    devices: int = 32
    strangers: int = 512
    strangers_per_address: int = 64
    groups_per_user: int = 200
    messages: Rate | None = MESSAGES
    joins: Rate | None = JOINS
    requests: Rate | None = REQUESTS
    frames: Rate | None = FRAMES
    group: GroupLimits = field(default_factory=GroupLimits)

    def without_rates(self) -> Limits:
        """Return the same limits, but for how often something may be done."""
        return replace(self, messages=None, joins=None, requests=None, frames=None)


class Rates:
    """The buckets of everybody who has lately done something."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets: dict[tuple[Kind, str], Bucket] = {}

    def take(self, kind: Kind, person: str, cost: int = 1) -> None:
        """Count something that a person does, or several. Raises `Refused` (rate_limited)."""
        rate: Rate | None = getattr(self._limits, kind)
        if rate is None:
            return
        now = trio.current_time()
        bucket = self._buckets.get((kind, person))
        if bucket is None:
            self._forget_quiet(now)
            bucket = self._buckets[kind, person] = Bucket(rate, now)
        wait = bucket.take(now, cost)
        if wait:
            raise Refused(
                Code.RATE_LIMITED,
                f"That is too fast; go on in {max(wait, 0.1):.1f} s.",
                math.ceil(wait * 1000),
            )

    def _forget_quiet(self, now: float) -> None:
        if len(self._buckets) >= _MOST_BUCKETS:
            self._buckets = {k: b for k, b in self._buckets.items() if not b.is_full(now)}


class Strangers:
    """Counts the connections that have not proved yet who they are."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_place: Counter[str] = Counter()

    @contextmanager
    def one_more(self, place: Address | None) -> Iterator[None]:
        """Count one for the length of the block. Raises `Refused` (busy) if there is no room."""
        key = _network(place.host) if place else ""
        limits = self._limits
        if (
            self._by_place.total() >= limits.strangers
            or self._by_place[key] >= limits.strangers_per_address
        ):
            raise Refused(
                Code.BUSY, "Too many connections are introducing themselves; try again.", 1000
            )
        self._by_place[key] += 1
        try:
            yield
        finally:
            self._by_place[key] -= 1
            if not self._by_place[key]:
                del self._by_place[key]


def _network(host: str) -> str:
    """Return what counts as one address: of IPv6, the network that one customer gets."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(ipaddress.ip_network((address, _PREFIX[address.version]), strict=False))

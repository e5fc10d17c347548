"""How much one may ask of a server. Whoever asks for more is told so, and when to try again.

The limits of a server as options of its command line.
"""

from __future__ import annotations

import argparse
import ipaddress
import math
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import trio

from tchat.core.group.feature import DEFAULT_LIMITS, GroupLimits
from tchat.core.pace import Rate, TokenBucket
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tchat.net.address import Address

    Read = Callable[[str], object]

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
        self._buckets: dict[tuple[Kind, str], TokenBucket] = {}

    def take(self, kind: Kind, person: str, cost: int = 1) -> None:
        """Count something that a person does, or several. Raises `Refused` (rate_limited)."""
        rate: Rate | None = getattr(self._limits, kind)
        if rate is None:
            return
        now = trio.current_time()
        bucket = self._buckets.get((kind, person))
        if bucket is None:
            self._forget_quiet(now)
            bucket = self._buckets[kind, person] = TokenBucket(rate, now)
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


class UnauthenticatedLimiter:
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


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_HOURS = {"h": 1, "d": 24}
_DEFAULT = Limits()


def add_limits(parser: argparse._ArgumentGroup) -> None:
    """Let a server be told how much it allows."""
    for name, read, default, unit, text in _OPTIONS:
        parser.add_argument(
            name, type=read, default=default, metavar=unit, help=f"{text} (default: %(default)s)"
        )


def limits_from(given: argparse.Namespace) -> Limits:
    """Return the limits that the options say."""
    join = given.join_limit
    limits = Limits(
        file=given.max_file,
        files_per_user=given.max_files,
        keep_files=given.keep_files,
        handshake_seconds=given.handshake_time,
        connections=given.max_connections,
        devices=given.max_devices,
        strangers=given.max_strangers,
        strangers_per_address=given.max_strangers_each,
        groups_per_user=given.max_groups,
        messages=given.rate_limit,
        joins=join and Rate(join.per_second / 60, join.burst),
        group=GroupLimits(given.max_members, given.max_requests, given.max_invites),
    )
    return limits if given.rate_limit else limits.without_rates()


def _rate(text: str) -> Rate | None:
    if text == "off":
        return None
    number, _, burst = text.partition("/")
    try:
        rate = Rate(float(number), int(burst or number))
    except ValueError:
        rate = Rate(0, 0)
    if not (0.001 <= rate.per_second <= 1e6 and 1 <= rate.burst <= 1e6):
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate: 20/50, for example, or off")
    return rate


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _size(text: str) -> int:
    number, unit = text[:-1], text[-1:].upper()
    if unit.isdigit():
        number, unit = text, ""
    if not (number.isascii() and number.isdigit()) or unit not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: a number, perhaps with K, M, G")
    return int(number) * _UNITS[unit]


def _duration(text: str) -> int | None:
    """Return a time in ms; None for ever."""
    if text == "forever":
        return None
    number, unit = text[:-1], _HOURS.get(text[-1:])
    if unit is None or not (number.isascii() and number.isdigit() and 0 < int(number) < 100_000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: 90d or 12h, or forever")
    return int(number) * unit * 3600 * 1000


_OPTIONS: tuple[tuple[str, Read, object, str, str], ...] = (
    (
        "--rate-limit",
        _rate,
        f"{MESSAGES.per_second:g}/{MESSAGES.burst}",
        "N/BURST",
        "messages from one person: N a second and BURST at once; 'off' lifts all rate limits",
    ),
    (
        "--join-limit",
        _rate,
        f"{JOINS.per_second * 60:g}/{JOINS.burst}",
        "N/BURST",
        "requests to join, and groups founded, by one person: N a minute and BURST at once",
    ),
    (
        "--max-groups",
        _count,
        _DEFAULT.groups_per_user,
        "N",
        "groups that one person may be in, or ask to join",
    ),
    ("--max-members", _count, DEFAULT_LIMITS.members, "N", "members of one group"),
    (
        "--max-requests",
        _count,
        DEFAULT_LIMITS.requests,
        "N",
        "people who wait for approval in one group",
    ),
    ("--max-invites", _count, DEFAULT_LIMITS.invites, "N", "open invites of one group"),
    ("--max-file", _size, "1G", "SIZE", "largest file, e.g. 500M or 2G"),
    ("--max-files", _size, "10G", "SIZE", "all files of one person together"),
    (
        "--keep-files",
        _duration,
        "forever",
        "TIME",
        "how long files are kept after they were shared: 90d or 12h, for example",
    ),
    (
        "--handshake-time",
        _seconds,
        _DEFAULT.handshake_seconds,
        "SECONDS",
        "how long a connection may take to prove who it is",
    ),
    ("--max-connections", _count, _DEFAULT.connections, "N", "connections of all people"),
    ("--max-devices", _count, _DEFAULT.devices, "N", "connections of one person at a time"),
    (
        "--max-strangers",
        _count,
        _DEFAULT.strangers,
        "N",
        "connections that have not proved yet who they are",
    ),
    (
        "--max-strangers-each",
        _count,
        _DEFAULT.strangers_per_address,
        "N",
        "the same from one address",
    ),
)
"""Each option: its name, how it is read, its default, the word for its value, and what it is."""

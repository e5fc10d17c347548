"""The limits of a server as options of its command line."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tchat.core.group import DEFAULT_LIMITS, GroupLimits
from tchat.core.pace import Rate
from tchat.server.limits import JOINS, MESSAGES, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[str], object]

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

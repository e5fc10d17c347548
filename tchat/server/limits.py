"""Limits of a server: each declared once, with its default, command-line option and help text.

`Limits` is the only place to add or change a limit. The options of `tchat serve`, their `--help`
and the table in the README are generated from the metadata of its fields; a limit without metadata
cannot be set from the command line.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from tchat.core.group.feature import DEFAULT_LIMITS, HIGHEST_LIMITS, GroupLimits
from tchat.core.pace import Rate
from tchat.core.text import size_text
from tchat.server.costs import UNITS_PER_CORE, cost_of_transfer
from tchat.transfer.threads import PIECE_THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIZE_UNITS = {"T": 1 << 40, "G": 1 << 30, "M": 1 << 20, "K": 1 << 10, "": 1}
_HOURS_IN = {"d": 24, "h": 1}
_HOUR_MS = 3600 * 1000


# ------------------------------------------------------------------ value types


@dataclass(frozen=True, slots=True)
class _Kind:
    """A type of value on the command line; `show` is the inverse of `parse`."""

    metavar: str
    parse: Callable[[str], object]
    show: Callable[[Any], str] = str


def _parse_rate(text: str) -> Rate | None:
    if text == "off":
        return None
    number, _, burst = text.partition("/")
    try:
        rate = Rate(float(number), int(burst or number))
    except ValueError:
        rate = Rate(0, 0)
    if not (0.001 <= rate.per_second <= 1e6 and 1 <= rate.burst <= 1e6):
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate; examples: 20/50, off")
    return rate


def _parse_rate_per_minute(text: str) -> Rate | None:
    rate = _parse_rate(text)
    return rate and Rate(rate.per_second / 60, rate.burst)


def _parse_count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _count_up_to(most: int) -> _Kind:
    """Return the type of a count whose value is limited, because clients would not take more."""

    def parse(text: str) -> int:
        count = _parse_count(text)
        if count > most:
            raise argparse.ArgumentTypeError(f"{count} is too high; {most} is the highest limit")
        return count

    return _Kind("N", parse)


def _parse_percent(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 100")
    return int(text)


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return seconds


def parse_size(text: str) -> int:
    """Return a size in bytes: 4096, 500M, 2G (powers of 1024); for argparse."""
    number, unit = text[:-1], text[-1:].upper()
    if unit.isdigit():
        number, unit = text, ""
    if not (number.isascii() and number.isdigit()) or unit not in _SIZE_UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; examples: 4096, 500M, 2G")
    return int(number) * _SIZE_UNITS[unit]


def _show_size(size: int) -> str:
    unit = next(unit for unit, factor in _SIZE_UNITS.items() if size % factor == 0)
    return f"{size // _SIZE_UNITS[unit]}{unit}"


def size_limit_text(size: int) -> str:
    """Return a limit as the operator typed it, with its size in the units of files.

    For example "50M (52.4 MB)": the units of the options are powers of 1024.
    """
    typed = _show_size(size)
    return size_text(size) if typed.isdigit() else f"{typed} ({size_text(size)})"


def _parse_size_or(word: str) -> Callable[[str], int | None]:
    return lambda text: None if text == word else parse_size(text)


def _show_size_or(word: str) -> Callable[[int | None], str]:
    return lambda size: word if size is None else _show_size(size)


def _parse_age(text: str) -> int | None:
    """Return an age in ms; None for "forever"."""
    if text == "forever":
        return None
    number, hours = text[:-1], _HOURS_IN.get(text[-1:])
    if hours is None or not (number.isascii() and number.isdigit() and 0 < int(number) < 100_000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; examples: 90d, 12h, forever")
    return int(number) * hours * _HOUR_MS


def _parse_days(text: str) -> int | None:
    """Return a number of days in ms; None for "forever"."""
    if text != "forever" and not text.endswith("d"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of whole days; examples: 365d, forever"
        )
    return _parse_age(text)


def _show_age(age: int | None) -> str:
    return "forever" if age is None else f"{age // _HOUR_MS}h"


def _show_days(age: int | None) -> str:
    return "forever" if age is None else f"{age // (24 * _HOUR_MS)}d"


_RATE = _Kind("N/BURST", _parse_rate, lambda r: f"{r.per_second:g}/{r.burst}")
_RATE_PER_MINUTE = _Kind(
    "N/BURST", _parse_rate_per_minute, lambda r: f"{r.per_second * 60:g}/{r.burst}"
)
_COUNT = _Kind("N", _parse_count)
_PERCENT = _Kind("PERCENT", _parse_percent)
_ADDRESS_TEXTS = 8  # the texts of one address, in those of one person
_ALL = 100  # percent; as the share of a network, it lifts the limit
_SECONDS = _Kind("SECONDS", _parse_seconds, lambda seconds: f"{seconds:g}")
_SIZE = _Kind("SIZE", parse_size, _show_size)
_TOTAL_SIZE = _Kind("SIZE", _parse_size_or("unlimited"), _show_size_or("unlimited"))
_RESERVE = _Kind("SIZE", _parse_size_or("auto"), _show_size_or("auto"))
_AGE = _Kind("TIME", _parse_age, _show_age)
_DAYS = _Kind("TIME", _parse_days, _show_days)


# ------------------------------------------------------------------ the limits


@dataclass(frozen=True, slots=True)
class _Option:
    """The command-line option of a limit."""

    flag: str
    kind: _Kind
    help: str


def _option(flag: str, kind: _Kind, text: str) -> dict[str, _Option]:
    return {"option": _Option(flag, kind, text)}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits per person, connection and group.

    Sizes are in bytes; `keep_files` and `keep_messages` are in ms.

    Rates apply to each person, on all devices together: `messages` to commands, `texts` to the KiB
    of messages and edits, `joins` to founding groups
    and asking to join. `work` is what all together may cost the server, in the units of
    `costs`; `work_per_person` and `work_per_address` are the shares of each: a tenth and a quarter
    of a processor core. A person's burst is enough for a client that attaches to 200 groups, and an
    address's for an office that reconnects as a whole; the burst of `work` is short, because it is
    how long others may have to wait. If a connection exceeds a rate, the server reads more slowly.

    File transfers have budgets of their own, in the same units: `transfers_work` for all, which
    have one thread less than the machine has cores, `transfers_per_person` and
    `transfers_per_address`. A quarter of a core fills a line of 1 Gbit/s, so that nobody notices
    who sends one file after another; the bursts are worth 2 and 8 GiB.

    `claims` and `logins` apply to each address, and more generously to the networks around it.
    A connection that has not authenticated keeps its slot for `slot_seconds`, even if it ends; see
    `unauthenticated`.
    """

    messages: Rate | None = field(
        default=Rate(20, 50),
        metadata=_option(
            "--rate-limit",
            _RATE,
            "messages from one person: N per second, BURST at once; 'off' lifts all rate limits",
        ),
    )
    texts: Rate | None = field(
        default=Rate(4, 65_536),
        metadata=_option(
            "--text-limit",
            _RATE_PER_MINUTE,
            "KiB of messages and other changes from one person: N per minute, BURST at once;"
            f" from one address, {_ADDRESS_TEXTS} times as much",
        ),
    )
    joins: Rate | None = field(
        default=Rate(0.2, 20),
        metadata=_option(
            "--join-limit",
            _RATE_PER_MINUTE,
            "requests to join, and groups founded, by one person: N per minute, BURST at once",
        ),
    )
    work: Rate | None = field(default=Rate(0.8 * UNITS_PER_CORE, 5_000))
    work_per_person: Rate | None = field(default=Rate(0.1 * UNITS_PER_CORE, 60_000))
    work_per_address: Rate | None = field(default=Rate(0.25 * UNITS_PER_CORE, 300_000))
    transfers_work: Rate | None = field(
        default=Rate(0.8 * UNITS_PER_CORE * PIECE_THREADS, 5 * UNITS_PER_CORE)
    )
    transfers_per_person: Rate | None = field(
        default=Rate(0.25 * UNITS_PER_CORE, int(cost_of_transfer(2 << 30)))
    )
    transfers_per_address: Rate | None = field(
        default=Rate(0.5 * UNITS_PER_CORE, int(cost_of_transfer(8 << 30)))
    )
    groups_per_user: int = field(
        default=200,
        metadata=_option("--max-groups", _COUNT, "groups that one person may be in or ask to join"),
    )
    group_members: int = field(
        default=DEFAULT_LIMITS.members,
        metadata=_option(
            "--max-members",
            _count_up_to(HIGHEST_LIMITS.members),
            f"members of one group, at most {HIGHEST_LIMITS.members}",
        ),
    )
    group_requests: int = field(
        default=DEFAULT_LIMITS.requests,
        metadata=_option(
            "--max-requests",
            _count_up_to(HIGHEST_LIMITS.requests),
            f"people waiting for approval in one group, at most {HIGHEST_LIMITS.requests}",
        ),
    )
    group_invites: int = field(
        default=DEFAULT_LIMITS.invites,
        metadata=_option(
            "--max-invites",
            _count_up_to(HIGHEST_LIMITS.invites),
            f"open invites of one group, at most {HIGHEST_LIMITS.invites}",
        ),
    )
    file: int = field(
        default=1 << 30,
        metadata=_option("--max-file", _SIZE, "size of one file, for example 500M or 2G"),
    )
    files_per_user: int = field(
        default=10 << 30,
        metadata=_option("--max-files", _SIZE, "size of all files of one person together"),
    )
    files_per_group: int = field(
        default=100 << 30,
        metadata=_option("--max-group-files", _SIZE, "size of all files of one group together"),
    )
    files_total: int | None = field(
        default=None,
        metadata=_option(
            "--max-files-total", _TOTAL_SIZE, "size of all files of the whole server together"
        ),
    )
    disk_reserve: int | None = field(
        default=None,
        metadata=_option(
            "--disk-reserve",
            _RESERVE,
            "space on the disk that files leave free for messages; 'auto' is 5 %% of the disk, but"
            " 256M to 8G, and a fifth at most",
        ),
    )
    transfers: int = field(
        default=1000,
        metadata=_option(
            "--max-transfers",
            _COUNT,
            "simultaneous file transfers of the whole server; at the limit, a person or network"
            " with few ends one of those with most",
        ),
    )
    transfer_rate: int = field(
        default=1024,
        metadata=_option(
            "--min-transfer-rate",
            _SIZE,
            "slowest rate of file transfers, in bytes per second over a minute; a slower one ends,"
            " and can be resumed",
        ),
    )
    keep_files: int | None = field(
        default=None,
        metadata=_option(
            "--keep-files",
            _AGE,
            "how long a file is kept after it was last shared, for example 90d or 12h",
        ),
    )
    keep_messages: int | None = field(
        default=None,
        metadata=_option(
            "--keep-messages", _DAYS, "how long messages are kept, in whole days, for example 365d"
        ),
    )
    handshake_seconds: float = field(
        default=10.0,
        metadata=_option(
            "--handshake-time", _SECONDS, "seconds that a connection may take to authenticate"
        ),
    )
    slot_seconds: float = 2.0
    silence_seconds: float = 60.0
    stall_seconds: float = 60.0
    connections: int = field(
        default=10_000,
        metadata=_option(
            "--max-connections", _COUNT, "authenticated connections of the whole server"
        ),
    )
    network_share: int = field(
        default=25,
        metadata=_option(
            "--network-share",
            _PERCENT,
            "connections of one address, in percent of those that are free; 100 is no limit, for a"
            " server that sees all people at one address (then there is none on its work, logins"
            " and messages)",
        ),
    )
    claims: Rate | None = field(
        default=Rate(0.5, 100),
        metadata=_option(
            "--name-limit",
            _RATE_PER_MINUTE,
            "new names claimed from one address: N per minute, BURST at once",
        ),
    )
    logins: Rate | None = field(default=Rate(20, 200))
    devices: int = field(
        default=32,
        metadata=_option("--max-devices", _COUNT, "simultaneous chat connections of one person"),
    )
    unauthenticated: int = field(
        default=512,
        metadata=_option("--max-strangers", _COUNT, "connections that have not authenticated yet"),
    )
    unauthenticated_per_address: int = field(
        default=64,
        metadata=_option(
            "--max-strangers-each", _COUNT, "unauthenticated connections from one address"
        ),
    )

    @property
    def has_one_address(self) -> bool:
        """Whether the server may see all people at one address, which then has no limits."""
        return self.network_share >= _ALL

    @property
    def address_work(self) -> Rate | None:
        """`work_per_address`, where addresses are limited."""
        return None if self.has_one_address else self.work_per_address

    @property
    def for_transfers(self) -> Limits:
        """The same limits, with the work of file transfers as the work."""
        return replace(
            self,
            work=self.transfers_work,
            work_per_person=self.transfers_per_person,
            work_per_address=self.transfers_per_address,
        )

    @property
    def address_logins(self) -> Rate | None:
        """`logins`, where addresses are limited."""
        return None if self.has_one_address else self.logins

    @property
    def address_texts(self) -> Rate | None:
        """What all people at an address may send, in KiB: names cost nothing.

        It is less than a share for each: people hardly ever send as much as they may, together.
        """
        if self.texts is None or self.has_one_address:
            return None
        return Rate(self.texts.per_second * _ADDRESS_TEXTS, self.texts.burst * _ADDRESS_TEXTS)

    @property
    def group(self) -> GroupLimits:
        """The limits that a group's rules enforce."""
        return GroupLimits(self.group_members, self.group_requests, self.group_invites)

    def without_rates(self) -> Limits:
        """Return the same limits without rate limits."""
        return replace(
            self,
            messages=None,
            texts=None,
            joins=None,
            work=None,
            work_per_person=None,
            work_per_address=None,
            transfers_work=None,
            transfers_per_person=None,
            transfers_per_address=None,
            claims=None,
            logins=None,
            slot_seconds=0.0,
        )


# ------------------------------------------------------------------ the command line


def _options() -> Iterator[tuple[str, object, _Option]]:
    """Yield the name, default and option of every limit that the command line sets."""
    for limit in fields(Limits):
        if (option := limit.metadata.get("option")) is not None:
            yield limit.name, limit.default, option


LIMIT_KEYS: dict[str, str] = {
    option.flag.removeprefix("--").replace("-", "_"): f"limit_{name}"
    for name, _, option in _options()
}
"""The names of the parsed options, by the keys of the settings file."""


def parse_limit(key: str, text: str) -> object:
    """Return the value of a limit in the settings file. Raises `argparse.ArgumentTypeError`."""
    kinds = {f"limit_{name}": option.kind for name, _, option in _options()}
    return kinds[LIMIT_KEYS[key]].parse(text)


def add_limits(parser: argparse._ArgumentGroup) -> None:
    """Add an option for each limit."""
    for name, default, option in _options():
        parser.add_argument(
            option.flag,
            dest=f"limit_{name}",
            type=option.kind.parse,
            default=option.kind.show(default),
            metavar=option.kind.metavar,
            help=f"{option.help} (default: %(default)s)",
        )


def limits_from(given: argparse.Namespace) -> Limits:
    """Return the limits in parsed options."""
    values: dict[str, Any] = {name: getattr(given, f"limit_{name}") for name, _, _ in _options()}
    limits = Limits(**values)
    return limits if limits.messages else limits.without_rates()

"""Markdown table of the results of `tests.bench.speed`, for the README."""

from __future__ import annotations

from collections.abc import Callable

Figures = dict[str, dict[str, float]]
Cell = Callable[[dict[str, float]], str]

_COLUMNS = ("tchat", "tchat-tls", "ngircd", "bare")
_FAN_OUTS = {
    "fanout-100": "a group of 100, 8 senders: deliveries/s",
    "fanout-1000": "a group of 1,000, 8 senders: deliveries/s",
    "fanout-10": "a group of 10, 4 senders: deliveries/s",
    "fanout-200x10": "200 groups of 10, one sender each: deliveries/s",
}


def table(figures: Figures) -> str:
    """Return the table; a cell without a measurement is empty."""
    rows: list[tuple[str, str, Cell]] = [
        (title, name, lambda found: _many(found["deliveries"])) for name, title in _FAN_OUTS.items()
    ]
    rows += [
        (
            "50 messages/s to 100 members: latency, median and 99 %, ms",
            "pace",
            lambda found: f"{found['p50']:.1f}, {found['p99']:.1f}",
        ),
        ("the same: share of a processor", "pace", lambda found: f"{found['cpu']:.1%}"),
        (
            "100 clients, each waiting for its answer: posts/s",
            "acks",
            lambda found: _many(found["acks"]),
        ),
        ("an idle connection of 1,000, KiB of memory", "idle", _kib("1000")),
        ("an idle connection of 10,000, KiB of memory", "idle", _kib("10000")),
        ("the same, of a member of a group of 100", "idle", _kib("in a group")),
        (
            "a member who was away for 1,000,000 events: events/s",
            "catch-up",
            lambda found: _many(found["events"]),
        ),
    ]
    lines = ["| | tchat | over TLS | ngircd | bare |", "|---|---|---|---|---|"]
    lines += [_row(title, name, cell, figures) for title, name, cell in rows]
    return "\n".join(lines + _starting(figures["start tchat"]))


def _row(title: str, name: str, cell: Cell, figures: Figures) -> str:
    cells = [cell(found) if (found := figures.get(f"{name} {kind}")) else "" for kind in _COLUMNS]
    return f"| {title} | {' | '.join(cells)} |"


def _starting(found: dict[str, float]) -> list[str]:
    start, imports = found["start_ms"], found["import_ms"]
    short, long = found["short-kept_ms"], found["long-kept_ms"]
    first = "start with 1,000,000 events in 10,000 groups (bare: the imports alone), ms"
    second = "take up a group of 100, and of 100,000 events, ms"
    return [
        f"| {first} | {start:.0f} | | | {imports:.0f} |",
        f"| {second} | {short:.1f}, {long:.1f} | | | |",
    ]


def _kib(number: str) -> Cell:
    return lambda found: f"{found[number]:.1f}" if number in found else ""


def _many(value: float) -> str:
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:,.0f} k"

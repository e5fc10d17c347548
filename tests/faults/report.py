"""Report of the rows: lines and a table on the screen, `faults.json`, and what documents quote."""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from tests.faults.harness import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

WRITTEN = Path(__file__).with_name("faults.json")
"""The outcomes of the last run with `--write`."""

_WIDTH = 100
_ON_ITS_OWN = "run on its own"


@dataclass(frozen=True, slots=True)
class Report:
    """The outcomes of a run, and when and where it was."""

    minutes: float
    date: str
    machine: str
    rows: list[Outcome]


def summary(outcome: Outcome) -> str:
    """Return what a row did, in one line."""
    if outcome.skipped:
        return f"not run: {outcome.skipped}"
    return f"{outcome.seconds:.0f} s: {done(outcome)}"


def done(outcome: Outcome) -> str:
    """Return what a row counted, and its notes."""
    counts = ", ".join(f"{number:,} {what}" for what, number in outcome.counts.items())
    return "; ".join([counts, *outcome.notes])


def failure(outcome: Outcome) -> str:
    """Return what a row found, and how to repeat it."""
    lines = [f"{outcome.row}: FAILED; directory {outcome.place}"]
    lines += [f"    {problem}" for problem in outcome.problems]
    return "\n".join([*lines, f"    again: {outcome.again}"])


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the report as a Markdown table."""
    lines = [
        "",
        "| row | seconds | faults and operations | lost | doubled | reordered | differing | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        if one.skipped:
            lines.append(f"| {one.row} | | not run: {one.skipped} | | | | | |")
            continue
        wrong = f"{one.lost} | {one.doubled} | {one.reordered} | {one.differing}"
        held = "held" if one.held else "FAILED"
        lines.append(f"| {one.row} | {one.seconds:.0f} | {done(one)} | {wrong} | {held} |")
    return "\n".join(lines)


def write(outcomes: Sequence[Outcome], minutes: float, target: Path = WRITTEN) -> None:
    """Write the outcomes; they name no directory of this machine."""
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    rows = [_without_place(outcome) for outcome in outcomes]
    report = Report(minutes, time.strftime("%Y-%m-%d", time.gmtime()), machine, rows)
    target.write_text(json.dumps(asdict(report), indent=1) + "\n")


def renew(outcomes: Sequence[Outcome], minutes: float, target: Path = WRITTEN) -> None:
    """Replace the outcomes of some rows by those of a later run, and say so."""
    report = read(target)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    note = f"{_ON_ITS_OWN}, {minutes:g} minutes, {today}"
    renewed = {one.row: replace(one, notes=[*one.notes, note]) for one in outcomes}
    rows = [_without_place(renewed.get(row.row, row)) for row in report.rows]
    target.write_text(json.dumps(asdict(replace(report, rows=rows)), indent=1) + "\n")


def _without_place(outcome: Outcome) -> Outcome:
    problems = outcome.problems
    if outcome.place:
        problems = [problem.replace(outcome.place, "DIRECTORY") for problem in problems]
    return replace(outcome, place="", problems=problems)


def read(source: Path = WRITTEN) -> Report:
    """Return what was written."""
    found = json.loads(source.read_text())
    return Report(**{**found, "rows": [Outcome(**row) for row in found["rows"]]})


_QUOTED = {
    "kills of the server": [("server-kills", "kills")],
    "of clients": [
        ("client-kills", f"{kind} killed") for kind in ("say", "plain mode", "bot", "full screen")
    ],
    "power cuts": [("power-cuts", "cuts")],
    "connection resets": [("chaos", "resets")],
}
"""The faults that the README quotes: rows, and what they count."""


def figures(report: Report) -> str:
    """Return a few lines for the README: the faults, the operations, and what went wrong."""
    counts = {row.row: Counter(row.counts) for row in report.rows}
    faults = ", ".join(
        f"{sum(counts[row][what] for row, what in places if row in counts):,} {name}"
        for name, places in _QUOTED.items()
    )
    acknowledged = sum(count["acknowledged"] for count in counts.values())
    wrong = ", ".join(
        f"{sum(getattr(row, name) for row in report.rows)} {name}"
        for name in ("lost", "doubled", "reordered")
    )
    failed = [row.row for row in report.rows if not row.held]
    others = f" Failed: {', '.join(failed)}." if failed else ""
    again = sum(any(note.startswith(_ON_ITS_OWN) for note in row.notes) for row in report.rows)
    later = f" ({again} rows run again after mends)" if again else ""
    text = (
        f"`python -m tests.faults --minutes {report.minutes:g}` ({report.date}): {faults}; of"
        f" {acknowledged:,} acknowledged operations {wrong}{later}.{others}"
        " [All faults](tests/faults)"
    )
    return "\n".join(wrap(text, _WIDTH, break_on_hyphens=False, break_long_words=False))


def document(report: Report) -> str:
    """Return the whole table for the document, and what it was measured on."""
    about = (
        f"`python -m tests.faults --minutes {report.minutes:g} --write`, {report.date},"
        f" {report.machine}:"
    )
    return f"{about}\n{table(report.rows)}"

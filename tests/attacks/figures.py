"""What the attacks achieved in the last run that was recorded, and its table for SECURITY.md.

`python -m tests.attacks --write` records the results of the attacks that it runs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

WRITTEN = Path(__file__).with_name("figures.json")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an attack on a server (`of` is "server"), or on a client ("client", "bot").

    `p99` are the delays of bystanders before, while and after, in ms. `memory` is what a connection
    of the attacker, or the whole attack on a client, takes, in KiB; `cpu` the share of a processor
    that is used meanwhile. `late` are the visitors who were not let in within two seconds, of
    `visitors`. `missed` are the checks that failed.
    """

    of: str
    title: str
    p99: tuple[float, float, float]
    memory: float
    cpu: float
    stopped_by: str
    visitors: int = 0
    late: int = 0
    missed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Printed:
    """What an attack printed that measures by itself, and whether it held."""

    lines: list[str]
    held: bool


Found = Outcome | Printed


def write(found: dict[str, Found]) -> None:
    """Record the results of some attacks; those of the others stay."""
    written = json.loads(WRITTEN.read_text()) if WRITTEN.exists() else {}
    written |= {name: asdict(one) for name, one in found.items()}
    WRITTEN.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")


def read() -> dict[str, Found]:
    """Return the recorded results."""
    written = json.loads(WRITTEN.read_text())
    return {
        name: Printed(**one) if "lines" in one else Outcome(**one) for name, one in written.items()
    }


def table(found: dict[str, Found]) -> str:
    """Return the results in Markdown: a table, and below it what the other attacks printed."""
    lines = [
        "| attack | measured | p99 before, while, after (ms) | KiB | CPU | what stops it |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in sorted(found.items(), key=lambda item: getattr(item[1], "of", "")):
        if isinstance(one, Outcome):
            delays = ", ".join(f"{delay:.1f}" for delay in one.p99)
            lines.append(
                f"| `{name}`: {one.title} | {_measured(one)} | {delays} | {one.memory:.0f} |"
                f" {one.cpu:.0%} | {one.stopped_by} |"
            )
    for name, one in sorted(found.items()):
        if isinstance(one, Printed):
            lines += ["", f"`python -m tests.attacks {name}`:", "", "```", *one.lines, "```"]
    return "\n".join(lines)


def _measured(one: Outcome) -> str:
    if one.of != "server":
        return one.of
    in_time = one.visitors - one.late
    return f"others' posts; {in_time} of {one.visitors} visitors in within 2 s"

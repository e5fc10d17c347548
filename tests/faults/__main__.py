"""Run the rows and print the table: `python -m tests.faults [--minutes N] [--only NAME]`.

The exit status is 1 if an operation was lost, doubled or reordered, or a row found anything else.
"""

from __future__ import annotations

import argparse
import pkgutil
import secrets
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import tests.faults
from tests.bench.report import say
from tests.faults.harness import run_row
from tests.faults.report import WRITTEN, failure, renew, summary, table, write

if TYPE_CHECKING:
    from tests.faults.harness import Outcome, Row

_DEFAULT_MINUTES = 2.0


def all_rows() -> dict[str, Row]:
    """Return the rows of all modules (their `ROWS`), by name."""
    names = [module.name for module in pkgutil.iter_modules(tests.faults.__path__)]
    found = [
        import_module(f"{tests.faults.__name__}.{name}")
        for name in names
        if name != "__main__" and not name.startswith("test_")
    ]
    return {row.name: row for module in found for row in getattr(module, "ROWS", ())}


def main() -> int:
    """Run the chosen rows, or all; return the exit status."""
    rows = all_rows()
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description="Inject faults, and account for all operations."
    )
    parser.add_argument("--minutes", type=float, default=_DEFAULT_MINUTES, metavar="N")
    parser.add_argument("--only", action="append", metavar="NAME", help="run this row; repeatable")
    parser.add_argument("--seed", type=int, metavar="S", help="of the first episode of each row")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument(
        "--write", action="store_true", help=f"write {WRITTEN.name}, or the rows of --only"
    )
    given = parser.parse_args()
    if given.list:
        for row in rows.values():
            say(f"{row.name:16} {row.title}")
        return 0
    names = given.only or [*rows]
    if unknown := set(names) - set(rows):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; --list lists them")
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    outcomes = run_rows([rows[name] for name in names], seed, given.minutes * 60)
    say(table(outcomes))
    for outcome in outcomes:
        if not outcome.held:
            say(failure(outcome))
    if given.write:
        (renew if given.only else write)(outcomes, given.minutes)
    return 0 if all(outcome.held for outcome in outcomes) else 1


def run_rows(rows: list[Row], seed: int, seconds: float) -> list[Outcome]:
    """Run rows one after the other; share the time by their weights.

    A row takes longer than its share until it has ended what it began; the others lose nothing.
    """
    outcomes = []
    weights = sum(row.weight for row in rows)
    for row in rows:
        share = seconds * row.weight / weights
        say(f"{row.name}: {row.title}; seed {seed}, {share:.0f} s")
        outcome = run_row(row, seed, share)
        outcomes.append(outcome)
        say(f"    {summary(outcome)}")
    return outcomes


if __name__ == "__main__":
    sys.exit(main())

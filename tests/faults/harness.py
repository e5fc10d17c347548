"""Rows of the report: what a row is, what it counts, and when it has to end."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cbor2
import trio

from tchat.core.protocol.framing import split_frames
from tchat.store.open import open_store
from tests.faults.ledger import Findings
from tests.faults.servers import PATIENCE, TimedOut, waiting_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.members import Crew

_MOST_PROBLEMS = 8  # that are printed; and after so many failed episodes, a row ends
_GRACE = 5 * PATIENCE  # for what a row has begun before its time was over


@dataclass(slots=True)
class Trial:
    """One run of a row: its seed, its time, its directory, and what it has counted.

    Each *episode* has a seed of its own: `seed`, `seed` + 1, and so on. So the first episode of a
    run with the seed of a failed one is that one again.
    """

    name: str
    seed: int
    seconds: float
    place: Path
    counts: Counter[str] = field(default_factory=Counter)
    findings: Findings = field(default_factory=Findings)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    episodes: int = 0
    started: float = field(default_factory=time.monotonic)
    failed_seeds: list[int] = field(default_factory=list)

    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() - self.started >= self.seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def episode(self) -> Episode:
        """Begin an episode: a seed, and a new directory."""
        seed = self.seed + self.episodes
        self.episodes += 1
        place = self.place / str(seed)
        place.mkdir(parents=True)
        return Episode(self, seed, place, random.Random(seed))

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return self.findings.is_clean and not self.problems


@dataclass(slots=True)
class Episode:
    """A part of a trial that is checked by itself. Its directory is kept only if it failed."""

    trial: Trial
    seed: int
    place: Path
    random: random.Random

    def seconds(self, longest: float) -> float:
        """Return how long this episode may go on, at most `longest`."""
        return min(longest, max(3.0, self.trial.seconds - self.trial.elapsed))

    def problem(self, sentence: str) -> None:
        """Note that something is wrong, other than with the ledger."""
        if len(self.trial.problems) < _MOST_PROBLEMS:
            self.trial.problems.append(f"seed {self.seed}: {sentence}")

    def fail(self, error: Exception) -> None:
        """Note an error that ended this episode; the others go on."""
        (self.place / "traceback.txt").write_text("".join(traceback.format_exception(error)))
        self.problem("; ".join(reasons_in(error)))
        self.trial.failed_seeds.append(self.seed)

    def end(self, found: Findings) -> None:
        """Add what was found; remove the directory if that is nothing."""
        self.trial.findings.add(found)
        bad = any(one.startswith(f"seed {self.seed}:") for one in self.trial.problems)
        if bad or not found.is_clean:
            self.trial.failed_seeds.append(self.seed)
        else:
            shutil.rmtree(self.place, ignore_errors=True)


async def run_episodes(
    trial: Trial, one: Callable[[Episode], Awaitable[None]], lanes: int = 1
) -> None:
    """Run episodes until the time is over, in some lanes side by side.

    An episode that fails with an error ends neither the others nor its lane. Raises `Missing`.
    """

    async def lane() -> None:
        while not trial.is_over() and len(trial.failed_seeds) < _MOST_PROBLEMS:
            episode = trial.episode()
            try:
                await one(episode)
            except Exception as error:
                if _missing_in(error):
                    raise
                episode.fail(error)

    async with trio.open_nursery() as nursery:
        for _ in range(lanes):
            nursery.start_soon(lane)


class Missing(Exception):
    """The machine, or the product, does not have what a row needs; the sentence says what."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the report: a name, one line about it, its coroutine, and its share of the time."""

    name: str
    title: str
    run: Callable[[Trial], Awaitable[None]]
    weight: float = 1.0


@dataclass(slots=True)
class Outcome:
    """What came of a row."""

    row: str
    seed: int
    seconds: float
    counts: dict[str, int]
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    differing: int = 0
    skipped: str = ""
    problems: list[str] = field(default_factory=list)
    place: str = ""
    failed_seeds: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether the row found nothing."""
        return not (self.lost or self.doubled or self.reordered or self.differing or self.problems)

    @property
    def again(self) -> str:
        """The command that repeats what failed first."""
        seed = self.failed_seeds[0] if self.failed_seeds else self.seed
        return f"python -m tests.faults --only {self.row} --seed {seed}"


async def _run(row: Row, trial: Trial) -> None:
    with waiting_for("the end of the row", trial.seconds + _GRACE):
        await row.run(trial)


def reasons_in(error: BaseException) -> list[str]:
    """Return what went wrong, as a sentence for each error of a group."""
    if isinstance(error, BaseExceptionGroup):
        found = [reason for one in error.exceptions for reason in reasons_in(one)]
        return list(dict.fromkeys(found))
    return [str(error) if isinstance(error, TimedOut) else repr(error)]


def run_row(row: Row, seed: int, seconds: float) -> Outcome:
    """Run a row; its directory stays only if something was found."""
    place = Path(tempfile.mkdtemp(prefix=f"tchat-faults-{row.name}-"))
    trial = Trial(row.name, seed, seconds, place)
    skipped = ""
    try:
        trio.run(_run, row, trial)
    except Missing as missing:
        skipped = str(missing)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        if missing_in := _missing_in(error):
            skipped = missing_in
        else:
            seed = trial.seed + max(0, trial.episodes - 1)
            trial.problems.append(f"seed {seed}: {'; '.join(reasons_in(error))}")
            (place / "traceback.txt").write_text(traceback.format_exc())
            trial.failed_seeds.append(seed)
    found = trial.findings
    outcome = Outcome(
        row.name,
        seed,
        round(trial.elapsed, 1),
        dict(trial.counts),
        found.lost,
        found.doubled,
        found.reordered,
        found.differing + found.invented,
        skipped,
        trial.problems + found.examples,
        str(place),
        trial.failed_seeds,
        trial.notes,
    )
    if outcome.held:
        shutil.rmtree(place, ignore_errors=True)
        outcome.place = ""
    return outcome


def _missing_in(error: BaseException) -> str:
    """Return what is missing, if that is all that a group of exceptions says."""
    if isinstance(error, BaseExceptionGroup):
        found = [_missing_in(one) for one in error.exceptions]
        return found[0] if all(found) else ""
    return str(error) if isinstance(error, Missing) else ""


async def stored_log(data: Path, group: str) -> dict[int, bytes]:
    """Return a group's log on the disk, the bodies by seq; no server may be running."""
    log: dict[int, bytes] = {}
    async with open_store(data) as store:
        after = 0
        while (page := await store.read(group, after)) is not None:
            for body in split_frames(page.frames):
                seq = cbor2.loads(body)["seq"]
                if seq in log:
                    raise AssertionError(f"event {seq} of {group} is in the log twice")
                log[seq] = bytes(body)
            after = page.last
    return log


async def settle(episode: Episode, crew: Crew, data: Path) -> None:
    """Compare a crew's ledger with the log on the disk, and end the episode."""
    found = crew.ledger.check(crew.group, await stored_log(data, crew.group))
    count(episode.trial, crew)
    episode.end(found)


def count(trial: Trial, crew: Crew) -> None:
    """Add the operations of a crew to the counts of a trial."""
    fates = crew.ledger.fates()
    trial.counts["operations"] += len(crew.ledger.operations)
    for fate in ("acknowledged", "refused", "unknown"):
        trial.counts[fate] += fates[fate]
    trial.counts["connections"] += crew.connections

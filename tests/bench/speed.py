"""Server benchmark: `python -m tests.bench.speed`, about 15 minutes.

Measures fan-out throughput, delivery latency, acknowledged posts, memory of idle connections,
catch-up and startup. Each figure is the median of several runs. The same runs also measure, in
turn, a bare server that does no work for the same load (see `bare`), which is the upper bound of
this machine, and ngircd if it is installed. tchat commits every message to disk (fsync) before it
is delivered; the others store nothing. Rate limits are off in all of them.

The results are compared with `speed.json`: not the figures, which depend on the machine, but their
ratios to the bare server. A ratio below half of the recorded one is reported, with exit status 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tchat.core.group.feature import Event
from tchat.core.group.features import encode_event
from tchat.core.group.log_digest import UNKNOWN
from tchat.core.group.membership import Created
from tchat.core.group.messages import Posted
from tchat.store.base import SideEffects
from tchat.store.sqlite.log import add_segment
from tchat.store.sqlite.store import SqliteStore, open_sqlite
from tests.bench import startup
from tests.bench.clients import TEXT
from tests.bench.load_generator import Spec
from tests.bench.report import say
from tests.bench.servers import Running, has_ngircd, running

if TYPE_CHECKING:
    import sqlite3

Figures = dict[str, dict[str, float]]

WRITTEN = Path(__file__).with_name("speed.json")
RUNS = 5
EVENTS = 1_000_000
_AT = 1_800_000_000_000
_KIB = 1024
_WORSE = 2.0


@dataclass(frozen=True, slots=True)
class Measure:
    """A load and the servers that get it; `figure` names the result to compare."""

    load: dict[str, int | float | str]
    figure: str
    kinds: tuple[str, ...] = ("tchat", "bare", "ngircd")
    bare: str = "fanout"
    less_is_better: bool = False


def _fanout(groups: int, members: int, senders: int) -> dict[str, int | float | str]:
    return {"load": "fanout", "groups": groups, "members": members, "senders": senders}


MEASURES = {
    "fanout-100": Measure(
        _fanout(1, 100, 8), "deliveries", ("tchat", "tchat-tls", "bare", "ngircd")
    ),
    "fanout-1000": Measure(_fanout(1, 1000, 8), "deliveries"),
    "fanout-10": Measure(_fanout(1, 10, 4), "deliveries"),
    "fanout-200x10": Measure(_fanout(200, 10, 1), "deliveries"),
    "pace": Measure({"load": "pace", "senders": 1, "seconds": 5.0}, "p50", less_is_better=True),
    "acks": Measure({"load": "acks", "senders": 100}, "acks", ("tchat", "bare"), bare="acks"),
}
"""All loads by name; `speed_table` has their titles."""


# ------------------------------------------------------------------ under load


def measure(asked: Measure, kind: str) -> dict[str, float]:
    """Start a server, run the load against it, and return the results."""
    size = int(asked.load.get("members", 100))
    with running(kind, bare=(asked.bare, size)) as server:
        spec = Spec(kind, server.port, **asked.load)  # type: ignore[arg-type]  # keys are fields
        return generate(server, spec)


def generate(server: Running, spec: Spec) -> dict[str, float]:
    """Run the load generator; return its results and the server's CPU usage (1 = one core)."""
    with _generator(spec) as process:
        assert process.stdout is not None
        began = ended = 0.0
        for line in process.stdout:
            if line == "begin\n":
                began = server.cpu
            elif line == "end\n":
                ended = server.cpu
        found: dict[str, float] = json.loads(line)
    return {**found, "cpu": (ended - began) / spec.seconds}


def _generator(spec: Spec) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.load_generator", spec.to_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def measure_loads(runs: int, names: list[str]) -> Figures:
    """Measure the servers in turn; return the medians by load and kind of server."""
    figures: Figures = {}
    for name in names:
        asked = MEASURES[name]
        kinds = [kind for kind in asked.kinds if kind != "ngircd" or has_ngircd()]
        found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for _ in range(runs):
            for kind in kinds:
                found[kind].append(measure(asked, kind))
        for kind, results in found.items():
            medians = {what: statistics.median(r[what] for r in results) for what in results[0]}
            figures[f"{name} {kind}"] = medians
            say(f"{name:14} {kind:10} {_rounded(medians)}")
    return figures


def _rounded(found: dict[str, float]) -> str:
    return "  ".join(f"{what} {value:,.4g}" for what, value in found.items())


# ------------------------------------------------------------------ at rest


def measure_idle(numbers: list[int]) -> Figures:
    """Return the KiB of server memory per idle connection."""
    figures: Figures = {}
    for kind in ("bare", "tchat", "tchat-tls"):
        found = {f"{number}": _memory(kind, number, enter=False) for number in numbers}
        if kind != "bare":
            found["in a group"] = _memory(kind, numbers[0], enter=True)
        figures[f"idle {kind}"] = found
        say(f"idle           {kind:10} {_rounded(found)}")
    return figures


def _memory(kind: str, number: int, *, enter: bool) -> float:
    with running(kind, bare=("idle", 0)) as server:
        before = 0
        # The first 100 connections pay for what all share, and are not counted.
        for groups in (1, number // 100):
            spec = Spec(kind, server.port, "idle", groups=groups, senders=0, enter=enter)
            with _generator(spec) as process:
                assert process.stdout is not None
                process.stdout.readline()
                taken = server.memory - before
                process.communicate("go\n")
            before = server.memory
    return taken / number / _KIB


# ------------------------------------------------------------------ catching up and starting


async def write_log(data: Path, events: int) -> None:
    """Write the log of one group with one event per segment, as in a quiet group."""
    created = Event("g0", 1, _AT, "m0", bytes(8), 1, Created())
    async with open_sqlite(data) as store:
        effects = SideEffects({"m0": "member"}, display_name="g0")
        await store.append("g0", 0, 1, encode_event(created), effects)
        await _write_segments(store, events)


async def _write_segments(store: SqliteStore, events: int) -> None:
    def add(connection: sqlite3.Connection) -> None:
        for seq in range(2, events + 2):
            event = Event("g0", seq, _AT, "m0", bytes(8), seq, Posted(TEXT))
            add_segment(connection, 1, seq, seq, encode_event(event), UNKNOWN)

    await store.database.write(add)
    last = "UPDATE groups SET last = ?"
    await store.database.write(lambda connection: connection.execute(last, (events + 1,)).rowcount)


def measure_catching_up(runs: int, events: int) -> Figures:
    """Return the events of a long log that one member receives per second."""
    found: dict[str, list[dict[str, float]]] = {"tchat": [], "bare": []}
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "data"
        trio.run(write_log, data, events)
        with running("tchat", data) as server:
            _catch_up(
                "tchat", server, events
            )  # warm up: leaves a snapshot, and the file in the page cache
        for _ in range(runs):
            with running("tchat", data) as server:
                found["tchat"].append(_catch_up("tchat", server, events))
            with running("bare", bare=("pour", events)) as server:
                found["bare"].append(_catch_up("bare", server, events))
    figures: Figures = {}
    for kind, results in found.items():
        figures[f"catch-up {kind}"] = {"events": statistics.median(r["events"] for r in results)}
        say(f"catch-up       {kind:10} {_rounded(figures[f'catch-up {kind}'])}")
    return figures


def _catch_up(kind: str, server: Running, events: int) -> dict[str, float]:
    return generate(server, Spec(kind, server.port, "catchup", window=events))


def measure_start(runs: int) -> Figures:
    """Return how long a server with long logs takes to start, and to load a group, in ms."""
    found = startup.measure(runs=runs)
    say(f"start          tchat      {_rounded(found)}")
    return {"start tchat": found}


# ------------------------------------------------------------------ comparison with speed.json


def standings(figures: Figures) -> dict[str, float]:
    """Return the ratio of each figure to the bare server's in the same run; more is better."""
    found: dict[str, float] = {}
    for name, asked in MEASURES.items():
        for kind in ("tchat", "tchat-tls"):
            ours, bound = figures.get(f"{name} {kind}"), figures.get(f"{name} bare")
            if ours and bound:
                ratio = ours[asked.figure] / bound[asked.figure]
                found[f"{name} {kind}"] = 1 / ratio if asked.less_is_better else ratio
    if "catch-up tchat" in figures:
        found["catch-up"] = figures["catch-up tchat"]["events"] / figures["catch-up bare"]["events"]
    for kind in ("tchat", "tchat-tls"):
        if f"idle {kind}" in figures:
            number = next(iter(figures["idle bare"]))
            found[f"idle {kind}"] = figures["idle bare"][number] / figures[f"idle {kind}"][number]
    if "start tchat" in figures:
        start = figures["start tchat"]
        found["start"] = start["import_ms"] / start["start_ms"]
    return found


def compare(figures: Figures, written: Figures) -> list[str]:
    """Return a sentence for each ratio that is less than half of the recorded one."""
    before = standings(written)
    return [
        f"{name}: {now:.3f} of the bare server, {before[name]:.3f} recorded"
        for name, now in standings(figures).items()
        if name in before and now * _WORSE < before[name]
    ]


def main() -> None:
    """Measure as the command line says; exit with 1 if a ratio has halved."""
    parser = argparse.ArgumentParser(description="Measure the server beside a bare one and ngircd.")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"runs of each load ({RUNS})")
    parser.add_argument("--only", help="one of: " + ", ".join([*MEASURES, *_OTHERS]))
    parser.add_argument(
        "--write", action="store_true", help=f"record the results in {WRITTEN.name}"
    )
    given = parser.parse_args()
    if not has_ngircd():
        say("ngircd is not installed and will not be measured")
    figures = measure_all(given.runs, [given.only] if given.only else [*MEASURES, *_OTHERS])
    written: Figures = json.loads(WRITTEN.read_text()) if WRITTEN.exists() else {}
    worse = compare(figures, written)
    for sentence in worse:
        say("WORSE", sentence)
    if given.write:
        WRITTEN.write_text(json.dumps(written | figures, indent=1, sort_keys=True) + "\n")
    sys.exit(bool(worse))


_OTHERS = {
    "idle": lambda _: measure_idle([1000, 10_000]),
    "catch-up": lambda runs: measure_catching_up(runs, EVENTS),
    "start": measure_start,
}


def measure_all(runs: int, names: list[str]) -> Figures:
    """Run the measures with these names; return the figures."""
    figures = measure_loads(runs, [name for name in names if name in MEASURES])
    for name, measure_other in _OTHERS.items():
        if name in names:
            figures |= measure_other(runs)
    return figures


if __name__ == "__main__":
    main()

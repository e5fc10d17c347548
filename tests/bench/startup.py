"""Startup benchmark: a server with a million events: `python -m tests.bench.startup`.

The data directory is that of a server after a graceful shutdown: 10,000 groups of 100 events, one
commit per event as in quiet groups, and a snapshot of each group at its last event. Beside them
are the groups that are measured, of 100 and of 100,000 events. Of each size, one has its snapshot
deleted before each start, as after an upgrade to other rules, so that its whole log has to be
folded. The server is started several times, with its files in the page cache; each time a member
subscribes to each of these groups, once while it is not loaded, and once more when it is.

First the commands that scripts run are measured, from the start of the process to its end;
`--commands` measures nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tchat.core.group.feature import Event
from tchat.core.group.features import encode_event
from tchat.core.group.log_digest import UNKNOWN
from tchat.core.group.membership import Approved, Created, Requested
from tchat.core.group.messages import Edited, Posted
from tchat.core.group.rules import apply
from tchat.core.group.snapshots import MADE_WITH, freeze_whole
from tchat.core.group.state import Group
from tchat.core.protocol.frames import Attach, Attached, decode
from tchat.core.protocol.framing import FrameBuffer
from tchat.core.vocabulary import TO_CLIENT
from tchat.net.address import Address
from tchat.server.groups.side_effects import side_effects_of
from tchat.store.base import StateSnapshot
from tchat.store.sqlite.log import add_segment, find_group
from tchat.store.sqlite.store import SqliteStore, open_sqlite
from tests.bench.report import say
from tests.helpers import raw_client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.core.group.feature import Body

GROUPS = 10_000
SHORT = 100
LONG = 100_000
RUNS = 5

_IMPORTS = "import tchat.cli, tchat.server.app"
_RECENT = 200
_AT = 1_800_000_000_000
_TEXT = "has anybody seen the key of rack seven, the one with the blue label on it?"
_MIB = 1 << 20
_AT_ONCE = 1000
_INPUT = 64 * 1024
_COMMANDS = (
    ("help", "tchat --help", 150),
    ("say", "tchat say, a line", 400),
    ("say_64", "tchat say, 64 KiB of input", 500),
)

FIRST = "first"
"""The group that is subscribed to first, when the server has served nobody yet."""

VISITED = ("short-kept", "short-folded", "long-kept", "long-folded")
"""The other measured groups: short or long log, loaded from a snapshot or folded."""


# ------------------------------------------------------------------ the data directory


def story(people: int, length: int) -> Iterator[tuple[int, Body]]:
    """Yield the event bodies of a group of `length` events, each with its author's number."""
    yield 0, Created(bytes(32))
    for person in range(1, people):
        yield person, Requested(person.to_bytes(32, "big"))
        yield 0, Approved(f"m{person}")
    for seq in range(2 * people, length + 1):
        if seq % 20 == 0 and seq > 2 * people:  # an edit of the message before
            yield (seq - 1) % people, Edited(seq - 1, _TEXT)
        else:
            yield seq % people, Posted(_TEXT)


def events_of(name: str, people: int, length: int, founder: str) -> Iterator[Event]:
    """Yield the events of a group's log."""
    for seq, (person, body) in enumerate(story(people, length), start=1):
        actor = f"m{person}" if person else founder
        yield Event(name, seq, _AT + seq, actor, person.to_bytes(8, "big"), seq, body)


async def write_group(
    store: SqliteStore, name: str, people: int, length: int, founder: str = "m0"
) -> None:
    """Write a group's log, one event per segment, and the snapshot of its last event."""
    group, founded = Group(), Group()
    segments: list[tuple[int, bytes]] = []
    events: list[Event] = []
    for event in events_of(name, people, length, founder):
        apply(group, event)
        segments.append((event.seq, encode_event(event)))
        if event.seq < 2 * people:
            apply(founded, event)
            events.append(event)
    effects = side_effects_of(Group(), founded, events)
    await store.append(name, 0, 1, segments[0][1], effects)

    def work(connection: sqlite3.Connection) -> None:
        number, _ = find_group(connection, name)
        assert number is not None
        for seq, frame in segments[1:]:
            add_segment(connection, number, seq, seq, frame, UNKNOWN)
        connection.execute("UPDATE groups SET last = ? WHERE name = ?", (length, name))

    await store.database.write(work)
    await store.save_snapshot(name, StateSnapshot(group.seq, MADE_WITH, freeze_whole(group)))


async def write_all(data: Path, groups: int, long: int) -> None:
    """Write the whole data directory."""
    async with open_sqlite(data) as store:
        for start in range(0, groups, _AT_ONCE):
            async with trio.open_nursery() as nursery:
                for number in range(start, min(start + _AT_ONCE, groups)):
                    nursery.start_soon(write_group, store, f"g{number}", 5, SHORT)
        for name in (FIRST, *VISITED):
            people, length = (50, long) if name.startswith("long") else (5, SHORT)
            await write_group(store, name, people, length, "alice")


def forget_states(data: Path) -> None:
    """Delete the snapshots of the groups whose logs are to be folded."""
    names = [(name,) for name in VISITED if name.endswith("folded")]
    with closing(sqlite3.connect(data / "tchat.db")) as connection, connection:
        connection.executemany(
            "DELETE FROM states WHERE group_id = (SELECT id FROM groups WHERE name = ?)", names
        )


def sizes(data: Path) -> dict[str, float]:
    """Return the number of events and snapshots, and the sizes in MiB."""
    with closing(sqlite3.connect(data / "tchat.db")) as connection:
        (events,) = connection.execute("SELECT sum(last) FROM groups").fetchone()
        states, size = connection.execute(
            "SELECT count(*), sum(length(data)) FROM states"
        ).fetchone()
    file = (data / "tchat.db").stat().st_size
    return {
        "events": events,
        "states": states,
        "data_mib": file / _MIB,
        "states_mib": size / _MIB,
    }


# ------------------------------------------------------------------ measures


def importing() -> float:
    """Return the seconds that the interpreter takes to import the server."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", _IMPORTS], check=True)
    return time.perf_counter() - began


@contextmanager
def started(data: Path, *, tls: bool = False) -> Iterator[tuple[Address, float]]:
    """Start a server for the length of the block; give its address and seconds to start."""
    command = [sys.executable, "-m", "tchat", "serve", "127.0.0.1", "0"]
    command += [] if tls else ["--no-tls"]
    command += ["--log-format", "json", "--rate-limit", "off", "--data", str(data)]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            took = time.perf_counter() - began
            port = int(json.loads(line)["address"].rpartition(":")[2])
            yield Address("127.0.0.1", port), took
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


async def coming(address: Address, group: str) -> float:
    """Return the seconds from a member's `attach` to its answer."""
    async with raw_client(address, "alice") as alice:
        await alice.before_pong()
        answers = FrameBuffer()
        began = time.perf_counter()
        await alice.send(Attach(1, group, 0, _RECENT))
        while (body := answers.pop()) is None:
            answers.feed(bytes(await alice.stream.receive_some()))
        took = time.perf_counter() - began
    answer = decode(body, TO_CLIENT)
    assert isinstance(answer, Attached)
    assert answer.standing == "member"
    return took


def measure_once(data: Path) -> dict[str, float]:
    """Start the server once and subscribe to each group; return all times in seconds."""
    forget_states(data)
    found = {"import": importing()}
    with started(data) as (address, found["start"]):
        for name in (FIRST, *VISITED):
            found[name] = trio.run(coming, address, name)
            found[f"{name}-awake"] = trio.run(coming, address, name)
    return found


def measure(groups: int = GROUPS, long: int = LONG, runs: int = RUNS) -> dict[str, float]:
    """Return the sizes of the directory, and the median of each time in ms."""
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "data"
        trio.run(write_all, data, groups, long)
        found = sizes(data)
        times = [measure_once(data) for _ in range(runs)]
    for what in times[0]:
        found[f"{what}_ms"] = statistics.median(each[what] for each in times) * 1000
    return found


# ------------------------------------------------------------------ commands


def measure_commands(runs: int) -> dict[str, tuple[float, float]]:
    """Return the median times of short commands, from their start to their end: see `_medians`."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        # As in an installation: compiled modules are there, and nothing else reads these.
        environment = {
            **{k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
            "PYTHONPYCACHEPREFIX": str(home / "compiled"),
            "TCHAT_HOME": str(home / "alice"),
        }
        tchat = [sys.executable, "-m", "tchat"]
        with started(home / "data", tls=True) as (address, _):
            place_of = [str(address), "--user", "alice", "--group", "ops"]
            found = ["join", *place_of, "--plain", "--create"]
            timed = partial(_medians, runs, environment)
            subprocess.run(
                [*tchat, *found], env=environment, input=b"", capture_output=True, check=True
            )
            return {
                "python": timed([sys.executable, "-c", "pass"]),
                "help": timed([*tchat, "--help"]),
                "say": timed([*tchat, "say", *place_of, _TEXT]),
                "say_64": timed([*tchat, "say", *place_of], (b"x" * 63 + b"\n") * (_INPUT // 64)),
            }
    raise AssertionError("unreachable")


def _medians(
    runs: int, environment: dict[str, str], command: list[str], given: bytes = b""
) -> tuple[float, float]:
    """Return the median times of a command in ms, after a run that is not counted.

    These are the time that passed, and the processor time, which other programs hardly change.
    """
    times, busy = [], []
    for _ in range(runs + 1):
        began, before = time.perf_counter(), _processor_time()
        subprocess.run(command, input=given, env=environment, capture_output=True, check=True)
        times.append(time.perf_counter() - began)
        busy.append(_processor_time() - before)
    return statistics.median(times[1:]) * 1000, statistics.median(busy[1:]) * 1000


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def say_commands(found: dict[str, tuple[float, float]], runs: int) -> None:
    """Print the times of the commands beyond the start of the interpreter."""
    bare, bare_busy = found["python"]
    say(f"medians of {runs}, beyond the {bare:.0f} ms that the interpreter takes to start")
    for name, title, most in _COMMANDS:
        passed, busy = found[name]
        text = f"(at most {most}; {busy - bare_busy:.0f} ms of processor time)"
        say(f"{title:28} {passed - bare:7.0f} ms   {text}")


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description="Measure the start of a server with long logs.")
    parser.add_argument("--groups", type=int, default=GROUPS, help=f"of 100 events ({GROUPS})")
    parser.add_argument("--long", type=int, default=LONG, help=f"events of a long log ({LONG})")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"number of starts ({RUNS})")
    parser.add_argument("--commands", action="store_true", help="only the start of commands")
    given = parser.parse_args()
    say_commands(measure_commands(given.runs), given.runs)
    if given.commands:
        return
    found = measure(given.groups, given.long, given.runs)
    say(f"{found['events']:.0f} events, {found['states']:.0f} snapshots")
    say(f"{found['data_mib']:.0f} MiB, of which {found['states_mib']:.1f} MiB are snapshots")
    say(f"medians of {given.runs}")
    say(f"interpreter and imports      {found['import_ms']:7.0f} ms")
    say(f"until the server listens     {found['start_ms']:7.0f} ms")
    for name in (FIRST, *VISITED):
        first, again = (found[f"{name}{end}_ms"] for end in ("", "-awake"))
        say(f"to load {name:15}      {first:7.1f} ms   ({again:.1f} ms once it is loaded)")


if __name__ == "__main__":
    main()

"""Power cuts: replay the recorded writes of a server under load, and cut at any of them.

A server runs under strace; `recording` reads what it wrote and what it sent. For each cut, the disk
that a power cut may leave is built (`disk_model`), the real store opens it, and the code of `tchat
admin verify` checks it. All that the server had sent before the cut has to be there: every event,
at its place, and every acknowledged command. Nothing may be there twice or in another order.

`python -m tests.faults.power_cuts RECORDING --step N --mode MODE --seed S` repeats one cut.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cbor2
import trio

from tchat.errors import TchatError
from tchat.server.operations.verification import verify_server
from tests.bench.report import say
from tests.faults.disk_model import MODES, DiskModel
from tests.faults.harness import Row, count, run_episodes, stored_log
from tests.faults.ledger import Findings
from tests.faults.members import GROUP, Crew, Habits, crew_of, dialer
from tests.faults.recording import Send, read_traces, recording_words
from tests.faults.servers import traced, traces_in
from tests.faults.uploads import share_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.faults.disk_model import Mode
    from tests.faults.harness import Episode, Trial
    from tests.faults.recording import Step

_PASS = 200  # cuts of one pass over the recording
_RECORDING_SECONDS = 100.0  # of cuts, for each recording
_POSTS = 700  # commands of each of the two runs that are recorded

_TEXT_KINDS = ("posted", "edited")


@dataclass(slots=True)
class Promises:
    """What a server had sent before each step: events and answers of one group.

    Each is the step after which it counts, and what has to be there: the body of an event by its
    seq, the text of an acknowledged command at its seq (None: somewhere).
    """

    events: list[tuple[int, int, bytes]] = field(default_factory=list)
    answers: list[tuple[int, int | None, str]] = field(default_factory=list)


@dataclass(slots=True)
class Recording:
    """The steps of the recorded server, what it promised, and its data directory meanwhile."""

    root: str
    steps: list[Step]
    promises: Promises
    texts: set[str]


# ------------------------------------------------------------------ recording


async def record(episode: Episode, operations: int) -> Recording:
    """Record two runs of a server under load: one that is killed, one that is stopped."""
    place, port = episode.place, 0
    crew = Crew(
        dialer(lambda: port),
        episode.seed,
        habits=Habits(giving_up=0.0, pause=0.01, edits=0.15, deletions=0.05, padding=400),
    )
    with traced(place, "1", recording_words(place / "1.trace")) as one:
        port = await one.port()
        async with crew_of(crew), trio.open_nursery() as nursery:
            nursery.start_soon(share_files, crew, episode.random)
            await crew.until(lambda: len(crew.ledger.operations) > operations, "new commands")
            await one.end(signal.SIGKILL)
            with traced(place, "2", recording_words(place / "2.trace")) as two:
                port = await two.port()
                nursery.start_soon(share_files, crew, episode.random)
                await crew.until(
                    lambda: len(crew.ledger.operations) > 2 * operations, "new commands"
                )
                await crew.quiesce()
                nursery.cancel_scope.cancel()
                await two.end(signal.SIGTERM)
        traces = traces_in(one.log.read_text() + two.log.read_text())
    for trace in traces:
        episode.problem(f"the recorded server printed a traceback: {trace}")
    count(episode.trial, crew)
    steps = read_traces([place / "1.trace", place / "2.trace"], place / "data")
    texts = {operation.text for operation in crew.ledger.operations}
    recording = Recording(str(place / "data"), steps, promises_of(steps, crew), texts)
    found = crew.ledger.check(GROUP, await stored_log(place / "data", GROUP))
    episode.trial.findings.add(found)
    return recording


def promises_of(steps: Sequence[Step], crew: Crew) -> Promises:
    """Return what the server sent: frames on its sockets."""
    promises = Promises()
    sent = {(one.client, one.n): one for one in crew.ledger.operations}
    clients = {member.name: member.client for member in crew.members}
    buffers: dict[int, bytearray] = {}
    users: dict[int, bytes] = {}
    for index, step in enumerate(steps):
        if not isinstance(step, Send):
            continue
        buffer = buffers.setdefault(step.stream, bytearray())
        buffer += step.data
        if buffer[:1] == b"{":  # a line of the server's log
            continue
        for body in _frames(buffer):
            frame: dict[str, Any] = cbor2.loads(body)
            match frame["type"]:
                case "welcome":
                    users[step.stream] = clients.get(frame["user"], b"")
                case "event" if frame["group"] == GROUP:
                    promises.events.append((index, frame["seq"], body))
                case "ok" if frame["re"] > 1 << 32:
                    one = sent[users[step.stream], frame["re"] - (1 << 32)]
                    promises.answers.append((index, frame.get("seq"), one.text))
    return promises


def _frames(buffer: bytearray) -> Iterator[bytes]:
    """Remove the whole frames from a buffer, and yield their bodies."""
    while len(buffer) >= 4 and len(buffer) >= 4 + (size := int.from_bytes(buffer[:4], "big")):
        yield bytes(buffer[4 : 4 + size])
        del buffer[: 4 + size]


# ------------------------------------------------------------------ one cut


class Replay:
    """Goes through a recording, and checks what a power cut may leave after any step."""

    def __init__(self, recording: Recording, place: Path, *, obeys: bool = True) -> None:
        self.recording = recording
        self.disk = DiskModel(recording.root, obeys=obeys)
        self._place = place
        self._at = 0
        self._events: dict[int, bytes] = {}
        self._answers: list[tuple[int | None, str]] = []
        self._next_event = 0
        self._next_answer = 0
        self._decoded: dict[bytes, dict[str, Any]] = {}

    def go_to(self, step: int) -> None:
        """Apply the steps before `step`."""
        for one in self.recording.steps[self._at : step]:
            self.disk.apply(one)
        self._at = step
        events, answers = self.recording.promises.events, self.recording.promises.answers
        while self._next_event < len(events) and events[self._next_event][0] < step:
            _, seq, body = events[self._next_event]
            self._events[seq] = body
            self._next_event += 1
        while self._next_answer < len(answers) and answers[self._next_answer][0] < step:
            self._answers.append(answers[self._next_answer][1:])
            self._next_answer += 1

    def cut(self, mode: Mode, seed: int) -> Findings:
        """Build one disk that a power cut may leave here, and check it."""
        rng = random.Random(f"{seed} {self._at} {mode}")
        data = self._place / "data"
        shutil.rmtree(data, ignore_errors=True)
        for path, content in self.disk.after_cut(mode, rng).items():
            target = data / Path(path).relative_to(self.recording.root)
            if content is None:
                target.mkdir(parents=True, exist_ok=True)
            elif not target.name.endswith("-shm"):  # rebuilt by whoever opens it first
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                target.chmod(0o600)
        data.mkdir(exist_ok=True)
        data.chmod(0o700)
        found = Findings()
        try:
            log = trio.run(stored_log, data, GROUP)
            # Only now: before a server was started, the write-ahead log may end in a torn write.
            for fault in verify_server(data).faults:
                found.differing += 1
                found.note(f"verify: {fault.where} {fault.subject}: {fault.sentence}")
        except (TchatError, AssertionError) as error:
            found.lost += 1
            found.note(f"the store does not open: {error}")
            return found
        self._compare(log, found)
        return found

    def _compare(self, log: Mapping[int, bytes], found: Findings) -> None:
        events = {seq: self._decode(body) for seq, body in log.items()}
        if sorted(log) != list(range(1, len(log) + 1)):
            found.lost += 1
            found.note("the log has gaps")
        for seq, body in self._events.items():
            event = events.get(seq)
            if event is None:
                found.lost += 1
                found.note(f"event {seq} was sent, and is lost; the log has {len(log)}")
            elif log[seq] != body and event["kind"] != "erased":
                found.differing += 1
                found.note(f"event {seq} was sent as something else")
        texts = Counter(event["text"] for event in events.values() if event["kind"] in _TEXT_KINDS)
        for at, text in self._answers:
            is_there = at in log if at is not None else not text or bool(texts[text])
            if not is_there:
                found.lost += 1
                found.note(f"{text!r} was acknowledged at {at}, and is lost")
        for text, number in texts.items():
            if number > 1:
                found.doubled += number - 1
                found.note(f"{text!r} is there {number} times")
            if text not in self.recording.texts:
                found.differing += 1
                found.note(f"{text!r} was never sent")
        self._check_order(events, found)

    def _check_order(self, events: Mapping[int, dict[str, Any]], found: Findings) -> None:
        last: dict[bytes, int] = {}
        for seq in sorted(events):
            client, n = events[seq].get("client"), events[seq].get("n")
            if client is None or n is None:
                continue
            if n < last.get(client, 0):
                found.reordered += 1
                found.note(f"command {n} is at {seq}, after command {last[client]}")
            last[client] = n

    def _decode(self, body: bytes) -> dict[str, Any]:
        event = self._decoded.get(body)
        if event is None:
            event = self._decoded[body] = cbor2.loads(body)
        return event


def sync_points(recording: Recording) -> list[int]:
    """Return the steps at which something was promised: the moments that matter most."""
    return sorted({step for step, *_ in recording.promises.answers})


def plan(recording: Recording, number: int, rng: random.Random) -> list[tuple[int, Mode]]:
    """Return some cuts in order: half of them just after a promise, half anywhere."""
    points, last = sync_points(recording), len(recording.steps)
    steps = [
        min(last, rng.choice(points) + rng.randint(1, 3))
        if points and rng.random() < 0.5
        else rng.randint(0, last)
        for _ in range(number)
    ]
    return [(step, rng.choice(MODES)) for step in sorted(steps)]


# ------------------------------------------------------------------ workers, and the row


def work(file: Path, seed: int, seconds: float) -> None:
    """Cut again and again; print a line in JSON after each pass, and for each failed cut."""
    recording: Recording = pickle.loads(file.read_bytes())  # noqa: S301  # our own
    until, rng = time.monotonic() + seconds, random.Random(f"cuts {seed}")
    while time.monotonic() < until:
        done = Counter[str]()
        with _ram_directory() as place:
            replay = Replay(recording, place)
            for step, mode in plan(recording, _PASS, rng):
                replay.go_to(step)
                found = replay.cut(mode, seed)
                done[mode] += 1
                if not found.is_clean:
                    say(json.dumps({"step": step, "mode": mode, "seed": seed, **_plain(found)}))
                if time.monotonic() > until:
                    break
        say(json.dumps({"cuts": done}))


def _plain(found: Findings) -> dict[str, object]:
    return {name: getattr(found, name) for name in found.__slots__}


@contextmanager
def _ram_directory() -> Iterator[Path]:
    """Give a directory in memory, if there is one: nothing has to survive here."""
    memory = Path("/dev/shm")  # noqa: S108  # only where it is faster
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as place:
        yield Path(place)


async def run(trial: Trial) -> None:
    """Record, then cut with a worker for each processor; record again now and then."""
    await run_episodes(trial, _record_and_cut)


async def _record_and_cut(episode: Episode) -> None:
    trial = episode.trial
    seconds = episode.seconds(_RECORDING_SECONDS)
    until = trial.elapsed + seconds
    recording = await record(episode, min(_POSTS, 60 + int(seconds * 10)))
    trial.counts["recordings"] += 1
    trial.counts["recorded steps"] += len(recording.steps)
    trial.counts["promises"] += len(recording.promises.events) + len(recording.promises.answers)
    file = episode.place / "recording.pickle"
    file.write_bytes(pickle.dumps(recording))
    async with trio.open_nursery() as nursery:
        for number in range(os.cpu_count() or 1):
            left = max(1.0, until - trial.elapsed)
            nursery.start_soon(_run_worker, episode, file, episode.seed + number * 1000, left)
    episode.end(Findings())


async def _run_worker(episode: Episode, file: Path, seed: int, seconds: float) -> None:
    command = [sys.executable, "-m", "tests.faults.power_cuts", str(file), "--seed", str(seed)]
    ended = await trio.run_process([*command, "--seconds", str(seconds)], capture_stdout=True)
    for line in ended.stdout.splitlines():
        said = json.loads(line)
        if "cuts" in said:
            for mode, number in said["cuts"].items():
                episode.trial.counts["cuts"] += number
                episode.trial.counts[f"left: {mode}"] += number
            continue
        found = Findings(**{key: said[key] for key in Findings.__slots__})
        episode.trial.findings.add(found)
        episode.problem(
            f"{found.examples[0]}; again: python -m tests.faults.power_cuts {file}"
            f" --step {said['step']} --mode {said['mode']} --seed {said['seed']}"
        )


def main() -> int:
    """Work on a recording, or repeat one cut of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.power_cuts")
    parser.add_argument("recording", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--step", type=int)
    parser.add_argument("--mode", choices=MODES, default="all")
    given = parser.parse_args()
    if given.step is None:
        work(given.recording, given.seed, given.seconds)
        return 0
    place = Path(tempfile.mkdtemp(prefix="tchat-power-cut-"))
    replay = Replay(pickle.loads(given.recording.read_bytes()), place)  # noqa: S301  # our own
    replay.go_to(given.step)
    found = replay.cut(given.mode, given.seed)
    say(f"{place}/data: {_plain(found)}")
    return 0 if found.is_clean else 1


ROWS = [Row("power-cuts", "any disk that a power cut may leave of a recorded run", run, 8.0)]

if __name__ == "__main__":
    main()

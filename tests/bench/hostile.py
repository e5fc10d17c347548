"""What hostile frames and strangers cost a server: `python -m tests.bench.hostile`.

First, wrong frames one after the other at a server in this process, as strangers and as people
who are known, while an instrument of Trio measures how long the server's tasks run without a
pause. The clock on the wall says what others had to wait for, and is fooled by other programs on
the same machine; the time of this thread is not.

Then, very many sockets that say nothing, or a byte a second, at a server in a process of its own:
what each takes of its memory, when it is cut, and what a pair that chats beside them feels.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import trio

from tchat.core.fingerprints import read_pin
from tchat.core.framing import HANDSHAKE_LIMIT
from tchat.net.address import Address, connect
from tchat.net.tls import client_context, open_tls
from tests.helpers import GROUP, UNHURRIED, RawClient, approve, hello_of, running_server, until
from tests.hostile_frames import (
    Hostile,
    Mutator,
    costly_requests,
    ends_connection,
    person,
)
from tests.protocol import unchecked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tchat.client.replica import Replica
    from tchat.client.session import Session

SLOW_SECONDS = 0.020
HANDSHAKE_SECONDS = 10
QUIET_SECONDS = 5.0

Kind = Literal["silent", "byte", "tls-silent", "tls-byte", "tls-done"]

KINDS: dict[Kind, str] = {
    "silent": "plain, silent",
    "byte": "plain, a byte a second",
    "tls-silent": "TLS not begun, silent",
    "tls-byte": "TLS begun, a byte a second",
    "tls-done": "TLS done, then silent",
}


def say(*parts: object) -> None:
    """Write a line for whoever reads the figures."""
    print(*parts, flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))] if ordered else 0.0


# ---------------------------------------------------------------------------- the cost of a frame


class Watch(trio.abc.Instrument):
    """Measures the steps of a server's tasks: those below the task that is named first."""

    def __init__(self) -> None:
        self.wall = self.cpu = self.longest = 0.0
        self._tasks: set[trio.lowlevel.Task] = set()
        self._began = (0.0, 0.0)

    def reset(self) -> None:
        """Count from here on."""
        self.wall = self.cpu = self.longest = 0.0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Know the server's tasks by where they come from."""
        nursery = task.parent_nursery
        parent = nursery.parent_task if nursery else None
        if parent in self._tasks or task.name.startswith("tests.helpers.running_server"):
            self._tasks.add(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forget a task."""
        self._tasks.discard(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Start the clocks."""
        if task in self._tasks:
            self._began = (time.perf_counter(), time.thread_time())

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Stop them."""
        if task in self._tasks:
            wall, cpu = time.perf_counter() - self._began[0], time.thread_time() - self._began[1]
            self.wall += wall
            self.cpu += cpu
            self.longest = max(self.longest, cpu)


@dataclass(slots=True)
class Cost:
    """Seconds that a frame took of the server: on the wall, of the thread, and at once."""

    what: str
    size: int
    wall: float
    cpu: float
    longest: float


@dataclass(slots=True)
class Costs:
    """What all frames of one sort of sender cost."""

    who: str
    all: list[Cost] = field(default_factory=list)

    def report(self) -> None:
        """Say it."""
        cpu, wall = [c.cpu for c in self.all], [c.wall for c in self.all]
        steps = [c.longest for c in self.all]
        figures = [percentile(cpu, share) * 1000 for share in (0.5, 0.99, 0.999, 1)]
        over = [sum(1 for value in values if value > SLOW_SECONDS) for values in (steps, cpu, wall)]
        say(
            f"{self.who:10} {len(self.all):8} {figures[0]:8.3f} {figures[1]:8.3f} {figures[2]:8.3f}"
            f" {figures[3]:8.2f} {max(steps) * 1000:8.2f} {max(wall) * 1000:8.2f}"
            f" {over[0]:6} {over[1]:6} {over[2]:6}"
        )

    def worst(self, number: int) -> None:
        """Say which frames cost most, each sort of them once."""
        by_what: dict[str, list[Cost]] = {}
        for cost in self.all:
            by_what.setdefault(cost.what, []).append(cost)
        ranked = sorted(by_what.items(), key=lambda item: -max(c.longest for c in item[1]))
        for what, costs in ranked[:number]:
            most, middle = (
                max(c.longest for c in costs),
                percentile([c.longest for c in costs], 0.5),
            )
            over = sum(1 for c in costs if c.longest > SLOW_SECONDS)
            say(
                f"    {most * 1000:8.2f} ms at most, {middle * 1000:8.2f} in the middle of"
                f" {len(costs):5}, {over:4} above 20 ms: {what} ({costs[0].size} bytes)"
            )


class Sender:
    """Sends one frame at a time and notes what it costs the server."""

    def __init__(self, address: Address, watch: Watch, costs: Costs) -> None:
        self._address = address
        self._watch = watch
        self._costs = costs
        self._stream: trio.SocketStream | None = None

    async def as_stranger(self, frames: Iterable[Hostile]) -> None:
        """Send each on a connection of its own, every third in place of a proof."""
        for number, frame in enumerate(frames):
            stream = await connect(self._address)
            if number % 3 == 0:
                await RawClient(stream).send(hello_of("mallory"))
                await stream.receive_some()
            await self._to_the_end(stream, frame)

    async def as_person(self, frames: Iterable[Hostile]) -> None:
        """Send as many as a connection bears, and go on with another."""
        number = 1 << 62
        for frame in frames:
            if self._stream is None:
                self._stream = await connect(self._address)
                await RawClient(self._stream).hello("mallory")
            if ends_connection(frame.data):
                await self._to_the_end(self._stream, frame)
                self._stream = None
                continue
            number += 1
            fence = unchecked({"type": "fence", "id": number})
            self._watch.reset()
            await self._stream.send_all(frame.data + fence)
            answers = bytearray()
            while number.to_bytes(8, "big") not in answers:
                data = await self._stream.receive_some()
                if not data:
                    raise AssertionError(f"{frame.what} ended a conversation")
                answers += data
            self._note(frame)

    async def _to_the_end(self, stream: trio.SocketStream, frame: Hostile) -> None:
        self._watch.reset()
        with suppress(trio.BrokenResourceError):
            await stream.send_all(frame.data)
            await stream.send_eof()
            while await stream.receive_some():
                pass
        await trio.aclose_forcefully(stream)
        self._note(frame)

    def _note(self, frame: Hostile) -> None:
        watch = self._watch
        cost = Cost(frame.what, len(frame.data), watch.wall, watch.cpu, watch.longest)
        self._costs.all.append(cost)


async def measure_frames(number: int) -> None:
    """Throw so many frames, and say what they cost."""
    watch = Watch()
    trio.lowlevel.add_instrument(watch)
    strangers, known, costly = Costs("strangers"), Costs("known"), Costs("costliest")
    limits = replace(UNHURRIED, groups_per_user=50)
    began = time.perf_counter()
    async with running_server(limits=limits) as server:
        half = number // 2
        await Sender(server.address, watch, strangers).as_stranger(
            Mutator(1, limit=HANDSHAKE_LIMIT).take(half)
        )
        await Sender(server.address, watch, known).as_person(Mutator(2).take(number - half))
        await Sender(server.address, watch, costly).as_person(costly_requests() * 5)
    trio.lowlevel.remove_instrument(watch)
    faults = [line for line in server.console if "fault" in line]
    say(f"\n{number} wrong frames in {time.perf_counter() - began:.0f} s; faults: {len(faults)}")
    for line in faults[:5]:
        say("   ", line)
    say("ms of the server's thread for one frame; 'step' is the longest without a pause;")
    say("'>20 ms' counts frames by longest step, by all steps together, by the clock on the wall")
    say("from           frames   median      p99    p99.9  longest     step     wall    >20 ms")
    for costs in (strangers, known, costly):
        costs.report()
    for costs in (strangers, known, costly):
        say(f"costliest of those from {costs.who}, by their longest step:")
        costs.worst(8)


# ---------------------------------------------------------------------------- very many strangers


async def attack(address: Address, number: int, kind: Kind) -> None:
    """Be that many strangers until all are cut; say when all are there, and when they were cut."""
    stays: list[float] = []
    there = 0

    async def stay() -> None:
        nonlocal there
        began = time.perf_counter()
        stream: trio.abc.Stream = await connect(address)
        with suppress(trio.BrokenResourceError):
            if kind == "tls-done" and isinstance(stream, trio.SocketStream):
                stream = await open_tls(stream, client_context(verified=False), address.host)
            there += 1
            if there == number:
                say("there")
            async with trio.open_nursery() as nursery:
                if kind in ("byte", "tls-byte"):
                    nursery.start_soon(_dribble, stream, _beginning(kind))
                with suppress(trio.BrokenResourceError):
                    while await stream.receive_some():
                        pass
                nursery.cancel_scope.cancel()
        stays.append(time.perf_counter() - began)
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(stay)
            if kind != "tls-done":
                await trio.lowlevel.checkpoint()
    say(json.dumps({"cut": len(stays), "first": min(stays), "last": max(stays)}))


def _beginning(kind: Kind) -> bytes:
    if kind == "byte":
        return unchecked(hello_of("mallory").to_map())
    out = ssl.MemoryBIO()
    tls = client_context(verified=False).wrap_bio(ssl.MemoryBIO(), out)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


async def _dribble(stream: trio.abc.Stream, data: bytes) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        for index in range(len(data)):
            await stream.send_all(data[index : index + 1])
            await trio.sleep(1)


@dataclass(frozen=True, slots=True)
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    address: Address
    pin: bytes | None

    @property
    def memory(self) -> int:
        """Bytes of memory that are its own and present (VmRSS)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024


@contextmanager
def serving(data: Path, number: int, *, tls: bool) -> Iterator[Server]:
    """Start `python -m tchat serve` for the length of the block."""
    command = [sys.executable, "-m", "tchat", "serve", "127.0.0.1", "0", "--data", str(data)]
    command += ["--handshake-time", str(HANDSHAKE_SECONDS), "--rate-limit", "off"]
    command += ["--max-strangers", str(2 * number), "--max-strangers-each", str(2 * number)]
    command += [] if tls else ["--no-tls"]
    log = data.with_suffix(".log")
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, text=True)
    try:
        while "to join" not in (lines := log.read_text()):
            time.sleep(0.05)
        port = int(lines.split("listening on 127.0.0.1:")[1].split()[0])
        pin = read_pin(lines.split("key is ")[1].split()[0]) if tls else None
        yield Server(process, Address("127.0.0.1", port), pin)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    faults = [line for line in log.read_text().splitlines() if "fault" in line]
    if faults:
        say(f"    {len(faults)} faults, such as: {faults[0]}")


class Pair:
    """Alice says something, Bob hears it, the time between is noted, and so on."""

    def __init__(self, alice: Session, ops: Replica, bob: Session, there: Replica) -> None:
        self.delays: list[float] = []
        self._alice, self._ops, self._bob, self._there = alice, ops, bob, there

    async def chat(self) -> None:
        """Say a hundred things a second, at most, until cancelled."""
        while True:
            began, seq = time.perf_counter(), self._there.state.seq
            self._alice.post(self._ops, "hello")
            await until(self._bob, lambda seq=seq: self._there.state.seq > seq)  # type: ignore[misc]
            self.delays.append(time.perf_counter() - began)
            await trio.sleep(0.01)


async def measure_strangers(server: Server, number: int, kind: Kind) -> None:
    """Let strangers come, and say what they cost."""
    async with (
        person(server.address, "alice", server.pin) as alice,
        person(server.address, "bob", server.pin) as bob,
    ):
        ops, there = await alice.enter(GROUP), await bob.enter(GROUP)
        await approve(alice, "bob")
        await until(bob, lambda: there.caught_up)
        pair = Pair(alice, ops, bob, there)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.chat)
            await trio.sleep(QUIET_SECONDS)
            quiet, pair.delays = pair.delays, []
            before = server.memory
            arguments = ["--attack", str(server.address.port), "--sockets", str(number)]
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "tests.bench.hostile", *arguments, "--kind", kind],
                stdout=subprocess.PIPE,
            )
            lines = process.stdout
            assert lines is not None
            said = b""
            during = 0
            coming: list[float] = []
            async for data in lines:
                said += data
                if b"there" in said and not during:
                    coming, pair.delays = pair.delays, []
                    await trio.sleep(1)  # until the last of them has been accepted, too
                    during = server.memory
            await process.wait()
            staying = pair.delays
            nursery.cancel_scope.cancel()
        missed = [a.seq for a, b in zip(ops.log, there.log, strict=False) if a != b]
    found = json.loads(said.splitlines()[-1])
    each = (during - before) / number / 1024
    delays = [
        f"{percentile(values, share) * 1000:7.1f}"
        for values in (quiet, coming, staying)
        for share in (0.5, 0.99)
    ]
    say(
        f"{KINDS[kind]:28} {found['cut']:6} {each:8.1f} {before / 2**20:7.0f} {during / 2**20:6.0f}"
        f" {found['first']:6.1f} {found['last']:6.1f}  {' '.join(delays)}  {len(missed):4}"
    )


def measure_all_strangers(number: int) -> None:
    """Measure each kind of stranger at a server of its own."""
    say(
        f"\n{number} strangers at a server in a process of its own, cut after {HANDSHAKE_SECONDS} s"
    )
    say("memory is RSS; latencies of a pair beside them in ms (p50, p99): alone, while the")
    say("strangers come, while they stay and are cut; 'cut' in s after each began to connect")
    say(
        "strangers                    cut    KiB each  MiB before, with   cut first, last"
        "   alone           coming          staying   lost"
    )
    for kind in KINDS:
        with (
            tempfile.TemporaryDirectory() as place,
            serving(Path(place) / "data", number, tls=kind.startswith("tls")) as server,
        ):
            trio.run(measure_strangers, server, number, kind)


def allow_files(number: int) -> None:
    """Let this process, and those it starts, have so many open files; say if that is impossible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = number if hard == resource.RLIM_INFINITY else min(number, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, possible), hard))
    if possible < number:
        say(f"This system allows {hard} open files, and {number} are needed: expect less.")


def main() -> None:
    """Measure, or be the strangers of another process that measures."""
    parser = argparse.ArgumentParser(description="What hostile frames and strangers cost a server.")
    parser.add_argument("--frames", type=int, default=100_000, help="how many; 0 for none")
    parser.add_argument("--sockets", type=int, default=2000, help="how many; 0 for none")
    parser.add_argument("--attack", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=get_args(Kind), help=argparse.SUPPRESS)
    given = parser.parse_args()
    allow_files(2 * given.sockets + 500)
    if given.attack is not None:
        trio.run(attack, Address("127.0.0.1", given.attack), given.sockets, given.kind)
        return
    if given.frames:
        trio.run(measure_frames, given.frames)
    if given.sockets:
        measure_all_strangers(given.sockets)


if __name__ == "__main__":
    main()

"""CPU cost of single malformed frames: how long each blocks the server's event loop."""

from __future__ import annotations

import gc
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.framing import HANDSHAKE_LIMIT
from tchat.net.tcp import connect
from tests.bench.report import percentile, say
from tests.cddl import unchecked
from tests.helpers import NO_RATE_LIMITS, RawClient, hello_of, running_server
from tests.hostile_cbor import Hostile, costly_requests
from tests.hostile_clients import ends_connection
from tests.hostile_frames import Mutator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tchat.net.address import Address


SLOW_SECONDS = 0.020


class Watch(trio.abc.Instrument):
    """Trio instrument that times the steps of the tasks below `running_server`."""

    def __init__(self) -> None:
        self.wall = self.cpu = self.longest = self.collecting = 0.0
        self._collected = self._collecting_since = 0.0
        gc.callbacks.append(self._collect)
        self._tasks: set[trio.lowlevel.Task] = set()
        self._began = (0.0, 0.0)

    def reset(self) -> None:
        """Reset the counters."""
        self.wall = self.cpu = self.longest = self.collecting = 0.0

    def _collect(self, phase: str, _: dict[str, int]) -> None:
        """Time the garbage collector, which may run during any frame."""
        if phase == "start":
            self._collecting_since = time.thread_time()
        else:
            self._collected += time.thread_time() - self._collecting_since

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Register a task if its ancestors include the server."""
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
            self._collected = 0.0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Stop them."""
        if task in self._tasks:
            wall, cpu = time.perf_counter() - self._began[0], time.thread_time() - self._began[1]
            self.collecting = max(self.collecting, self._collected)
            self.wall += wall
            self.cpu += cpu
            self.longest = max(self.longest, cpu)


@dataclass(slots=True)
class Cost:
    """Seconds that a frame cost: wall clock, thread CPU, longest step without a pause, GC."""

    what: str
    size: int
    wall: float
    cpu: float
    longest: float
    collecting: float


@dataclass(slots=True)
class Costs:
    """Costs of all frames of one kind of sender."""

    who: str
    all: list[Cost] = field(default_factory=list)

    def report(self) -> None:
        """Print a row of percentiles."""
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
        """Print the most expensive frames, one row for each kind."""
        by_what: dict[str, list[Cost]] = {}
        for cost in self.all:
            by_what.setdefault(cost.what, []).append(cost)
        ranked = sorted(by_what.items(), key=lambda item: -max(c.longest for c in item[1]))
        for what, costs in ranked[:number]:
            most = max(costs, key=lambda c: c.longest)
            middle = percentile([c.longest for c in costs], 0.5)
            over = sum(1 for c in costs if c.longest > SLOW_SECONDS)
            say(
                f"    {most.longest * 1000:8.2f} ms at most ({most.collecting * 1000:.2f} of it"
                f" collecting garbage), {middle * 1000:8.2f} in the middle of"
                f" {len(costs):5}, {over:4} above 20 ms: {what} ({costs[0].size} bytes)"
            )


class Sender:
    """Sends one frame at a time and records its cost."""

    def __init__(self, address: Address, watch: Watch, costs: Costs) -> None:
        self._address = address
        self._watch = watch
        self._costs = costs
        self._stream: trio.SocketStream | None = None

    async def as_stranger(self, frames: Iterable[Hostile]) -> None:
        """Send each on a new, unauthenticated connection, every third in place of a proof."""
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
                    raise AssertionError(f"{frame.what} ended a connection")
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
        cost = Cost(
            frame.what, len(frame.data), watch.wall, watch.cpu, watch.longest, watch.collecting
        )
        self._costs.all.append(cost)


async def measure_frames(number: int) -> None:
    """Send `number` frames and print their costs."""
    watch = Watch()
    trio.lowlevel.add_instrument(watch)
    strangers, known, costly = Costs("strangers"), Costs("known"), Costs("costliest")
    limits = replace(NO_RATE_LIMITS, groups_per_user=50)
    began = time.perf_counter()
    gc.freeze()  # as `tchat serve` does
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
    say("ms of the server's thread per frame; 'step' is the longest without a checkpoint;")
    say("'>20 ms' counts frames by longest step, by all steps together, by wall clock")
    say("from           frames   median      p99    p99.9  longest     step     wall    >20 ms")
    for costs in (strangers, known, costly):
        costs.report()
    for costs in (strangers, known, costly):
        say(f"costliest of those from {costs.who}, by their longest step:")
        costs.worst(8)

"""Attack harness: a server process, an attacking process, and bystanders who are measured.

An attack is a coroutine that runs until it is cancelled, in a process of its own, against
`tchat serve` with its default options and some of the attack's. Meanwhile, pairs of people chat and
visitors log in from another address, in this process. The report compares their delays before,
during and after the attack with what issue 18 asks for, and the server's memory with the number of
the attacker's connections.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tchat.core.fingerprints import read_pin
from tchat.net.address import Address
from tests.attacks.bystanders import both_percentiles, bystanders
from tests.attacks.figures import Outcome
from tests.attacks.target import HOST, Target
from tests.bench.report import percentile, resident, say
from tests.bench.servers import log_events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.attacks.bystanders import Delays

QUIET_SECONDS = 6.0
RECOVERY_SECONDS = 10.0
_SETTLE_SECONDS = 5.0  # of the recovery; what follows has to be as before
_SLACK = 0.005  # what this machine's scheduler may add to a p99, in seconds
_VISIT_SECONDS = 2.0
_MEMORY_SLACK = 4 << 20  # for what the bystanders do meanwhile
_KIB = 1024
_NICENESS = 15
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack: its name, one line about it, its coroutine, and the limit that stops it.

    `memory` is how much of the server's memory one of its connections may take. `options` are those
    of the server.
    """

    name: str
    title: str
    run: Callable[[Target], Awaitable[None]]
    stopped_by: str
    memory: int = 1 << 20
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """A server process."""

    process: subprocess.Popen[str]
    address: Address
    pin: bytes

    @property
    def memory(self) -> int:
        """Return its resident memory in bytes (VmRSS)."""
        return resident(self.process.pid)

    @property
    def cpu(self) -> float:
        """Return the CPU seconds that it has used, over all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def serving(options: tuple[str, ...], tree: Path) -> Iterator[Server]:
    """Run `tchat serve` of a source tree, with its default limits and `options`."""
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "log"
        command = [sys.executable, "-m", "tchat", "serve", HOST, "0", "--log-format", "json"]
        command += ["--data", str(Path(place) / "data"), *options]
        with log.open("w") as file:
            process = subprocess.Popen(command, stdout=file, text=True, cwd=tree)
        while "invitation" not in (events := log_events(log)):
            if process.poll() is not None:
                raise SystemExit("The server did not start.")
            time.sleep(0.02)
        port = int(events["listening"]["address"].rpartition(":")[2])
        try:
            yield Server(process, Address(HOST, port), read_pin(events["key"]["pin"]))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
        if fault := log_events(log).get("fault"):
            say(f"    the server logged faults, the last of them: {fault['message']}")


def attack_in_this_process(attack: Attack, port: int, seconds: float) -> None:
    """Run an attack for some seconds, and print its tally as JSON.

    Real attackers have machines of their own: so take only the processors that are idle.
    """
    os.nice(_NICENESS)
    target = Target(port)

    async def main() -> None:
        with trio.move_on_after(seconds):
            await attack.run(target)

    trio.run(main)
    say(json.dumps({"counts": target.tally.counts, "peak": target.tally.peak}))


def measure(attack: Attack, seconds: float, tree: Path) -> Outcome:
    """Run an attack against a new server and print the report; return the result."""
    say(f"{attack.name}: {attack.title}")
    with serving(attack.options, tree) as server:
        return trio.run(_measure, attack, server, seconds)


@dataclass(frozen=True, slots=True)
class _Course:
    """When an attack began and ended, and what the server used meanwhile."""

    began: float
    ended: float
    quiet_memory: int
    memory: int
    quiet_cpu: float
    cpu: float


async def _measure(attack: Attack, server: Server, seconds: float) -> Outcome:
    async with bystanders(server.address, server.pin) as delays:
        await trio.sleep(1)
        quiet, cpu = time.perf_counter(), server.cpu
        await trio.sleep(QUIET_SECONDS)
        began, quiet_cpu = time.perf_counter(), (server.cpu - cpu) / QUIET_SECONDS
        quiet_memory, cpu = server.memory, server.cpu
        found, memory = await _attack(attack, server, seconds)
        ended = time.perf_counter()
        spent = (server.cpu - cpu) / (ended - began)
        await trio.sleep(RECOVERY_SECONDS)
    course = _Course(began, ended, quiet_memory, memory, quiet_cpu, spent)
    return _report(attack, delays, quiet, course, found)


async def _attack(attack: Attack, server: Server, seconds: float) -> tuple[dict[str, object], int]:
    """Run the attacker's process; return its tally, and the most memory that the server had."""
    memory, lines = 0, b""
    command = [sys.executable, "-m", "tests.attacks", attack.name, "--seconds", str(seconds)]
    process = await trio.lowlevel.open_process(
        [*command, "--port", str(server.address.port)], stdout=subprocess.PIPE
    )

    async def watch() -> None:
        nonlocal memory
        while True:
            memory = max(memory, server.memory)
            await trio.sleep(0.1)

    assert process.stdout is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        async for data in process.stdout:
            lines += data
        await process.wait()
        nursery.cancel_scope.cancel()
    found: dict[str, object] = json.loads(lines.splitlines()[-1])
    return found, memory


def _report(
    attack: Attack, delays: Delays, quiet: float, course: _Course, found: dict[str, object]
) -> Outcome:
    before = delays.between(quiet, course.began)
    during = delays.between(course.began, course.ended)
    settled = course.ended + _SETTLE_SECONDS
    after = delays.between(settled, course.ended + RECOVERY_SECONDS)
    visits = delays.visits_between(course.began, course.ended)
    in_time = sum(delay <= _VISIT_SECONDS for delay in visits)
    grown = max(0, course.memory - course.quiet_memory)
    peak = int(str(found["peak"])) or 1
    counts = found["counts"]
    assert isinstance(counts, dict)
    most = 2 * percentile(before, 0.99) + _SLACK
    checks = {
        "p99 at most doubled": percentile(during, 0.99) <= most,
        "as before within 10 s": percentile(after, 0.99) <= most,
        "visitors get in within 2 s": in_time == len(visits),
        "memory": grown <= attack.memory * peak + _MEMORY_SLACK,
    }
    say(
        f"    others' posts, p50/p99 in ms: {both_percentiles(before)} before,"
        f" {both_percentiles(during)} while, {both_percentiles(after)} after"
    )
    say(
        f"    visitors: {in_time} of {len(visits)} in within {_VISIT_SECONDS:.0f} s,"
        f" the slowest after {max(visits, default=0):.2f} s"
    )
    say(
        f"    server: {course.quiet_cpu:.0%} CPU before, {course.cpu:.0%} while;"
        f" +{grown >> 20} MiB, {grown / peak / _KIB:.0f} KiB for each of {peak} connections"
    )
    say("    attacker: " + (", ".join(f"{n} {what}" for what, n in counts.items()) or "nothing"))
    say(f"    stopped by: {attack.stopped_by}")
    missed = [name for name, held in checks.items() if not held]
    say("    all is as asked" if not missed else f"    NOT as asked: {', '.join(missed)}")
    return Outcome(
        "server",
        attack.title,
        (_p99(before), _p99(during), _p99(after)),
        grown / peak / _KIB,
        course.cpu,
        attack.stopped_by,
        len(visits),
        len(visits) - in_time,
        missed,
    )


def _p99(delays: list[float]) -> float:
    return round(percentile(delays, 0.99) * 1000, 1)

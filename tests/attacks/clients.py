"""Harness of the attacks on clients: a hostile server, and a real client that is measured.

The server follows a script in a process of its own (`hostile_server`). The client is the
full-screen one in a pseudo-terminal, or a bot. It is measured from outside before, while and after:
how long it takes from a key until that is painted, or from a message in one group until the bot has
answered it; its CPU, its memory, and the bytes that it has written to its home. The limits are
those of `harness`, with what the machine's scheduler may add where programs compete for it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import ptyprocess

from tests.attacks.figures import Outcome
from tests.attacks.harness import serving
from tests.attacks.hostile_server import HOST
from tests.bench.report import percentile, resident, say
from tests.helpers import GROUP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import IO, Any

    from tests.attacks.hostile_server import Stage

_QUIET_SECONDS = 4.0
_SETTLE_SECONDS = 6.0
_AFTER_SECONDS = 4.0  # within 10 s after the attack, all is as before
_SLACK_SECONDS = 0.15  # what nobody notices, and a busy machine may add
_MOST_SECONDS = 10.0  # after which a client counts as deaf
_PAUSE_SECONDS = 0.05
_KEY, _ANSWER = "a key until it is painted", "an answer"
_IDLE = 0.1  # what a client may use of a processor after an attack, more than before
_TICKS = os.sysconf("SC_CLK_TCK")
_LETTERS = "éßøñåçæþ"
"""Letters that occur in no message and no escape sequence: seen only when typed."""


@dataclass(frozen=True, slots=True)
class ClientAttack:
    """An attack of a server (or of members) on a client, and the limits that stop it.

    `run` attacks; `prepare` changes what the server answers before the client comes. The client
    may take `memory` bytes more than before, and write `disk` bytes. With `bot`, it is a bot that
    follows all its groups. `counts` are the most that the attack may achieve, by the names of the
    tally. With `elsewhere`, the client has to work at an honest server afterwards.
    """

    name: str
    title: str
    run: Callable[[Stage], Awaitable[None]]
    stopped_by: str
    memory: int = 64 << 20
    disk: int = 1 << 20
    prepare: Callable[[Stage], None] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    bot: bool = False
    elsewhere: bool = False


class Curses:
    """The full-screen client in a pseudo-terminal of 100 by 30 cells."""

    def __init__(self, port: int, home: Path) -> None:
        words = ["join", HOST, str(port), "--no-tls", "--user", "alice", "--group", GROUP]
        self._process = ptyprocess.PtyProcess.spawn(
            [sys.executable, "-m", "tchat", *words, "--downloads", str(home / "downloads")],
            env={**os.environ, "TERM": "xterm-256color", "TCHAT_HOME": str(home / "tchat")},
            dimensions=(30, 100),
        )
        self.pid = int(self._process.pid)
        self._letters = cycle(_LETTERS)
        self._typed = 0
        self._read_until(b"in #ops with")

    def answer_seconds(self) -> float:
        """Type a letter; return the seconds until it is painted."""
        if self._typed % 37 == 36:  # not a multiple of 8: each cell gets another letter each time
            self._process.write(b"\x15")
        self._typed += 1
        letter = next(self._letters).encode()
        began = time.perf_counter()
        self._process.write(letter)
        self._read_until(letter)
        return time.perf_counter() - began

    def _read_until(self, wanted: bytes) -> None:
        seen, end = b"", time.monotonic() + _MOST_SECONDS
        while wanted not in seen and (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self._process.fd], [], [], left)
            if ready:
                seen = seen[-len(wanted) :] + self._process.read(1 << 16)

    def rest(self) -> None:
        """Read what is painted for a moment."""
        self._read_for(_PAUSE_SECONDS)

    def _read_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self._process.fd], [], [], left)
            if ready:
                self._process.read(1 << 16)

    def close(self) -> None:
        """End the client."""
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait()
        self._process.fileobj.close()


_BOT = """
import tchat

async def main(client, groups):
    async with client.events() as events:
        while True:
            try:
                await client.search("word")
            except tchat.Refused:
                pass
            print("answered", flush=True)
            input()

tchat.run(main, user="alice")
"""


class Bot:
    """A bot that hears all groups and conversations, and asks the server when it is told to."""

    def __init__(self, port: int, home: Path) -> None:
        program = home / "bot.py"
        program.write_text(_BOT)
        self._process = subprocess.Popen(
            [sys.executable, str(program), f"{HOST}:{port}", "--no-tls", "--group", GROUP],
            env={**os.environ, "TCHAT_HOME": str(home / "tchat")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input: IO[str] = self._process.stdin
        self._output: IO[str] = self._process.stdout
        self._output.readline()

    def answer_seconds(self) -> float:
        """Let the bot ask the server; return the seconds until it has the answer."""
        began = time.perf_counter()
        self._input.write("\n")
        self._input.flush()
        ready, _, _ = select.select([self._output], [], [], _MOST_SECONDS)
        if not ready or not self._output.readline():
            raise EOFError
        return time.perf_counter() - began

    def rest(self) -> None:
        """Let it work for a moment."""
        time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """End the bot."""
        self._process.kill()
        self._process.wait()


@dataclass(slots=True)
class _Phase:
    """What was measured in a span of time: delays, the share of a processor, the most memory."""

    delays: list[float] = field(default_factory=list)
    cpu: float = 0.0
    memory: int = 0

    @property
    def p99(self) -> float:
        return percentile(self.delays, 0.99)

    @property
    def p99_ms(self) -> float:
        return round(self.p99 * 1000, 1)

    def __str__(self) -> str:
        p50, p99 = (percentile(self.delays, share) * 1000 for share in (0.5, 0.99))
        return f"{p50:.1f}/{p99:.1f} ms, {self.cpu:.0%} CPU, {self.memory >> 20} MiB"


def _measure_phase(victim: Curses | Bot, seconds: float) -> _Phase:
    phase, began, cpu = _Phase(), time.monotonic(), _cpu_of(victim.pid)
    while (passed := time.monotonic() - began) < seconds:
        phase.delays.append(victim.answer_seconds())
        victim.rest()
        phase.memory = max(phase.memory, resident(victim.pid))
    phase.cpu = (_cpu_of(victim.pid) - cpu) / passed
    return phase


def _cpu_of(process: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def measure_client(attack: ClientAttack, seconds: float) -> Outcome:
    """Attack a new client and print the report; return the result."""
    say(f"{attack.name}: {attack.title}")
    with tempfile.TemporaryDirectory() as place, _hostile(attack.name) as server:
        home = Path(place)
        kind = Bot if attack.bot else Curses
        victim = kind(server.port, home)
        try:
            before = _measure_phase(victim, _QUIET_SECONDS)
            written = _size_of(home)
            server.tell()
            during = _measure_phase(victim, seconds)
            server.tell()
            settling = _measure_phase(victim, _SETTLE_SECONDS)
            after = _measure_phase(victim, _AFTER_SECONDS)
        except (EOFError, OSError, ValueError):
            say("    NOT as asked: the client has ended")
            return Outcome("client", attack.title, (0, 0, 0), 0, 0, "", missed=["ended"])
        finally:
            victim.close()
        tally = server.end()
        disk = _size_of(home) - written
        works = not attack.elsewhere or _works_elsewhere(home)
    during.memory = max(during.memory, settling.memory)
    return _report(attack, (before, during, after), disk, tally, works=works)


def _report(
    attack: ClientAttack,
    phases: tuple[_Phase, _Phase, _Phase],
    disk: int,
    tally: dict[str, int],
    *,
    works: bool,
) -> Outcome:
    before, during, after = phases
    most = 2 * before.p99 + _SLACK_SECONDS
    grown = max(0, during.memory - before.memory)
    checks = {
        "p99 at most doubled": during.p99 <= most,
        "as before within 10 s": after.p99 <= most and after.cpu <= before.cpu + _IDLE,
        "memory": grown <= attack.memory,
        "disk": disk <= attack.disk,
        "works elsewhere": works,
        **{what: tally.get(what, 0) <= number for what, number in attack.counts.items()},
    }
    say(f"    {_ANSWER if attack.bot else _KEY}, p50/p99: {before} before")
    say(f"        {during} while")
    say(f"        {after} after")
    most_memory = attack.memory >> 20
    say(f"    client: +{grown >> 20} MiB of at most {most_memory}, {disk >> 10} KiB written")
    say("    server: " + (", ".join(f"{n} {one}" for one, n in tally.items()) or "nothing"))
    say(f"    stopped by: {attack.stopped_by}")
    missed = [name for name, held in checks.items() if not held]
    say("    all is as asked" if not missed else f"    NOT as asked: {', '.join(missed)}")
    return Outcome(
        "bot: " + _ANSWER if attack.bot else "client: " + _KEY,
        attack.title,
        (before.p99_ms, during.p99_ms, after.p99_ms),
        grown / 1024,
        during.cpu,
        attack.stopped_by,
        missed=missed,
    )


def _size_of(place: Path) -> int:
    """Return how many bytes the files below a directory have."""
    total = 0
    for path in place.rglob("*"):
        with suppress(FileNotFoundError):  # it was renamed or removed meanwhile
            total += path.lstat().st_size
    return total


def _works_elsewhere(home: Path) -> bool:
    """Return whether a client with this home can post at an honest server."""
    with serving((), Path.cwd()) as server:
        place = [HOST, str(server.address.port), "--user", "alice", "--group", GROUP]
        done = subprocess.run(
            [sys.executable, "-m", "tchat", "join", *place, "--create"],
            env={**os.environ, "TCHAT_HOME": str(home / "tchat")},
            input=b"hi\n",
            capture_output=True,
            check=False,
            timeout=60,
        )
    if done.returncode:
        say("    " + done.stderr.decode().strip())
    return done.returncode == 0


# ------------------------------------------------------------------ the hostile server's process


class _Hostile:
    """The process of a hostile server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._input: IO[str] = process.stdin
        self._output: IO[str] = process.stdout
        self.port = int(self._read()["port"])

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._output.readline())
        return found

    def tell(self) -> None:
        """Begin the attack, or end it."""
        self._input.write("\n")
        self._input.flush()

    def end(self) -> dict[str, int]:
        """End the server; return its tally."""
        self.tell()
        return self._read()


@contextmanager
def _hostile(name: str) -> Iterator[_Hostile]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.attacks", name, "--stage"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield _Hostile(process)
        finally:
            process.kill()

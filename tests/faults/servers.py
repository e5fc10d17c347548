"""Servers to be killed: forked from a process that has imported tchat, and so started quickly.

`python -m tests.faults.servers` is that process (the *nest*). It reads commands in JSON from its
standard input and forks a child for each, which runs `tchat.cli.main`; then it prints the child's
process id, and at the child's end, its status. The child's output goes to a file.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from tests.faults.harness import Episode

HOST = "127.0.0.1"
PATIENCE = 60.0
"""Seconds after which a wait counts as hanging."""

OPTIONS = ("--no-tls", "--rate-limit", "off", "--disk-reserve", "0")


class TimedOut(Exception):
    """A wait took too long; the sentence says what for. Unlike `TimeoutError`, no `OSError`."""


@contextmanager
def waiting_for(what: str, seconds: float = PATIENCE) -> Iterator[None]:
    """Raise `TimedOut` if the block takes longer than this."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise TimedOut(f"after {seconds:.0f} s, still waiting for {what}") from None


# ------------------------------------------------------------------ the process that forks


def main() -> None:
    """Fork a child for each command until standard input ends."""
    commands, out = sys.stdin, sys.stdout
    for line in commands:
        command = json.loads(line)
        child = os.fork()
        if not child:
            _run(command)
        print(child, file=out, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=out, flush=True)


def _run(command: dict[str, Any]) -> None:
    """Become a program of tchat; never return."""
    status = 1
    try:
        os.setsid()
        random.seed()
        log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(command.get("environment", {}))
        _shift_clock(command.get("clock", 0.0))
        from tchat.cli import main as tchat_main

        status = tchat_main(command["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  # the child may not go on as its parent
        with suppress(OSError):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(status)


def _shift_clock(seconds: float) -> None:
    """Shift the wall clock of this process, as Python sees it."""
    if not seconds:
        return
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)


# ------------------------------------------------------------------ the harness's side


@dataclass(slots=True)
class Nest:
    """The process that forks, with at most one child at a time."""

    process: subprocess.Popen[str]
    log: Path
    child: int = 0

    def start(self, *arguments: object, clock: float = 0.0, **environment: str) -> None:
        """Start a child."""
        assert not self.child, "a child is still running"
        command = {
            "arguments": [*map(str, arguments)],
            "log": str(self.log),
            "clock": clock,
            "environment": environment,
        }
        assert self.process.stdin is not None
        print(json.dumps(command), file=self.process.stdin, flush=True)
        self.child = int(self._line())

    def signal(self, number: int) -> None:
        """Send a signal to the child."""
        os.kill(self.child, number)

    def wait(self) -> int:
        """Wait for the child's end; return its status, or a signal as -number."""
        status = int(self._line())
        self.child = 0
        return status

    def kill(self) -> int:
        """Kill the child with SIGKILL, unless it has just ended; return its status."""
        with suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        return self.wait()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@contextmanager
def nest(log: Path) -> Iterator[Nest]:
    """Give a nest for the length of the block; kill what still runs at its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.servers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    one = Nest(process, log)
    try:
        yield one
    finally:
        if one.child:
            one.kill()
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.kill()
    process.wait()


@dataclass(slots=True)
class Server:
    """A server on a data directory and a port, which can be killed and started again."""

    nest: Nest
    data: Path
    options: tuple[str, ...] = OPTIONS
    port: int = 0
    starts: int = 0
    _read: int = field(default=0)

    def start(self, *options: str, clock: float = 0.0) -> None:
        """Start it, on the same port as before."""
        where = ("serve", HOST, self.port, "--data", self.data, "--log-format", "json")
        self._read = self.nest.log.stat().st_size if self.nest.log.exists() else 0
        self.nest.start(*where, *self.options, *options, clock=clock)
        self.starts += 1

    @property
    def output(self) -> str:
        """All that it has printed, in all its runs."""
        return self.nest.log.read_text(errors="replace") if self.nest.log.exists() else ""

    @property
    def latest(self) -> str:
        """What it has printed in its last run."""
        if not self.nest.log.exists():
            return ""
        with self.nest.log.open("rb") as file:
            file.seek(self._read)
            return file.read().decode(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether it has not been killed or stopped, and has not ended."""
        return (
            bool(self.nest.child)
            and Path(f"/proc/{self.nest.child}/stat").exists()
            and (
                Path(f"/proc/{self.nest.child}/stat").read_text().rpartition(")")[2].split()[0]
                != "Z"
            )
        )

    async def listening(self) -> None:
        """Wait until it listens. Raises `RuntimeError` if it ends before."""
        with waiting_for("a server to listen"):
            while not (found := listening_port(self.latest)):
                if not self.is_running:
                    raise RuntimeError(f"the server did not start: {self.latest}")
                await trio.sleep(0.002)
        self.port = found

    def kill(self) -> None:
        """Kill it with SIGKILL. Raises `RuntimeError` if it had ended by itself."""
        if (status := self.nest.kill()) != -signal.SIGKILL:
            raise RuntimeError(f"the server had ended with status {status}: {self.latest}")

    async def stop(self) -> int:
        """Stop it with SIGTERM, unless it has just ended by itself; return its exit status."""
        with suppress(ProcessLookupError):
            self.nest.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end; return its exit status."""
        with waiting_for("the end of a server"):
            return await trio.to_thread.run_sync(self.nest.wait, abandon_on_cancel=True)


@dataclass(slots=True)
class Traced:
    """A server under strace."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def server(self) -> int:
        """The process id of the server itself, the child of strace."""
        return _children(self.process.pid)[0]

    async def port(self) -> int:
        """Wait until it listens; return its port."""
        with waiting_for("a server under strace to listen"):
            while not (found := listening_port(self.log.read_text())):
                if self.process.poll() is not None:
                    raise RuntimeError(f"the server did not start: {self.log.read_text()}")
                await trio.sleep(0.02)
        return found

    async def end(self, number: int) -> None:
        """End it with a signal."""
        os.kill(self.server, number)
        with waiting_for("the end of a server under strace"):
            await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)


def _children(process: int) -> list[int]:
    return [*map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]


@contextmanager
def traced(place: Path, name: str, under: Sequence[str], port: int = 0) -> Iterator[Traced]:
    """Run `tchat serve` on `place`/data under strace, given as its words; kill it at the end."""
    log, data = place / f"{name}.log", place / "data"
    command = [*under, sys.executable, "-m", "tchat", "serve", HOST, str(port)]
    command += ["--data", str(data), "--log-format", "json", *OPTIONS]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield Traced(process, log)
    finally:
        if process.poll() is None:
            for child in (
                Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            ):
                os.kill(int(child), signal.SIGKILL)
            process.wait()


def listening_port(output: str) -> int:
    """Return the port that a server says in its log that it listens on; 0 if it has not yet."""
    for line in output.splitlines():
        if '"listening"' in line and line.endswith("}"):
            return int(json.loads(line)["address"].rpartition(":")[2])
    return 0


@asynccontextmanager
async def serving(
    episode: Episode, *options: str, data: Path | None = None
) -> AsyncIterator[Server]:
    """Start a server in the directory of an episode; stop it at the end, if it still runs."""
    with nest(episode.place / "server.log") as one:
        server = Server(one, data or episode.place / "data", (*OPTIONS, *options))
        server.start()
        await server.listening()
        yield server
        if one.child and (status := await server.stop()):
            episode.problem(f"the server ended with status {status}")
        for trace in traces_in(server.output):
            episode.problem(f"the server printed a traceback: {trace}")


def run_tchat(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of tchat to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tchat", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE * 5,
        env={**os.environ, **environment},
    )


def traces_in(output: str) -> Sequence[str]:
    """Return the last line of each traceback in a program's output."""
    parts = output.split("Traceback (most recent call last)")[1:]
    return [
        next((line for line in part.splitlines()[1:] if line and not line.startswith(" ")), "")
        for part in parts
    ]


if __name__ == "__main__":
    main()

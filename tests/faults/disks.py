"""Broken disks: I/O errors at any system call, and disks that are full."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import trio

from tests.faults.harness import Missing, Row, run_episodes, settle
from tests.faults.members import Crew, Habits, crew_of, dialer
from tests.faults.recording import strace_words
from tests.faults.servers import serving, traced, traces_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.faults.harness import Episode, Trial
    from tests.faults.servers import Server, Traced

_CALLS = ("pwrite64", "pwrite64", "fdatasync", "fdatasync", "fsync", "ftruncate", "pread64")
_ERRORS = ("EIO", "EIO", "ENOSPC", "EDQUOT")
_LATEST = 400  # call that fails, counted in each thread
_RUN_SECONDS = 1.5
_START_SECONDS = 10.0
_GENTLE = Habits(pause=0.01)


# ------------------------------------------------------------------ I/O errors


async def io_errors(trial: Trial) -> None:
    """Let one kind of system call fail from some moment on, for a while; then restart."""
    await run_episodes(trial, _failing_calls, os.cpu_count() or 1)


async def _failing_calls(episode: Episode) -> None:
    rng, trial = episode.random, episode.trial
    call, error = rng.choice(_CALLS), rng.choice(_ERRORS)
    if call == "pread64":
        error = "EIO"
    first, number = rng.randint(1, rng.choice([4, 30, _LATEST])), rng.choice([1, 1, 3, 30])
    when = f"{first}..{first + number - 1}"
    async with serving(episode) as server:
        crew = Crew(dialer(lambda: server.port), episode.seed, habits=_GENTLE)
        async with crew_of(crew):
            await crew.until(lambda: len(crew.ledger.operations) > 20, "new commands")
            server.kill()
            under = strace_words(
                *("-P", str(server.data / "tchat.db"), "-P", str(server.data / "tchat.db-wal")),
                *("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"),
                output=episode.place / "failing.trace",
            )
            with traced(episode.place, "failing", under, server.port) as failing:
                trial.counts[f"{call} {error}"] += 1
                await _live(episode, failing, crew)
            trace = (episode.place / "failing.trace").read_text(errors="replace")
            trial.counts["calls that failed"] += trace.count("(INJECTED)")
            output = failing.log.read_text()
            for line in traces_in(output):
                episode.problem(f"{call} {error} {when}: a traceback: {line}")
            server.start()
            await server.listening()
            await crew.quiesce()
    await settle(episode, crew, server.data)


async def _live(episode: Episode, failing: Traced, crew: Crew) -> None:
    """Let a server run for a while; kill it unless it has ended by itself."""
    with trio.move_on_after(_START_SECONDS):
        with suppress(RuntimeError):
            await failing.port()
            before = crew.ledger.fates()["acknowledged"]
            await trio.sleep(_RUN_SECONDS)
            answered = crew.ledger.fates()["acknowledged"] - before
            episode.trial.counts["answers meanwhile"] += answered
    status = failing.process.poll()
    if status is None:
        await failing.end(signal.SIGKILL)
        return
    episode.trial.counts["ended by itself"] += 1
    said = failing.log.read_text()
    if not said.strip():
        episode.problem(f"the server ended with status {status}, without a word")


# ------------------------------------------------------------------ full disks


class _Disk(Protocol):
    """A data directory that can be made full."""

    def fill(self, server: Server) -> None:
        """Leave no room."""

    def free(self, server: Server) -> None:
        """Make room again."""


class _LimitedFiles:
    """The largest size of a file of the server's process (EFBIG), as `ulimit -f` sets it."""

    kind = "limited files"

    def fill(self, server: Server) -> None:
        """Let no file become larger than the largest that is there."""
        sizes = [file.stat().st_size for file in server.data.glob("tchat.db*")]
        resource.prlimit(server.nest.child, resource.RLIMIT_FSIZE, (max(sizes), -1))

    def free(self, server: Server) -> None:
        """Lift the limit."""
        resource.prlimit(server.nest.child, resource.RLIMIT_FSIZE, (-1, -1))


class _SmallDisk:
    """A small tmpfs (ENOSPC)."""

    kind = "small disk"

    def __init__(self, path: Path) -> None:
        self._filler = path / "filler"

    def fill(self, server: Server) -> None:
        """Write a file until nothing more fits."""
        with self._filler.open("ab", buffering=0) as filler:
            for size in (1 << 16, 1 << 12, 1):
                with suppress(OSError):
                    while True:
                        filler.write(bytes(size))

    def free(self, server: Server) -> None:
        """Remove the file."""
        self._filler.unlink(missing_ok=True)


@contextmanager
def _small_disk(path: Path) -> Iterator[_SmallDisk]:
    """Mount a tmpfs of 24 MiB. Raises `Missing`."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        raise Missing("mounting a tmpfs is not permitted here (it needs root)")
    try:
        yield _SmallDisk(path)
    finally:
        unmount = ["umount", "--lazy", str(path)]
        subprocess.run(unmount, check=False)


async def full_disk(trial: Trial) -> None:
    """Fill the disk and free it again, in turns a tmpfs and a limit of the size of files."""
    await run_episodes(trial, _full_disk, os.cpu_count() or 1)


async def _full_disk(episode: Episode) -> None:
    if episode.seed % 2:
        try:
            with _small_disk(episode.place / "disk") as disk:
                await _fill_and_free(episode, disk, episode.place / "disk" / "data")
        except Missing as missing:
            note = f"only with limited files: {missing}"
            if note not in episode.trial.notes:
                episode.trial.notes.append(note)
        else:
            return
    await _fill_and_free(episode, _LimitedFiles(), episode.place / "data")


async def _fill_and_free(episode: Episode, disk: _Disk, data: Path) -> None:
    trial = episode.trial
    async with serving(episode, data=data) as server:
        crew = Crew(dialer(lambda: server.port), episode.seed, habits=_GENTLE)
        async with crew_of(crew):
            for _ in range(3):
                await crew.until_more(60)
                disk.fill(server)
                trial.counts["times full"] += 1
                await trio.sleep(0.7)
                if episode.random.random() < 0.4:
                    await _restart_full(episode, server, disk)
                disk.free(server)
                if not server.is_running:
                    episode.problem("the server ended while the disk was full")
                    await server.ended()
                    server.start()
                    await server.listening()
            trial.counts["refused as full"] += crew.refusals["storage_full"]
            await crew.quiesce()
    await settle(episode, crew, data)


async def _restart_full(episode: Episode, server: Server, disk: _Disk) -> None:
    """Kill the server and start it on the full disk; if it does not start, make room."""
    server.kill()
    server.start()
    episode.trial.counts["restarts while full"] += 1
    try:
        await server.listening()
        await trio.sleep(0.3)
    except RuntimeError as error:
        said = str(error).strip().splitlines()[-1]
        episode.problem(f"the server does not start on a full disk: {said}")
        await server.ended()
        if isinstance(disk, _SmallDisk):
            disk.free(server)
        server.start()
        await server.listening()


ROWS = [
    Row("io-errors", "system calls on the database that fail (strace)", io_errors, 5.0),
    Row("full-disk", "a disk that is full, and then not", full_disk, 2.5),
]

"""File transfer benchmark: throughput and memory: `python -m tests.bench.files`.

A server in a process of its own, a client in this one, and a file of random bytes, up and down,
without and with TLS. As references, in the same run and on the same disk: SHA-256 alone, which
every byte passes through at both ends; a bare copy between two processes with Trio, neither hashed
nor stored; and writing as much to disk, with and without fsync, as an upload does. Then the latency
of chat messages, alone and beside four transfers: see `tests/bench/transfer_latency.py`.

Figures are medians of `--runs`. Each run uses a new file, so that nothing is deduplicated. Time for
allocating memory is excluded as far as possible: see `touch_memory`.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tchat.client.files.transfer import fetch_file, send_file
from tests.bench.connection_flood import serving
from tests.bench.report import say
from tests.bench.setup import MIB, make_file, pair_at, touch_memory
from tests.bench.transfer_latency import measure_beside
from tests.helpers import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tests.bench.connection_flood import Server


@dataclass(slots=True)
class Figures:
    """Bytes per second by measure, and their ratios to SHA-256 alone measured just before.

    Just before, because the speed of a shared machine changes within a minute.
    """

    rates: dict[str, list[float]] = field(default_factory=dict)
    shares: dict[str, list[float]] = field(default_factory=dict)
    _ceiling: float = 1.0

    def note(self, what: str, size: int, seconds: float) -> None:
        self.rates.setdefault(what, []).append(size / seconds)
        self.shares.setdefault(what, []).append(size / seconds / self._ceiling)

    def hash_alone(self, path: Path) -> None:
        """Measure SHA-256 alone; the ratios of later notes refer to it."""
        size, began = path.stat().st_size, time.perf_counter()
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
        seconds = time.perf_counter() - began
        self._ceiling = size / seconds
        self.note("SHA-256 alone", size, seconds)


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# ------------------------------------------------------------------ references


def write_alone(path: Path, size: int, *, wait: bool) -> None:
    data = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(data)
        if wait:
            file.flush()
            os.fsync(file.fileno())
    path.unlink()


def take_copy(ready: Connection) -> None:
    """Receive and discard everything, in a process of its own."""

    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        ready.send(listener.socket.getsockname()[1])
        async with await listener.accept() as stream:
            while await stream.receive_some(256 * 1024):
                pass
            await stream.send_all(b"!")

    trio.run(main)


def bare_copy(path: Path) -> None:
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=take_copy, args=(theirs,))
    process.start()
    port = mine.recv()
    trio.run(_send_copy, path, port)
    process.join()


async def _send_copy(path: Path, port: int) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream, await trio.open_file(path, "rb") as file:
        began = time.perf_counter()
        while data := await file.read(MIB):
            await stream.send_all(data)
        await stream.send_eof()
        await stream.receive_some(1)
        BARE.append(time.perf_counter() - began)


BARE: list[float] = []


# ------------------------------------------------------------------ transfers


async def up_and_down(server: Server, place: Path, size: int, runs: int, figures: Figures) -> None:
    """Upload and download a file `runs` times; print the server's peak memory."""
    word = "TLS" if server.pin else "plain"
    async with pair_at(server) as (alice, ops, bob, there):
        await once(alice, ops, bob, there, place, MIB * 16, Figures(), word)  # warm-up
        before = server.memory
        peaks: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, server, peaks)
            for _ in range(runs):
                await once(alice, ops, bob, there, place, size, figures, word)
            nursery.cancel_scope.cancel()
    say(
        f"server's memory, {word}: {before / MIB:.1f} MiB before, {max(peaks) / MIB:.1f} at most"
        f" while {size // MIB} MiB went up and down {runs} times"
    )


async def once(
    alice: Session,
    ops: Replica,
    bob: Session,
    there: Replica,
    place: Path,
    size: int,
    figures: Figures,
    word: str,
) -> None:
    path = place / "file"
    make_file(path, size)
    number = there.state.numbered + 1
    touch_memory(place, size)
    figures.hash_alone(path)
    began = time.perf_counter()
    await send_file(alice, ops, path)
    figures.note(f"up, {word}", size, time.perf_counter() - began)
    await until(bob, lambda: there.state.numbered >= number)
    touch_memory(place, size)
    figures.hash_alone(path)
    began = time.perf_counter()
    got = await fetch_file(bob, there, there.state.files[number], place / "down")
    figures.note(f"down, {word}", size, time.perf_counter() - began)
    got.unlink()
    path.unlink()


async def watch(server: Server, peaks: list[int]) -> None:
    while True:
        peaks.append(server.memory)
        await trio.sleep(0.02)


# ------------------------------------------------------------------ all together


def measure(place: Path, size: int, runs: int) -> None:
    """Run all measures, one after the other, in the same directory."""
    figures = Figures()
    sample = place / "sample"
    make_file(sample, size)
    for _ in range(runs):
        figures.hash_alone(sample)
        bare_copy(sample)
        figures.note("bare Trio copy", size, BARE.pop())
        touch_memory(place, size)
        figures.note("writing", size, timed(lambda: write_alone(place / "w", size, wait=False)))
        figures.note(
            "writing, fsync", size, timed(lambda: write_alone(place / "w", size, wait=True))
        )
    sample.unlink()
    for tls in (False, True):
        with serving(place / f"data{tls:d}", 100, tls=tls) as server:
            trio.run(up_and_down, server, place, size, runs, figures)
    say(f"\n{size // MIB} MiB, median of {runs}         MB/s   of SHA-256 alone   from, to MB/s")
    for what, rates in figures.rates.items():
        rate, share = map(statistics.median, (rates, figures.shares[what]))
        least, most = min(rates) / 1e6, max(rates) / 1e6
        say(f"{what:24} {rate / 1e6:8.0f}   {share:.2f} {least:20.0f}, {most:.0f}")
    measure_beside(place, size, runs)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description="Measure file transfers.")
    parser.add_argument("--size", type=int, default=1024, help="of the file, in MiB (1024)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each measure (3)")
    parser.add_argument(
        "--directory",
        type=Path,
        help="directory for the files, for example on another disk or in memory",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory) as place:
        measure(Path(place), given.size * MIB, given.runs)


if __name__ == "__main__":
    main()

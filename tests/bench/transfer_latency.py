"""Chat latency beside file transfers, and the disk's share in it; run by `tests.bench.files`.

A message is delivered after its commit has reached the disk. So the disk is measured alone as
well, within the same minutes: a thread writes and syncs as much as a commit does, repeatedly, alone
and beside four threads that write as much as the transfers did. That is the lower bound for chat
on this disk.

Each window has a server of its own, and its files are removed before the next one begins: to remove
a gigabyte blocks a disk for longer than to write it.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import threading
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio

from tchat.client.files.transfer import fetch_file, send_file
from tchat.net.address import Address
from tests.bench.connection_flood import QUIET_SECONDS, Pair, serving
from tests.bench.report import percentile, say
from tests.bench.setup import MIB, make_file, pair_at
from tests.helpers import until
from tests.hostile_clients import person

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tests.bench.connection_flood import Server

_WINDOW_SECONDS = 2 * QUIET_SECONDS
_COMMIT_SIZE = 16 * 1024
_LOG_SIZE = 4 * MIB
_PAUSE_SECONDS = 0.01


class Counter(Protocol):
    """An integer in shared memory."""

    value: int


@dataclass(slots=True)
class Latencies:
    """Percentiles of one measure, one entry per window."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)  # bytes per second of the transfers beside

    def note(self, delays: list[float], rate: float) -> None:
        self.p50.append(percentile(delays, 0.5) * 1000)
        self.p99.append(percentile(delays, 0.99) * 1000)
        self.rates.append(rate)


# ------------------------------------------------------------------ transfers


class _Moved:
    """Progress listener that adds transferred bytes to a shared counter."""

    def __init__(self, moved: Counter) -> None:
        self._moved = moved
        self._at = 0

    def on_start(self, name: str, size: int) -> None:
        pass

    def on_checked(self, done: int) -> None:
        pass

    def on_sharing(self) -> None:
        pass

    def on_progress(self, done: int) -> None:
        self._moved.value += max(0, done - self._at)
        self._at = done


def carry_on(
    port: int, pin: bytes | None, place: str, size: int, ready: Connection, moved: Counter
) -> None:
    """Keep four transfers running, two each way, until this process is killed."""
    trio.run(_carry_on, Address("127.0.0.1", port), pin, Path(place), size, ready, moved)


async def _carry_on(
    address: Address, pin: bytes | None, place: Path, size: int, ready: Connection, moved: Counter
) -> None:
    async with person(address, "carol", pin) as carol:
        stuff = await carol.enter("stuff")
        first, *others = (place / name for name in ("first", "sent0", "sent1"))
        for path in (first, *others):
            make_file(path, size)
        await send_file(carol, stuff, first)
        await until(carol, lambda: stuff.state.files)

        async def fetch(into: Path) -> None:
            for number in count():
                file = stuff.state.files[1]
                await fetch_file(carol, stuff, file, into / str(number), listener=_Moved(moved))

        async def send(path: Path) -> None:
            for number in count():
                with path.open("r+b") as file:  # a new file for the server, made at no cost
                    file.write(number.to_bytes(8, "big"))
                await send_file(carol, stuff, path, _Moved(moved))

        async with trio.open_nursery() as nursery:
            for path in others:
                nursery.start_soon(fetch, path.with_suffix(".fetched"))
                nursery.start_soon(send, path)
            ready.send("going")


async def _chat(
    server: Server, place: Path, size: int, alone: Latencies, beside: Latencies
) -> None:
    """Record message latency, alone and beside transfers."""
    async with pair_at(server) as (alice, ops, bob, there):
        pair = Pair(alice, ops, bob, there)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.chat)
            await trio.sleep(QUIET_SECONDS)
            alone.note(pair.delays, 0)
            spawning = multiprocessing.get_context("spawn")
            moved = spawning.Value("q", 0, lock=False)
            mine, theirs = spawning.Pipe()
            process = spawning.Process(
                target=carry_on,
                args=(server.address.port, server.pin, str(place), size, theirs, moved),
            )
            process.start()
            await trio.to_thread.run_sync(mine.recv)
            pair.delays, before = [], moved.value
            await trio.sleep(_WINDOW_SECONDS)
            beside.note(pair.delays, (moved.value - before) / _WINDOW_SECONDS)
            process.kill()
            process.join()
            nursery.cancel_scope.cancel()


# ------------------------------------------------------------------ the disk


def write_beside(path: Path, rate: float, ended: threading.Event) -> None:
    """Write pieces at `rate` bytes per second, each flushed at once, until `ended` is set."""
    data = memoryview(os.urandom(MIB))
    with path.open("wb", buffering=0) as file:
        began = time.monotonic()
        for number in count(1):
            file.write(data)
            os.posix_fadvise(file.fileno(), file.tell() - MIB, MIB, os.POSIX_FADV_DONTNEED)
            if ended.wait(max(0.0, began + number * MIB / rate - time.monotonic())):
                return


def commit(path: Path, seconds: float) -> list[float]:
    """Write and sync as much as a commit does, repeatedly; return the time of each."""
    delays: list[float] = []
    with path.open("w+b", buffering=0) as file:
        file.write(bytes(_LOG_SIZE))
        os.fsync(file.fileno())
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            at = len(delays) * _COMMIT_SIZE % _LOG_SIZE
            os.pwrite(file.fileno(), os.urandom(_COMMIT_SIZE), at)
            os.fdatasync(file.fileno())
            delays.append(time.monotonic() - began)
            time.sleep(_PAUSE_SECONDS)
    return delays


def _ask_disk(place: Path, rate: float, alone: Latencies, beside: Latencies) -> None:
    alone.note(commit(place / "log", QUIET_SECONDS), 0)
    ended = threading.Event()
    writers = [
        threading.Thread(target=write_beside, args=(place / f"bare{number}", rate / 4, ended))
        for number in range(4)
    ]
    for writer in writers:
        writer.start()
    beside.note(commit(place / "log", _WINDOW_SECONDS), rate)
    ended.set()
    for writer in writers:
        writer.join()


# ------------------------------------------------------------------ all together


def measure_beside(place: Path, size: int, runs: int) -> None:
    """Print the latency of messages and commits, measured in alternating windows."""
    found = {
        (what, where): Latencies()
        for what in ("a message, plain", "a message, TLS", "a bare commit")
        for where in ("alone", "beside")
    }
    for _ in range(runs):
        for word in ("plain", "TLS"):
            here = _emptied(place / "chat")
            with serving(here / "data", 100, tls=word == "TLS") as server:
                what = f"a message, {word}"
                trio.run(_chat, server, here, size, found[what, "alone"], found[what, "beside"])
        rate = statistics.median(found["a message, plain", "beside"].rates)
        alone, beside = found["a bare commit", "alone"], found["a bare commit", "beside"]
        _ask_disk(_emptied(place / "chat"), rate, alone, beside)
    _emptied(place / "chat")
    say(f"\nmilliseconds, medians of {runs}            p50     p99   (from, to)   beside MB/s")
    for (what, where), each in found.items():
        p50, p99, rate = map(statistics.median, (each.p50, each.p99, each.rates))
        span = f"({min(each.p99):.1f}, {max(each.p99):.1f})"
        say(f"{what + ', ' + where:36} {p50:7.1f} {p99:7.1f} {span:>16} {rate / 1e6:8.0f}")


def _emptied(place: Path) -> Path:
    """Return an empty directory, with all earlier writes synced to disk."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    os.sync()
    return place

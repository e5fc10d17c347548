"""Connection flood: memory and latency cost of thousands of silent or slow connections."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import trio

from tchat.net.address import Address
from tchat.net.tcp import connect
from tchat.net.tls import client_context, open_tls
from tests.bench.report import percentile, resident, say
from tests.bench.servers import report_faults, start_tchat
from tests.bench.setup import pair_at
from tests.cddl import unchecked
from tests.helpers import hello_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.client.replica import Replica
    from tchat.client.session import Session

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


async def attack(address: Address, number: int, kind: Kind) -> None:
    """Open `number` connections until all are cut; report when all are open and when they end."""
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
    """A server process."""

    process: subprocess.Popen[str]
    address: Address
    pin: bytes | None

    @property
    def memory(self) -> int:
        """Return its resident memory in bytes (VmRSS)."""
        return resident(self.process.pid)


@contextmanager
def serving(data: Path, number: int, *, tls: bool) -> Iterator[Server]:
    """Start `python -m tchat serve` for the length of the block, for `number` connections."""
    options = ["--handshake-time", str(HANDSHAKE_SECONDS), "--max-files", "1T"]
    options += ["--max-strangers", str(2 * number), "--max-strangers-each", str(2 * number)]
    options += [] if tls else ["--no-tls"]
    log = data.with_suffix(".log")
    process, port, pin = start_tchat(data, log, *options)
    try:
        yield Server(process, Address("127.0.0.1", port), pin)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    report_faults(log)


class Pair:
    """Alice posts, Bob receives; records the latency of each message."""

    def __init__(self, alice: Session, ops: Replica, bob: Session, there: Replica) -> None:
        self.delays: list[float] = []
        self._alice, self._ops, self._bob, self._there = alice, ops, bob, there

    async def chat(self) -> None:
        """Post at most 100 messages per second until cancelled."""
        while True:
            began, seq = time.perf_counter(), self._there.state.seq
            self._alice.post(self._ops, "hello")
            await until(self._bob, lambda seq=seq: self._there.state.seq > seq)  # type: ignore[misc]
            self.delays.append(time.perf_counter() - began)
            await trio.sleep(0.01)


async def measure_strangers(server: Server, number: int, kind: Kind) -> None:
    """Flood a server with connections and print what they cost."""
    async with pair_at(server) as (alice, ops, bob, there):
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
                    await trio.sleep(1)  # the last of them may not be accepted yet
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
    """Measure each kind of connection at a server of its own."""
    say(f"\n{number} unauthenticated connections, cut after {HANDSHAKE_SECONDS} s")
    say("memory is RSS; latencies of a chatting pair in ms (p50, p99): alone, while they")
    say("connect, while they stay and are cut; 'cut' in s after each began to connect")
    say(
        "connections                  cut    KiB each  MiB before, with   cut first, last"
        "   alone           coming          staying   lost"
    )
    for kind in KINDS:
        with (
            tempfile.TemporaryDirectory() as place,
            serving(Path(place) / "data", number, tls=kind.startswith("tls")) as server,
        ):
            trio.run(measure_strangers, server, number, kind)

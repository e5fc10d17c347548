"""Terminal UI benchmark: latency of keys, first paint, memory: `python -m tests.bench.screen`.

A server and the client run in processes of their own, the client in a pseudo-terminal, with all of
a long log loaded (normally it loads the newest messages, and the others on scrolling up). All
times are measured from outside, at the other end of the terminal: a key is written there, and the
painted output is read there.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import Self

import ptyprocess
import trio

from tchat.core.group.settings import SetPolicy
from tchat.net.address import Address
from tests.bench.connection_flood import Server, serving
from tests.bench.report import percentile, say
from tests.helpers import GROUP
from tests.hostile_clients import person

_MIB = 1 << 20
_TYPED = "éßøñåçæþ"
"""Letters that occur in no message and no escape sequence: seen only when typed."""

_BEGIN, _END = "ÂÊÎÔÛ", "ĀĒĪŌŪ"
"""First and last message of a burst: of letters that occur nowhere else, so that no cell of them is
skipped when they are painted over another message."""

_WORDS = ("disk", "full", "again", "who", "has", "the", "key", "of", "rack", "seven", "lunch")
_ALL = """
import sys, tchat.cli.join, tchat.ui.tui.screen as screen
tchat.cli.join.RECENT = 1 << 30
paint = screen.Screen.paint
def counted(self, picture):
    paint(self, picture)
    self.write_raw(b"\\x1b[0n")
screen.Screen.paint = counted
sys.exit(tchat.cli.main())
"""
"""The client, patched to load the whole log and to mark the end of each paint."""

_MARK = b"\x1b[0n"
_SELF = [sys.executable, "-m", "tests.bench.screen"]
_AT_ONCE = 1000
_KEPT = 1 << 16
_IMPORTS = "import tchat.cli, tchat.ui.tui.app"


class Seat:
    """The client in a pseudo-terminal of 80 by 24 cells."""

    def __init__(self, server: Server, home: Path, user: str, program: str | None = None) -> None:
        where = ["127.0.0.1", str(server.address.port), "--no-tls", "--user", user]
        asked = ["join", *where, "--group", GROUP, "--downloads", str(home / user)]
        ways = ["-c", program] if program else ["-m", "tchat"]
        self.began = time.perf_counter()
        self.process = ptyprocess.PtyProcess.spawn(
            [sys.executable, *ways, *asked],
            env={**os.environ, "TERM": "xterm-256color", "TCHAT_HOME": str(home / user)},
            dimensions=(24, 80),
        )
        self.raw = b""
        self.painted = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.close(force=True)

    @property
    def memory(self) -> int:
        """Return the resident memory of the client in bytes (VmRSS)."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", text)
        return int(found[1]) * 1024 if found else 0

    def read(self, seconds: float) -> bytes:
        """Return painted output, waiting for at most `seconds`."""
        ready, _, _ = select.select([self.process.fd], [], [], seconds)
        data = bytes(self.process.read(1 << 16)) if ready else b""
        self.painted += data.count(_MARK)
        self.raw = (self.raw + data)[-_KEPT:]
        return data

    def sees(self, text: str) -> float:
        """Wait until a text is painted; return the time."""
        while text.encode() not in self.raw:
            self.read(10)
        return time.perf_counter()

    def rest(self, seconds: float = 0.3) -> None:
        """Wait until nothing is painted for `seconds`."""
        while self.read(seconds):
            pass

    def typing(self, letter: str) -> float:
        """Type a letter; return the seconds until it is painted."""
        wanted, seen = letter.encode(), b""
        began = time.perf_counter()
        self.process.write(wanted)
        while wanted not in seen:
            seen = seen[-8:] + self.read(10)
        return time.perf_counter() - began

    def pressing(self, key: str) -> float:
        """Press a key when the screen is at rest; return the seconds until it is painted."""
        self.rest(0.05)
        began, painted = time.perf_counter(), self.painted
        self.process.write(key.encode())
        while self.painted == painted:
            self.read(10)
        return time.perf_counter() - began

    def leave(self) -> None:
        """Quit the client and wait for it to end."""
        self.process.write(b"\x03/quit\r")
        while self.process.isalive():
            try:
                self.read(0.1)
            except EOFError:
                break
        self.process.wait()


# ------------------------------------------------------------------ the other member


async def pour(port: int, messages: int) -> None:
    """Post `messages` messages at full speed, in an open group."""
    async with person(Address("127.0.0.1", port), "bob", None) as bob:
        group = await bob.enter(GROUP)
        await bob.request(lambda i, n: SetPolicy(i, n, GROUP, "open"))
        await bob.post(group, _BEGIN).wait()
        for start in range(0, messages, _AT_ONCE):
            for number in range(start, min(start + _AT_ONCE, messages)):
                bob.post(group, said(number))
            await bob.wait_for_answers()
        await bob.post(group, _END).wait()


def said(number: int) -> str:
    """Return a message of typical length."""
    count = 4 + number * 7 % 12
    return f"{number} " + " ".join(_WORDS[(number + n) % len(_WORDS)] for n in range(count))


# ------------------------------------------------------------------ measures


def row(what: str, seconds: list[float]) -> None:
    p50, p99 = (percentile(seconds, share) * 1000 for share in (0.5, 0.99))
    say(f"{what:44} p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   ({len(seconds)})")


def keys(seat: Seat, presses: int) -> None:
    """Print the latency of keys while nothing else happens."""
    took: list[float] = []
    for number, letter in zip(range(presses), cycle(_TYPED), strict=False):
        took.append(seat.typing(letter))
        time.sleep(0.02)
        if number % 40 == 39:
            seat.process.write(b"\x15")
            seat.rest()
    row("a letter typed until it is painted", took)
    seat.process.write(b"\x15")
    seat.rest()
    ways = ["\x1b[5~"] * 20 + ["\x1b[6~"] * 20
    row("a page up or down", [seat.pressing(key) for key in ways * (presses // 100)])


def burst(server: Server, seat: Seat, messages: int) -> None:
    """Print the latency of keys, and the paints per second, while messages arrive at full speed."""
    took: list[float] = []
    seat.raw = b""
    pouring = subprocess.Popen([*_SELF, "--pour", str(server.address.port), str(messages)])
    began, painted = seat.sees(_BEGIN), seat.painted
    for number, letter in enumerate(cycle(_TYPED), start=1):
        took.append(seat.typing(letter))
        seat.read(0.05)
        if number % 37 == 0:  # not a multiple of 8: each cell gets another letter each time
            seat.process.write(b"\x15")
        if _END.encode() in seat.raw:
            break
    seconds = time.perf_counter() - began
    painted = seat.painted - painted
    pouring.wait()
    row(f"a letter while {messages} messages come", took)
    say(f"    {messages / seconds:.0f} a second, {painted / seconds:.0f} paints a second,")
    say(f"    of which {len(took) / seconds:.0f} were of letters")


def first_paint(server: Server, home: Path, runs: int) -> None:
    """Print the time from the command to the first paint, and the share of imports."""
    empty, full, there = [], [], []
    for number in range(runs):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", _IMPORTS], check=True)
        empty.append(time.perf_counter() - began)
        with Seat(server, home, f"newcomer{number}") as seat:
            full.append(seat.sees(f"#{GROUP}") - seat.began)
            there.append(seat.sees("in ops with") - seat.began)
            seat.leave()
    imports, painted, ready = map(statistics.median, (empty, full, there))
    say(f"interpreter and imports {imports * 1000:.0f} ms; first paint {painted * 1000:.0f} ms,")
    say(
        f"    {(painted - imports) * 1000:.0f} ms beyond; the newest messages {ready * 1000:.0f} ms"
    )


# ------------------------------------------------------------------ all together


def measure(place: Path, messages: int, more: int, presses: int) -> None:
    """Run all measures."""
    with (
        serving(place / "empty", 100, tls=False) as server,
        Seat(server, place, "alice", _ALL) as seat,
    ):
        seat.sees("in ops with")
        seat.rest()
        before = seat.memory
        seat.leave()
    with serving(place / "data", 100, tls=False) as server:
        began = time.perf_counter()
        subprocess.run([*_SELF, "--pour", str(server.address.port), str(messages)], check=True)
        say(f"{messages} messages said in {time.perf_counter() - began:.0f} s")
        first_paint(server, place, 5)
        with Seat(server, place, "alice", _ALL) as seat:
            took = seat.sees("in ops with") - seat.began
            seat.rest()
            cost = (seat.memory - before) / _MIB
            say(f"all of them loaded in {took:.1f} s")
            say(f"memory: {before / _MIB:.0f} MiB with none, {cost:.0f} MiB more with all")
            keys(seat, presses)
            burst(server, seat, more)
            seat.leave()


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description="Measure the terminal UI.")
    parser.add_argument("--messages", type=int, default=100_000, help="loaded (100000)")
    parser.add_argument("--more", type=int, default=10_000, help="that come at once (10000)")
    parser.add_argument("--presses", type=int, default=1000, help="of a key (1000)")
    parser.add_argument("--pour", type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.pour:
        trio.run(pour, *given.pour)
        return
    with tempfile.TemporaryDirectory() as place:
        measure(Path(place), given.messages, given.more, given.presses)


if __name__ == "__main__":
    main()

"""Attack by a member: `seen` and refused commands for group names that do not exist.

`python -m tests.attacks.members_refused` measures what the others notice, and what it costs the
server. 16 connections of one person send as fast as they can, from a process of their own.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tchat.core.group.membership import Join, Kick
from tchat.core.group.messages import Edit, Post
from tchat.core.protocol.frames import Attach, Seen, encode_all
from tchat.net.address import Address
from tests.bench.report import percentile, resident, say
from tests.bench.servers import start_tchat
from tests.helpers import GROUP, raw_client

if TYPE_CHECKING:
    from tchat.core.protocol.schema import Frame
    from tests.helpers import RawClient

CONNECTIONS = 16
SECONDS = 6.0
_BETWEEN_POSTS = 0.06  # within the rate of messages
_FRAMES = 10_000
_MB = 1 << 20


# ------------------------------------------------------------------ the attack


def _unknown_group() -> str:
    return f"group-{random.getrandbits(60):x}"


def _commands() -> bytes:
    """Return commands about groups that do not exist, and read positions there."""
    frames: list[Frame] = []
    for number in range(1, _FRAMES, 4):
        names = [_unknown_group() for _ in range(4)]
        post = Post(number, number, names[1], "x")
        edit = Edit(number + 1, number + 1, names[2], 1, "x")
        frames += [Seen(names[0], 1), post, edit, Kick(number + 2, number + 2, names[3], "x")]
    return encode_all(frames)


def _requests() -> bytes:
    """Return requests about groups that do not exist, and read positions in one that does."""
    frames: list[Frame] = []
    for number in range(1, _FRAMES, 2):
        attach = Attach(number, _unknown_group(), 0)
        frames += [Seen("lair", number), Seen(_unknown_group(), 1), attach]
    return encode_all(frames)


async def attack(address: Address) -> None:
    """Flood until the process is killed."""
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        kinds = (_commands(), _requests())
        for number in range(CONNECTIONS):
            person = await stack.enter_async_context(raw_client(address, "mallory"))
            nursery.start_soon(_send, person, kinds[number % 2])
            nursery.start_soon(_discard, person)
        say("attacking")


async def _send(person: RawClient, frames: bytes) -> None:
    await person.send(Join(1, 1, "lair"))
    while True:
        await person.stream.send_all(frames)


async def _discard(person: RawClient) -> None:
    while await person.stream.receive_some(1 << 16):
        pass


# ------------------------------------------------------------------ what the others notice


class Bystanders:
    """Two people who chat; the time from a post to its event at the other one."""

    def __init__(self, alice: RawClient, bob: RawClient) -> None:
        self._alice = alice
        self._bob = bob
        self._numbers = count(1000)

    async def p99(self, seconds: float) -> float:
        """Return the 99th percentile of latencies over some seconds, in ms."""
        times: list[float] = []
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            began = time.perf_counter()
            await self._alice.say(f"message {next(self._numbers)}")
            await self._bob.events(1)
            times.append(time.perf_counter() - began)
            await trio.sleep(_BETWEEN_POSTS)
        import os

        if os.environ.get("DBG"):
            print(
                [round(t * 1000) for t in sorted(times)][::-1][:12],
                len(times),
                round(percentile(times, 0.5) * 1000, 1),
            )
        return percentile(times, 0.99) * 1000


async def measure(port: int, pid: int) -> None:
    """Print the figures before, during and after the attack."""
    address = Address("127.0.0.1", port)
    async with raw_client(address, "alice") as alice, raw_client(address, "bob") as bob:
        await alice.command(Join)
        await bob.command(Join)
        await alice.send_map(
            {"type": "approve", "id": 900, "n": 900, "group": GROUP, "name": "bob"}
        )
        while (await alice.receive()).to_map().get("re") != 900:  # type: ignore[union-attr]
            pass
        await bob.attach()
        await bob.before_pong()
        others = Bystanders(alice, bob)
        before, memory, cpu = await others.p99(SECONDS), resident(pid), _cpu(pid)
        command = [sys.executable, "-m", "tests.attacks.members_refused", "--attack", str(port)]
        attacker = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
        assert attacker.stdout is not None
        await attacker.stdout.receive_some()  # until it has begun
        await trio.sleep(2)
        began = time.perf_counter()
        cpu = _cpu(pid)
        during = await others.p99(SECONDS)
        share = (_cpu(pid) - cpu) / (time.perf_counter() - began)
        logged_in = time.perf_counter()
        async with raw_client(address, "newcomer"):
            logged_in = time.perf_counter() - logged_in
        attacker.kill()
        await attacker.wait()
        grown = resident(pid) - memory
        after = await others.p99(SECONDS)
    say(
        f"others' p99 {before:.1f} ms before, {during:.1f} ms while it lasts, {after:.1f} ms after;"
        f" a login takes {logged_in * 1000:.0f} ms; the server uses {share:.0%} of a core and has"
        f" grown by {grown / _MB:.1f} MiB"
    )


def _cpu(pid: int) -> float:
    return time.clock_gettime((~pid << 3) | 2)


def run() -> None:
    """Attack a server of its own."""
    with tempfile.TemporaryDirectory() as place:
        data, log = Path(place) / "data", Path(place) / "log"
        server, port, _ = start_tchat(data, log, "--no-tls", "--rate-limit", "20/50")
        try:
            trio.run(measure, port, server.pid)
        finally:
            server.terminate()
            server.wait()


def main() -> None:
    """Attack, or with --attack be the attacking process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--attack", type=int, metavar="PORT", help=argparse.SUPPRESS)
    port = parser.parse_args().attack
    if port is None:
        run()
    else:
        trio.run(attack, Address("127.0.0.1", port))


if __name__ == "__main__":
    main()

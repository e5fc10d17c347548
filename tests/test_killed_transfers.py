"""Programs that are killed while they carry a file: started again, they lose little by it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from tests.client.scene import MIB, noise
from tests.helpers import GROUP, GUARD, approve, session_of
from tests.processes import launching
from tests.tap import tapped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.processes import Launcher, Process, Server
    from tests.tap import Cargo, Tap

# Long beside what the system may hold of it, unread, for a server that is busy when it is killed.
SIZE = 160 * MIB + 4321
ONCE_AND_A_TENTH = 1.1


class Machines:
    """A server, and two people at their command lines, with a tap in between."""

    def __init__(self, launch: Launcher, server: Server, tap: Tap, place: Path) -> None:
        self.launch = launch
        self.server = server
        self.tap = tap
        self.sent = place / "film.mkv"
        self.into = place / "saved"
        self.process: Process

    async def start(self, way: str) -> None:
        """Start to send the file as Alice, or to save it as Bob."""
        where = (self.tap.address.host, self.tap.address.port, "--no-tls", "--group", GROUP)
        if way == "up":
            self.process = await self.launch.tchat(
                "send", *where, "--user", "alice", self.sent, user="alice"
            )
        else:
            self.process = await self.launch.tchat(
                "get", *where, "--user", "bob", 1, "--to", f"{self.into}/", user="bob"
            )

    async def kill(self, victim: str, way: str, cargo: Cargo) -> None:
        """Kill a program as the kernel does that has no memory left, and start it again."""
        if victim == "client":
            self.process.running.kill()
            await self.process.running.wait()
            cargo.go_on(cut=True)
            await self.start(way)
        else:
            await self.server.kill()
            cargo.go_on(cut=True)
            self.server = await self.launch.serve(port=self.server.address.port)

    async def end(self) -> None:
        """Wait until the program has done what it was to do."""
        assert await self.process.exit() == 0, self.process.err


@asynccontextmanager
async def machines(place: Path) -> AsyncIterator[Machines]:
    async with launching(place / "homes") as launch:
        server = await launch.serve()
        for name in ("alice", "bob"):
            launch.know(name)
        async with (
            session_of(server.address, "alice") as (alice, _),
            session_of(server.address, "bob"),
        ):
            await approve(alice, "bob")
        async with tapped(server.address) as tap:
            yield Machines(launch, server, tap, place)


async def carry(scene: Machines, way: str, victims: list[str], random: Random) -> float:
    """Carry the file while programs are killed; return how many times its bytes were sent."""
    cargo = scene.tap.up if way == "up" else scene.tap.down
    places = sorted(random.sample(range(SIZE), len(victims)))
    await scene.start(way)
    for victim, place in zip(victims, places, strict=True):
        cargo.stall_after(max(0, place - cargo.carried))
        with trio.fail_after(GUARD):
            await cargo.stalled.wait()
        await scene.kill(victim, way, cargo)
    await scene.end()
    ratio = cargo.carried / SIZE
    print(way, victims, places, "ratio", ratio)
    return ratio


@pytest.mark.parametrize(
    "victims", [["client", "client"], ["server", "server"], ["server", "client"]], ids=str
)
@pytest.mark.parametrize("seed", [5])
async def test_a_file_arrives_once_whoever_is_killed_on_its_way(
    tmp_path: Path, victims: list[str], seed: int
) -> None:
    print("seed", seed)
    data = noise(SIZE, seed)
    (tmp_path / "film.mkv").write_bytes(data)
    random = Random(seed)
    async with machines(tmp_path) as scene:
        up = await carry(scene, "up", victims, random)
        down = await carry(scene, "down", victims, random)
        assert scene.process.lines == [str(scene.into / "film.mkv")]
    assert (scene.into / "film.mkv").read_bytes() == data
    assert [path.name for path in scene.into.iterdir()] == ["film.mkv"]
    stored = [path for path in (tmp_path / "homes" / "data" / "files").rglob("*") if path.is_file()]
    assert sorted(path.suffix for path in stored) == ["", ".sums"]
    assert 1 <= up < ONCE_AND_A_TENTH
    assert 1 <= down < ONCE_AND_A_TENTH

"""Resumed transfers after SIGKILL of client or server: little is sent twice."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from tests.client.scene import MIB, noise
from tests.fault_proxy import fault_proxy
from tests.helpers import GROUP, GUARD, approve, session_of
from tests.processes import launching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.fault_proxy import FaultProxy, Payload
    from tests.processes import Launcher, Process, Server

# Large compared with what the system may buffer, unread, for a busy server when it is killed.
SIZE = 160 * MIB + 4321
ONCE_AND_A_TENTH = 1.1


class KillablePrograms:
    """A server, a proxy in front of it, and the `send` and `get` commands of two people."""

    def __init__(self, launch: Launcher, server: Server, proxy: FaultProxy, place: Path) -> None:
        self.launch = launch
        self.server = server
        self.proxy = proxy
        self.sent = place / "film.mkv"
        self.into = place / "saved"
        self.process: Process

    async def start(self, way: str) -> None:
        """Start sending the file as Alice (up), or saving it as Bob (down)."""
        where = (self.proxy.address.host, self.proxy.address.port, "--no-tls", "--group", GROUP)
        if way == "up":
            self.process = await self.launch.tchat(
                "send", *where, "--user", "alice", self.sent, user="alice"
            )
        else:
            self.process = await self.launch.tchat(
                "get", *where, "--user", "bob", 1, "--to", f"{self.into}/", user="bob"
            )

    async def kill(self, victim: str, way: str, payload: Payload) -> None:
        """Kill a program with SIGKILL, as the kernel does when memory runs out, and restart it."""
        if victim == "client":
            self.process.running.kill()
            await self.process.running.wait()
            payload.go_on(cut=True)
            await self.start(way)
        else:
            await self.server.kill()
            payload.go_on(cut=True)
            self.server = await self.launch.serve(port=self.server.address.port)

    async def end(self) -> None:
        """Wait until the program has succeeded."""
        assert await self.process.exit() == 0, self.process.err


@asynccontextmanager
async def killable_programs(place: Path) -> AsyncIterator[KillablePrograms]:
    async with launching(place / "homes") as launch:
        server = await launch.serve()
        for name in ("alice", "bob"):
            launch.install_identity(name)
        async with (
            session_of(server.address, "alice") as (alice, _),
            session_of(server.address, "bob"),
        ):
            await approve(alice, "bob")
        async with fault_proxy(server.address) as proxy:
            yield KillablePrograms(launch, server, proxy, place)


async def transfer(scene: KillablePrograms, way: str, victims: list[str], random: Random) -> float:
    """Transfer the file while programs are killed; return bytes sent / size of the file."""
    payload = scene.proxy.up if way == "up" else scene.proxy.down
    places = sorted(random.sample(range(SIZE), len(victims)))
    await scene.start(way)
    for victim, place in zip(victims, places, strict=True):
        payload.stall_after(max(0, place - payload.transferred))
        with trio.fail_after(GUARD):
            await payload.stalled.wait()
        await scene.kill(victim, way, payload)
    await scene.end()
    ratio = payload.transferred / SIZE
    print(way, victims, places, "ratio", ratio)
    return ratio


@pytest.mark.parametrize(
    "victims", [["client", "client"], ["server", "server"], ["server", "client"]], ids=str
)
@pytest.mark.parametrize("seed", [5])
async def test_killed_transfers_resume_and_arrive_once(
    tmp_path: Path, victims: list[str], seed: int
) -> None:
    print("seed", seed)
    data = noise(SIZE, seed)
    (tmp_path / "film.mkv").write_bytes(data)
    random = Random(seed)
    async with killable_programs(tmp_path) as scene:
        up = await transfer(scene, "up", victims, random)
        down = await transfer(scene, "down", victims, random)
        assert scene.process.lines == [str(scene.into / "film.mkv")]
    assert (scene.into / "film.mkv").read_bytes() == data
    assert [path.name for path in scene.into.iterdir()] == ["film.mkv"]
    stored = [path for path in (tmp_path / "homes" / "data" / "files").rglob("*") if path.is_file()]
    assert sorted(path.suffix for path in stored) == ["", ".sums"]
    assert 1 <= up < ONCE_AND_A_TENTH
    assert 1 <= down < ONCE_AND_A_TENTH

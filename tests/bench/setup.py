"""Setup of benchmarks: files of random bytes, warmed-up memory, two people in a group."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.helpers import GROUP, approve, until
from tests.hostile_clients import person

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tests.bench.connection_flood import Server

MIB = 1 << 20


def make_file(path: Path, size: int) -> None:
    """Write a file of random bytes and fsync it, so that no later write waits for it."""
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())


def touch_memory(place: Path, size: int) -> None:
    """Make the machine allocate more page cache than a file takes, and release it.

    A virtual machine may return free memory to its host after a second or two. To get it back takes
    several times as long as anything measured here, and differs from run to run.
    """
    path = place / "touched"
    with path.open("wb") as file:
        for _ in range(2 * size // MIB):
            file.write(bytes(MIB))
    path.unlink()


@asynccontextmanager
async def pair_at(server: Server) -> AsyncIterator[tuple[Session, Replica, Session, Replica]]:
    """Open sessions of alice and bob, members of one group, for the length of the block."""
    async with (
        person(server.address, "alice", server.pin) as alice,
        person(server.address, "bob", server.pin) as bob,
    ):
        ops, there = await alice.enter(GROUP), await bob.enter(GROUP)
        await approve(alice, "bob")
        await until(bob, lambda: there.caught_up)
        yield alice, ops, bob, there

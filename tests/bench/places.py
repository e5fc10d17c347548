"""What benchmarks begin with: files, memory to write them in, and two people in a group."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.helpers import GROUP, approve, until
from tests.throwing import person

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tests.bench.strangers import Server

MIB = 1 << 20


def make_file(path: Path, size: int) -> None:
    """Make a file that is on the disk: nobody is to wait because it gets there later."""
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())


def touch_memory(place: Path, size: int) -> None:
    """Have the machine find more memory than a file takes, and let it go again.

    A virtual machine may give back to its host what was free for a second or two, or is much. To
    get it again takes it several times as long as all that is measured here, and another time in
    each run.
    """
    path = place / "touched"
    with path.open("wb") as file:
        for _ in range(2 * size // MIB):
            file.write(bytes(MIB))
    path.unlink()


@asynccontextmanager
async def pair_at(server: Server) -> AsyncIterator[tuple[Session, Replica, Session, Replica]]:
    """Have alice and bob in a group for the length of the block."""
    async with (
        person(server.address, "alice", server.pin) as alice,
        person(server.address, "bob", server.pin) as bob,
    ):
        ops, there = await alice.enter(GROUP), await bob.enter(GROUP)
        await approve(alice, "bob")
        await until(bob, lambda: there.caught_up)
        yield alice, ops, bob, there

"""Fixture for file transfers: Alice sends, Bob downloads, both through a proxy."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import pytest

from tchat.client.files.transfer import fetch_file, send_file
from tchat.errors import Refused
from tchat.store.open import open_store
from tests.fault_proxy import fault_proxy
from tests.helpers import GROUP, NO_RATE_LIMITS, approve, log_of, running_server, session_of, until
from tests.store.files import blob_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.group.state import File
    from tchat.server.limits import Limits
    from tests.fault_proxy import FaultProxy
    from tests.helpers import RunningServer

MIB = 1024 * 1024


def noise(size: int, seed: int = 0) -> bytes:
    """Return pseudo-random bytes, the same for the same seed."""
    return Random(seed).randbytes(size)


class Scene:
    """Two people in a group: Alice sends from `sent`, Bob downloads into `into`."""

    def __init__(
        self, server: RunningServer, proxy: FaultProxy, alice: Session, bob: Session, place: Path
    ) -> None:
        self.server = server
        self.proxy = proxy
        self.alice = alice
        self.bob = bob
        self.ops: Replica = alice.groups[GROUP]
        self.there: Replica = bob.groups[GROUP]
        self.sent = place / "sent"
        self.into = place / "received"
        self.files = blob_path(server.store)
        self.sent.mkdir()

    def write(self, data: bytes, name: str = "plan.txt") -> Path:
        """Write a file that Alice may send."""
        path = self.sent / name
        path.write_bytes(data)
        return path

    async def send(self, path: Path) -> File:
        """Let Alice send a file, and return it as Bob sees it."""
        number = max(self.there.state.files, default=0) + 1
        await send_file(self.alice, self.ops, path)
        return await self.heard_of(number)

    async def heard_of(self, number: int) -> File:
        """Return a file once Bob has received its event."""
        await until(self.bob, lambda: number in self.there.state.files)
        return self.there.state.files[number]

    async def send_bytes(self, data: bytes, name: str = "plan.txt") -> File:
        """Let Alice send a file of these bytes."""
        return await self.send(self.write(data, name))

    async def save(self, file: File) -> Path:
        """Let Bob save a file."""
        return await fetch_file(self.bob, self.there, file, self.into)

    async def refused(self, path: Path) -> Refused:
        """Let Alice send a file that must be refused; return the refusal."""
        with pytest.raises(Refused) as caught:
            await send_file(self.alice, self.ops, path)
        assert await log_of(self.server.store) == self.ops.log
        assert caught.value.sentence.isprintable()
        return caught.value

    async def unsaved(self, file: File) -> Refused:
        """Let Bob save a file that must be refused; return the refusal."""
        with pytest.raises(Refused) as caught:
            await self.save(file)
        assert caught.value.sentence.isprintable()
        return caught.value

    @property
    def saved(self) -> list[str]:
        """The names of all files in the download directory."""
        return sorted(path.name for path in self.into.iterdir()) if self.into.exists() else []

    @property
    def kept(self) -> list[Path]:
        """All files of the server, complete and partial."""
        return [path for path in self.files.rglob("*") if path.is_file()]

    @property
    def part(self) -> Path:
        """Bob's partial file."""
        (part,) = self.into.glob(".*.part")
        return part

    @property
    def begun(self) -> Path:
        """The server's partial file."""
        (part,) = [path for path in self.files.glob("incoming/*/*") if path.suffix != ".sums"]
        return part


@asynccontextmanager
async def scenery(place: Path, limits: Limits = NO_RATE_LIMITS) -> AsyncIterator[Scene]:
    """Run a server that stores its data on disk, with Alice and Bob in one group."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(place / "data"))
        server = await stack.enter_async_context(running_server(store, limits))
        proxy = await stack.enter_async_context(fault_proxy(server.address))
        alice, _ = await stack.enter_async_context(session_of(proxy.address, "alice"))
        bob, there = await stack.enter_async_context(session_of(proxy.address, "bob"))
        await approve(alice, "bob")
        await until(bob, lambda: there.caught_up)
        yield Scene(server, proxy, alice, bob, place)

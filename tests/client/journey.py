"""A file transfer through a proxy, in either direction, with its cost in bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.files.transfer import fetch_file, send_file
from tchat.errors import Refused
from tests.client.scene import MIB, Scene, noise
from tests.helpers import GUARD

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.core.group.state import File

DATA = noise(5 * MIB + 12_345)
WAYS = ["up", "down"]


class Journey:
    """One upload or download of a file; the receiver begins with none of it."""

    def __init__(self, scene: Scene, way: str, data: bytes, file: File | None) -> None:
        self.scene = scene
        self.way = way
        self.data = data
        self.file = file
        self.payload = scene.proxy.up if way == "up" else scene.proxy.down
        self._before = self.payload.transferred
        self._done = self._stopped_at = 0
        self._news = trio.Event()

    @property
    def transferred(self) -> int:
        """The number of the file's bytes that the proxy has seen."""
        return self.payload.transferred - self._before

    @property
    def ratio(self) -> float:
        return self.transferred / len(self.data)

    @property
    def part(self) -> Path:
        """The partial file of the receiver."""
        return self.scene.begun if self.way == "up" else self.scene.part

    async def go(self) -> None:
        """Transfer the file."""
        scene = self.scene
        with trio.fail_after(GUARD):
            if self.file is None:
                await send_file(scene.alice, scene.ops, scene.sent / "plan.txt")
            else:
                await fetch_file(scene.bob, scene.there, self.file, scene.into, listener=self)

    def on_start(self, name: str, size: int) -> None:
        assert (name, size) == ("plan.txt", len(self.data))

    def on_checked(self, done: int) -> None:
        raise AssertionError("a download checks no existing file")

    def on_progress(self, done: int) -> None:
        """Record the progress of the download."""
        self._done = done
        self._news.set()
        self._news = trio.Event()

    def on_sharing(self) -> None:
        raise AssertionError("a download shares nothing")

    async def fail(self) -> Refused:
        with pytest.raises(Refused) as caught:
            await self.go()
        assert caught.value.sentence.isprintable()
        return caught.value

    async def stop_after(self, size: int) -> None:
        """Cancel the transfer when the receiver has `size` more bytes."""
        self.payload.stall_after(size)
        self._stopped_at += size
        with trio.fail_after(GUARD):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.go)
                await self.payload.stalled.wait()
                while self.way == "down" and self._done < self._stopped_at:
                    await self._news.wait()
                nursery.cancel_scope.cancel()
            self.payload.go_on(cut=True)
            while self.part.stat().st_size < self._stopped_at:  # until the receiver has stored them
                await trio.lowlevel.checkpoint()

    async def check(self) -> None:
        """Assert that the receiver has the complete file, once, and no other file."""
        scene = self.scene
        if self.way == "up":
            file = await scene.heard_of(1)
            assert file.sha256 == hashlib.sha256(self.data).digest()
            stored = {path.name for path in scene.kept}
            assert stored == {file.sha256.hex(), f"{file.sha256.hex()}.sums"}
            (place,) = [path for path in scene.kept if path.suffix == ""]
        else:
            assert scene.saved == ["plan.txt"]
            place = scene.into / "plan.txt"
        assert place.read_bytes() == self.data


async def journey(scene: Scene, way: str, data: bytes = DATA) -> Journey:
    """Prepare the transfer of a file; for a download, upload it first."""
    path = scene.write(data)
    return Journey(scene, way, data, await scene.send(path) if way == "down" else None)

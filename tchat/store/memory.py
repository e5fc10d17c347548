"""A store that forgets everything when the process ends: for tests, and for trying things out."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tchat.store.base import PAGE_LIMIT, Conflict, Page, Store, file_changed, no_such_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(slots=True)
class _Log:
    last: int = 0
    pages: list[Page] = field(default_factory=list)


class MemoryStore(Store):
    """Keeps every batch as one page, in order."""

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self._cursors: dict[str, dict[str, int]] = {}
        self._names: dict[str, str] = {}
        self._blobs: dict[bytes, bytes] = {}

    async def append(self, group: str, expected: int, count: int, frames: bytes) -> None:
        """Add packed events; see `Store.append`."""
        await trio.lowlevel.checkpoint()
        log = self._logs.setdefault(group, _Log())
        if log.last != expected:
            raise Conflict(group, expected, log.last)
        log.last = expected + count
        log.pages.append(Page(expected + 1, log.last, frames))

    async def read(self, group: str, after: int) -> Page | None:
        """Return a page; see `Store.read`."""
        await trio.lowlevel.checkpoint()
        pages = [page for page in self._logs.get(group, _Log()).pages if page.last > after]
        taken: list[Page] = []
        for page in pages:
            if taken and sum(len(p.frames) for p in taken) + len(page.frames) > PAGE_LIMIT:
                break
            taken.append(page)
        if not taken:
            return None
        frames = b"".join(page.frames for page in taken)
        return Page(taken[0].first, taken[-1].last, frames).after(after)

    async def last(self, group: str) -> int:
        """Return the last seq; see `Store.last`."""
        await trio.lowlevel.checkpoint()
        return self._logs.get(group, _Log()).last

    async def cursors(self, group: str) -> dict[str, int]:
        """Return what people have seen; see `Store.cursors`."""
        await trio.lowlevel.checkpoint()
        return self._cursors.get(group, {}).copy()

    async def set_cursors(self, group: str, cursors: dict[str, int]) -> None:
        """Note what people have seen; see `Store.set_cursors`."""
        await trio.lowlevel.checkpoint()
        known = self._cursors.setdefault(group, {})
        known.update({user: max(seq, known.get(user, 0)) for user, seq in cursors.items()})

    async def claim_name(self, key: str, name: str, at: int) -> str:
        """Return how the name is written; see `Store.claim_name`."""
        await trio.lowlevel.checkpoint()
        return self._names.setdefault(key, name)

    @asynccontextmanager
    async def incoming(self) -> AsyncIterator[_Incoming]:
        """Receive a file; see `Store.incoming`."""
        yield _Incoming(self._blobs)

    @asynccontextmanager
    async def outgoing(self, sha256: bytes) -> AsyncIterator[_Outgoing]:
        """Read a file; see `Store.outgoing`."""
        if sha256 not in self._blobs:
            raise no_such_file()
        yield _Outgoing(self._blobs[sha256])


class _Incoming:
    def __init__(self, blobs: dict[bytes, bytes]) -> None:
        self._blobs = blobs
        self._data = bytearray()

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._data += data

    async def keep(self, sha256: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if hashlib.sha256(self._data).digest() != sha256:
            raise file_changed()
        self._blobs[sha256] = bytes(self._data)


class _Outgoing:
    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data
        self._at = 0

    async def read(self, most: int) -> bytes:
        await trio.lowlevel.checkpoint()
        chunk = self._data[self._at : self._at + most]
        self._at += len(chunk)
        return chunk

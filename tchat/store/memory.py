"""A store that forgets everything when the process ends: for tests, and for trying things out."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tchat.store.base import (
    NOBODY,
    PAGE_LIMIT,
    Accounts,
    Conflict,
    Key,
    Page,
    Store,
    file_changed,
    no_such_file,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tchat.core.frames import Standing


@dataclass(slots=True)
class _Log:
    last: int = 0
    pages: list[Page] = field(default_factory=list)


class MemoryAccounts(Accounts):
    """Whose names are whose, until the process ends. `_former` are keys that were taken away."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._keys: dict[str, dict[bytes, int]] = {}
        self._former: set[tuple[str, bytes]] = set()
        self._uploads: dict[str, dict[bytes, int]] = {}

    async def claim(self, person: str, name: str, key: bytes, at: int) -> str | None:
        """Return how the person writes the name; see `Accounts.claim`."""
        await trio.lowlevel.checkpoint()
        keys = self._keys.setdefault(person, {})
        if not keys:
            self._names.setdefault(person, name)
            if (person, key) not in self._former:
                keys[key] = at
        return self._names.get(person, name) if key in keys else None

    async def link(self, person: str, key: bytes, at: int) -> None:
        """Make a further key one of the name's; see `Accounts.link`."""
        await trio.lowlevel.checkpoint()
        self._former.discard((person, key))
        self._keys.setdefault(person, {}).setdefault(key, at)

    async def keys(self, person: str) -> list[Key]:
        """Return the keys of a name; see `Accounts.keys`."""
        await trio.lowlevel.checkpoint()
        keys = self._keys.get(person, {}).items()
        return [Key(key, since) for key, since in sorted(keys, key=lambda item: item[::-1])]

    async def unlink(self, person: str, key: bytes, by: bytes, at: int) -> bool:
        """Take a key from a name; see `Accounts.unlink`."""
        await trio.lowlevel.checkpoint()
        keys = self._keys.get(person, {})
        if key == by or not {key, by} <= keys.keys():
            return False
        del keys[key]
        self._former.add((person, key))
        return True

    async def release(self, person: str, at: int) -> bool:
        """Take all keys from a name; see `Accounts.release`."""
        await trio.lowlevel.checkpoint()
        keys = self._keys.pop(person, {})
        self._former.update((person, key) for key in keys)
        return bool(keys)

    async def note_upload(self, person: str, sha256: bytes, size: int) -> None:
        """Remember a file that was sent; see `Accounts.note_upload`."""
        await trio.lowlevel.checkpoint()
        self._uploads.setdefault(person, {}).setdefault(sha256, size)

    async def upload_size(self, person: str, sha256: bytes) -> int | None:
        """Return the size of a file that was sent; see `Accounts.upload_size`."""
        await trio.lowlevel.checkpoint()
        return self._uploads.get(person, {}).get(sha256)

    async def uploaded(self, person: str) -> int:
        """Return how much a person has sent; see `Accounts.uploaded`."""
        await trio.lowlevel.checkpoint()
        return sum(self._uploads.get(person, {}).values())


class MemoryStore(Store):
    """Keeps every batch as one page, in order."""

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self._cursors: dict[str, dict[str, int]] = {}
        self._standings: dict[str, dict[str, Standing]] = {}
        self._blobs: dict[bytes, bytes] = {}
        self.accounts: Accounts = MemoryAccounts()

    async def append(
        self,
        group: str,
        expected: int,
        count: int,
        frames: bytes,
        standings: Mapping[str, Standing] = NOBODY,
    ) -> None:
        """Add packed events; see `Store.append`."""
        await trio.lowlevel.checkpoint()
        log = self._logs.setdefault(group, _Log())
        if log.last != expected:
            raise Conflict(group, expected, log.last)
        log.last = expected + count
        log.pages.append(Page(expected + 1, log.last, frames))
        for person, standing in standings.items():
            groups = self._standings.setdefault(person, {})
            groups[group] = standing
            if standing == "outsider":
                del groups[group]

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

    async def groups_of(self, person: str) -> dict[str, Standing]:
        """Return where a person is something; see `Store.groups_of`."""
        await trio.lowlevel.checkpoint()
        return self._standings.get(person, {}).copy()

    async def cursors(self, group: str) -> dict[str, int]:
        """Return what people have seen; see `Store.cursors`."""
        await trio.lowlevel.checkpoint()
        return self._cursors.get(group, {}).copy()

    async def set_cursors(self, group: str, cursors: dict[str, int]) -> None:
        """Note what people have seen; see `Store.set_cursors`."""
        await trio.lowlevel.checkpoint()
        if group not in self._logs:
            return
        known = self._cursors.setdefault(group, {})
        known.update({user: max(seq, known.get(user, 0)) for user, seq in cursors.items()})

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

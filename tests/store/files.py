"""Entries for the file index; no files exist, since the index never reads them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tchat.store.base import FileEntry, SideEffects
from tchat.store.blobs import BlobDirectory
from tests.store.batches import last_seq, packed

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.core.protocol.frames import Standing
    from tchat.store.base import FileIndex, Store

SONG, FILM, BOOK = (hashlib.sha256(name).digest() for name in (b"song", b"film", b"book"))
HEAD, OTHER_HEAD = (hashlib.sha256(piece).digest() for piece in (b"la", b"ti"))
SIZES = {SONG: 30, FILM: 7000, BOOK: 500}
NUMBERS_END = 2**63 - 1
NOON = 1_000_000


async def swept(shelves: FileIndex, leased_before: int, shared_before: int) -> list[bytes]:
    """Return what is removed as expired, and then as unreferenced."""
    expired = await shelves.expire(leased_before, shared_before)
    assert await shelves.expire(leased_before, shared_before) == []
    return [*expired, *await shelves.sweep()]


def blob_path(store: Store) -> Path:
    """Return the directory with the bytes of files."""
    assert isinstance(store.blobs, BlobDirectory)
    return store.blobs.path


async def note(store: Store, group: str, effects: SideEffects) -> None:
    """Append one event with these side effects."""
    await store.append(group, await last_seq(store, group), 1, packed(b"."), effects)


async def admit(store: Store, group: str, **standings: Standing) -> None:
    await note(store, group, SideEffects(standings))


async def send(store: Store, person: str, sha256: bytes, at: int = NOON) -> None:
    """Add a file as if that person had uploaded it."""
    await store.files.add(person, sha256, SIZES[sha256], HEAD, at)


def file(number: int, sha256: bytes, person: str = "alice", at: int = NOON) -> FileEntry:
    return FileEntry(number, sha256, SIZES[sha256], person, at)


async def share(store: Store, group: str, *files: FileEntry) -> None:
    await note(store, group, SideEffects(added_files=files))


async def remove(store: Store, group: str, *numbers: int) -> None:
    await note(store, group, SideEffects(removed_files=numbers))


async def numbers_on(store: Store, group: str) -> list[int]:
    return [file.number for file in await store.files.page(group, NUMBERS_END, 100, 0)]

"""Files in a directory, each known by its SHA-256, so that the same bytes are kept once.

A file is written under a name of its own, made durable, and then renamed to its digest; a crash
leaves at most an unfinished file, which the next start removes. Hashing and writing happen in a
worker thread: neither a slow disk nor a large chunk holds up the chat.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from contextlib import asynccontextmanager, contextmanager
from io import FileIO
from typing import TYPE_CHECKING, BinaryIO

import trio

from tchat.errors import Code, StorageError
from tchat.store.base import StorageFull, file_changed, no_such_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

_UNFINISHED = "incoming-"


class BlobDirectory:
    """The files of one server, under `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left_over in path.glob(f"{_UNFINISHED}*"):
            left_over.unlink()

    @asynccontextmanager
    async def incoming(self) -> AsyncIterator[IncomingFile]:
        """Receive a file; without `keep` nothing of it stays."""
        path = self._path / f"{_UNFINISHED}{secrets.token_hex(8)}"
        with _reported():
            file = await trio.to_thread.run_sync(_create, path)
        incoming = IncomingFile(file, path, self._place)
        try:
            yield incoming
        finally:
            file.close()
            path.unlink(missing_ok=True)

    @asynccontextmanager
    async def outgoing(self, sha256: bytes) -> AsyncIterator[OutgoingFile]:
        """Read a stored file."""
        with _reported():
            try:
                file = await trio.to_thread.run_sync(_open, self._place(sha256))
            except FileNotFoundError:
                raise no_such_file() from None
        with file:
            yield OutgoingFile(file)

    def _place(self, sha256: bytes) -> Path:
        digest = sha256.hex()
        return self._path / digest[:2] / digest


class IncomingFile:
    """A file that is being received."""

    def __init__(self, file: FileIO, path: Path, place: Callable[[bytes], Path]) -> None:
        self._file = file
        self._path = path
        self._place = place
        self._hash = hashlib.sha256()

    async def write(self, data: bytes) -> None:
        """Add bytes; see `Incoming.write`."""
        with _reported():
            await trio.to_thread.run_sync(self._write, data)

    async def keep(self, sha256: bytes) -> None:
        """Make the file durable under its digest; see `Incoming.keep`."""
        if self._hash.digest() != sha256:
            raise file_changed()
        with _reported():
            await trio.to_thread.run_sync(self._keep)

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def _keep(self) -> None:
        os.fsync(self._file.fileno())
        place = self._place(self._hash.digest())
        place.parent.mkdir(mode=0o700, exist_ok=True)
        self._path.replace(place)
        # The rename and a new directory are only on disk once their directories are.
        _sync_directory(place.parent)
        _sync_directory(place.parent.parent)


class OutgoingFile:
    """A stored file that is being read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    async def read(self, most: int) -> bytes:
        """Return further bytes; see `Outgoing.read`."""
        with _reported():
            return await trio.to_thread.run_sync(self._file.read, most)


@contextmanager
def _reported() -> Iterator[None]:
    """Turn what the operating system says into what the protocol of stores promises."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull from error
        raise StorageError(
            Code.INTERNAL, f"Files cannot be stored or read: {error.strerror}."
        ) from error


def _create(path: Path) -> FileIO:
    return FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Blobs in a directory: content-addressed, deduplicated files and resumable uploads.

    files/ab/ab12…            a file by its SHA-256, and its running digests (`.sums`) beside it
    files/incoming/p/f        an unfinished upload; `p` is a hash of the person, `f` of the file's
                              size and head, so that a resumed upload finds it again

A file is renamed to its digest once it is complete and on the disk. So a crash leaves at most files
that are not in the index, and the next start removes them. Begun uploads are bounded, see
`begun_uploads`; one that was not continued for a day is removed.

Files leave a reserve of the disk to the log (`disk_space`). An upload needs space for all that it
and the other running ones have not sent yet.

Hashing, reading and writing happen in worker threads: neither a slow disk nor a large file blocks
the chat.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import Code, Refused, StorageError
from tchat.store.base import (
    Blobs,
    DiskReserved,
    FileDamaged,
    StorageFull,
    StoredFile,
    storage_errors,
)
from tchat.store.begun_uploads import BegunUploads, digests_file
from tchat.store.disk_space import DiskSpace
from tchat.transfer.durable import sync_directory
from tchat.transfer.partial_file import (
    DIGESTS_SUFFIX,
    PartialFile,
    fill_buffer,
    read_digests,
    write_digests,
)
from tchat.transfer.pieces import (
    CHUNK_SIZE,
    count_pieces,
    digest_before,
    piece_end,
    piece_start,
)
from tchat.transfer.threads import check_cancelled, in_thread, in_thread_shielded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from io import FileIO
    from pathlib import Path

    from tchat.core.protocol.frames import Have
    from tchat.transfer.partial_file import Data

UPLOAD_RETENTION_SECONDS = 24 * 3600.0
"""How long an unfinished upload is kept, to be resumed."""

_INCOMING = "incoming"
_CONNECTION_LOST_SECONDS = 1.0


def blob_path(files: Path, sha256: bytes) -> Path:
    """Return the path of a file below the directory of all files."""
    digest = sha256.hex()
    return files / digest[:2] / digest


def uploads_path(files: Path) -> Path:
    """Return the directory of begun uploads below the directory of all files."""
    return files / _INCOMING


class BlobDirectory(Blobs):
    """The files of one server, under `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = trio.Lock()
        # Changes have a thread of their own: all threads of `in_thread` may be waiting for the
        # lock.
        self._changes = trio.CapacityLimiter(1)
        self._uploads: dict[Path, _Reservation] = {}
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.space = DiskSpace(path)
        self.begun = BegunUploads(uploads_path(path))

    def set_reserve(self, reserve: int | None) -> None:
        """Set the disk's reserve; see `Blobs.set_reserve`."""
        self.space.reserve = reserve

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """Exclude all other changes to the set of files; see `Blobs.lock`."""
        async with self._lock:
            yield

    @asynccontextmanager
    async def upload(
        self, person: str, size: int, head: bytes, is_alive: Callable[[], bool] = lambda: True
    ) -> AsyncIterator[PartialFile]:
        """Reserve the partial file of an upload; see `Blobs.upload`."""
        path = self._uploads_of(person) / _key(size, head)
        while (older := self._uploads.get(path)) is not None:
            # The older upload may not have noticed yet that its connection is lost: give it time.
            with trio.move_on_after(_CONNECTION_LOST_SECONDS):
                await older.ended.wait()
                continue
            if older.is_alive():
                path = path.with_name(secrets.token_hex(16))
            else:
                older.scope.cancel()
                await older.ended.wait()
        part = _IncomingFile(path, size, self.space)
        reservation = _Reservation(part, is_alive)
        self._uploads[path] = reservation
        self.begun.discard(path)
        try:
            with reservation.scope:
                yield part
        except (StorageFull, StorageError):
            await in_thread_shielded(part.discard)
            raise
        finally:
            try:
                left = await in_thread_shielded(lambda: _close(part))
            finally:  # on a damaged disk, too: the next upload of the file waits for this
                del self._uploads[path]
                reservation.ended.set()
            if left is not None:
                self.begun.add(path, left, time.time())
        if reservation.scope.cancelled_caught:
            raise Refused(Code.REPLACED, "The same file is being sent on a newer connection.")

    def open_partial(self, part: PartialFile) -> None:
        """Open a partial file, in a worker thread; see `Blobs.open_partial`."""
        with storage_errors():
            try:
                _open(part)
            except FileNotFoundError:  # the directory was empty, and was removed just now
                _open(part)
            running = [reservation.part for reservation in list(self._uploads.values())]
            missing = sum(one.size - one.offset for one in running if one is not part)
            if self.space.available() < missing + part.size - part.offset:
                raise DiskReserved

    def write_unnamed(self, data: bytes) -> FileIO | None:
        """Write data to an unnamed file; see `Blobs.write_unnamed`."""
        with suppress(OSError), ExitStack() as stack:
            if self.space.available() < len(data):
                return None
            file = stack.enter_context(TemporaryFile(dir=self.path, buffering=0))
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
            stack.pop_all()
            return file
        return None

    async def commit(self, part: PartialFile) -> None:
        """Store a complete file durably under its digest; see `Blobs.commit`."""
        await self._change(lambda: self._commit(part))

    async def trim_uploads(
        self, person: str, limit: int, active: Iterable[tuple[int, bytes]]
    ) -> None:
        """Remove a person's oldest unfinished uploads; see `Blobs.trim_uploads`."""
        directory = self._uploads_of(person)
        promised = {directory / _key(size, head) for size, head in active}
        excess = self.begun.excess_of(directory, limit, promised.__contains__)
        await self._remove_begun(excess or self.begun.excess(promised.__contains__))

    async def check_space(self, person: str, size: int, head: bytes, promised: int) -> None:
        """Refuse an upload for which the disk has no room; see `Blobs.check_space`."""
        there = self.begun.size_of(self._uploads_of(person) / _key(size, head))
        sent = sum(reservation.part.offset for reservation in self._uploads.values())
        with storage_errors():
            if await in_thread(self.space.available) < size - there + promised - sent:
                raise DiskReserved

    @asynccontextmanager
    async def download(self, sha256: bytes, size: int) -> AsyncIterator[StoredFile]:
        """Open a stored file for reading; see `Blobs.download`."""
        path = self._path_of(sha256)
        with storage_errors():
            try:
                file = await in_thread(lambda: path.open("rb", buffering=0))
            except FileNotFoundError:
                raise FileDamaged from None
        try:
            yield BlobFile(file, path, sha256, size)
        finally:
            await in_thread_shielded(file.close)

    async def remove(self, digests: list[bytes]) -> None:
        """Remove files; see `Blobs.remove`."""
        await self._change(lambda: self._remove(digests))

    async def remove_unknown(self, known: set[bytes]) -> None:
        """Remove files that are not `known`; see `Blobs.remove_unknown`."""
        await self._change(lambda: self._remove_unknown(known))

    async def remove_stale_uploads(self) -> None:
        """Remove uploads that were not continued; see `Blobs.remove_stale_uploads`."""
        await self._remove_begun(self.begun.stale(time.time() - UPLOAD_RETENTION_SECONDS))

    async def _remove_begun(self, paths: list[Path]) -> None:
        if not paths:
            return

        def remove() -> None:
            for path in paths:
                # Looked up at the last moment: it may have been continued meanwhile.
                if path not in self._uploads:
                    _remove_upload(path)

        with storage_errors():
            await in_thread(remove, long=True)
        for path in paths:
            if path not in self._uploads:
                self.begun.discard(path)

    async def _change(self, work: Callable[[], None]) -> None:
        with storage_errors():
            await trio.to_thread.run_sync(work, limiter=self._changes)

    # ------------------------------------------------------------------ in threads

    def _commit(self, part: PartialFile) -> None:
        part.sync()
        path = self._path_of(part.digest)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        # The digest of a single piece is the file's name already.
        sums = path.with_name(path.name + DIGESTS_SUFFIX) if count_pieces(part.size) > 1 else None
        part.move_to(path, sums)
        # A rename, or a new directory, is durable only once its parent directory is.
        sync_directory(path.parent)
        sync_directory(path.parent.parent)

    def _remove(self, digests: list[bytes]) -> None:
        for sha256 in digests:
            path = self._path_of(sha256)
            path.unlink(missing_ok=True)
            path.with_name(path.name + DIGESTS_SUFFIX).unlink(missing_ok=True)

    def _remove_unknown(self, known: set[bytes]) -> None:
        names = {sha256.hex() for sha256 in known}
        for path in self.path.glob("??/*"):
            if path.name.removesuffix(DIGESTS_SUFFIX) not in names:
                path.unlink(missing_ok=True)
        for left_over in self.path.glob("incoming-*"):  # from versions without resumable uploads
            left_over.unlink(missing_ok=True)

    def _uploads_of(self, person: str) -> Path:
        return uploads_path(self.path) / hashlib.sha256(person.encode()).hexdigest()[:32]

    def _path_of(self, sha256: bytes) -> Path:
        return blob_path(self.path, sha256)


@dataclass(slots=True)
class _Reservation:
    """An upload in progress; `is_alive` says whether data still arrives."""

    part: PartialFile
    is_alive: Callable[[], bool]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)


class BlobFile(StoredFile):
    """A stored file as the source of a transfer, with the digests stored beside it."""

    def __init__(self, file: FileIO, path: Path, sha256: bytes, size: int) -> None:
        self.size = size
        self._file = file
        self._path = path
        self._sha256 = sha256
        self._sums = path.with_name(path.name + DIGESTS_SUFFIX)
        self._digests: list[bytes] = []
        self._at = 0
        self._in_piece = False  # a part of the current piece has been read
        self._buffer = memoryview(bytearray(min(CHUNK_SIZE, size)))

    def start(self, have: Have, check: Callable[[], None]) -> int:
        """Seek to the offset at which the receiver resumes; see `Source.start`.

        If the receiver doubts this copy, it is verified first. Raises `FileDamaged` if its digest
        is wrong.
        """
        with storage_errors():
            self._load_digests(check, doubt=have.doubt)
            end = count_pieces(self.size) * PIECE_SIZE  # the end of the last piece if it were full
            complete = have.offset if have.offset < self.size else end
            is_same = have.offset <= self.size and have.sha256 == digest_before(
                complete, self._digests
            )
            self._at = have.offset if is_same else 0
            self._in_piece = False
            self._file.seek(self._at)
        return self._at

    def is_current(self) -> bool:
        """Return whether this is still the stored copy; see `StoredFile.is_current`."""
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except OSError:
            return True

    def read(self) -> tuple[memoryview, bytes | None]:
        """Return the next bytes of a piece, first with its stored digest; see `Source.read`."""
        begin, end = self._at, piece_end(self._at, self.size)
        data = self._buffer[: end - begin]
        with storage_errors():
            size = fill_buffer(self._file.readinto, data)
        if size < len(data):
            raise FileDamaged
        self._at += size
        digest = None if self._in_piece else self._digests[piece_start(begin) // PIECE_SIZE]
        self._in_piece = self._at < end
        return data, digest

    def _load_digests(self, check: Callable[[], None], *, doubt: bool) -> None:
        count = count_pieces(self.size)
        if os.fstat(self._file.fileno()).st_size != self.size:
            raise FileDamaged
        if not doubt:
            self._digests = [self._sha256] if count == 1 else self._stored_digests()
            if len(self._digests) == count and self._sha256 == digest_before(
                count * PIECE_SIZE, self._digests
            ):
                return
        self._digests = self._compute_digests(check)
        if digest_before(count * PIECE_SIZE, self._digests) != self._sha256:
            raise FileDamaged
        if count > 1:
            write_digests(self._sums, self._digests)

    def _stored_digests(self) -> list[bytes]:
        return read_digests(self._sums)

    def _compute_digests(self, check: Callable[[], None]) -> list[bytes]:
        digests, running = [], hashlib.sha256()
        self._file.seek(0)
        offset = 0
        while offset < self.size:
            check()
            end = piece_end(offset, self.size)
            while offset < end and (size := self._file.readinto(self._buffer[: end - offset])):
                running.update(self._buffer[:size])
                offset += size
            if offset < end:
                raise FileDamaged
            digests.append(running.digest())
        return digests


def _key(size: int, head: bytes) -> str:
    return hashlib.sha256(size.to_bytes(8, "big") + head).hexdigest()[:32]


class _IncomingFile(PartialFile):
    """The partial file of an upload. It leaves the reserve alone, whoever fills the disk."""

    def __init__(self, path: Path, size: int, space: DiskSpace) -> None:
        super().__init__(path, size)
        self._space = space

    def add(self, rest: Data, digest: bytes) -> None:
        """Add the rest of a piece, unless the disk is full."""
        if self._space.available() < 0:
            raise StorageFull
        super().add(rest, digest)


def _open(part: PartialFile) -> None:
    for directory in (part.path.parent.parent, part.path.parent):
        directory.mkdir(mode=0o700, exist_ok=True)
    part.open(check_cancelled)


def _close(part: PartialFile) -> int | None:
    """Close a partial file; return its size, or None if nothing is left of it."""
    part.close()
    try:
        return part.path.stat().st_size
    except FileNotFoundError:
        _remove_if_empty(part.path.parent)
        return None


def _remove_upload(path: Path) -> None:
    path.unlink(missing_ok=True)
    digests_file(path).unlink(missing_ok=True)
    _remove_if_empty(path.parent)


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()

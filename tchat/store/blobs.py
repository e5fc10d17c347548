"""Blobs in a directory: content-addressed, deduplicated files and resumable uploads.

    files/ab/ab12…            a file by its SHA-256, and its running digests (`.sums`) beside it
    files/incoming/p/f        an unfinished upload; `p` is a hash of the person, `f` of the file's
                              size and head, so that a resumed upload finds it again
    files/trash/ab12…         a file that is not needed any more, or seems so, and its `.sums`

A file is renamed to its digest once it is complete and on the disk. So a crash leaves at most files
that are not in the index, and the next start removes them. Begun uploads are bounded, see
`begun_uploads`; one that was not continued for a day is removed.

Why a file seems not to be needed may be a mistake: a wrong clock, or an older index. So it is moved
to the trash, with the time as its modification time, and comes back by a rename: at the next start
if the index has it, when it is asked for, or when it is uploaded again. The trash takes space, but
belongs to nobody: it is in no quota, and is emptied, the oldest first, before the reserve of the
disk keeps an upload out. A file that a person has removed is deleted at once.

Times are by the clock of the server (`set_clock`), which is saner than that of the machine.

Files leave a reserve of the disk to the log (`disk_space`). An upload needs space for all that it
and the other running ones have not sent yet.

Hashing, reading and writing happen in worker threads: neither a slow disk nor a large file blocks
the chat.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.durable_directory import sync_directory
from tchat.errors import Code, Refused, StorageError
from tchat.machine_clocks import now_ms
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

_INCOMING = "incoming"
_TRASH = "trash"
_CONNECTION_LOST_SECONDS = 1.0


def blob_path(files: Path, sha256: bytes) -> Path:
    """Return the path of a file below the directory of all files."""
    digest = sha256.hex()
    return files / digest[:2] / digest


def trash_usage(files: Path) -> tuple[int, int]:
    """Return how many files are in the trash below the directory of all files, and their bytes."""
    count = size = 0
    with suppress(FileNotFoundError), os.scandir(trash_path(files)) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                size += entry.stat(follow_symlinks=False).st_size
                count += not entry.name.endswith(DIGESTS_SUFFIX)
    return count, size


def trash_path(files: Path) -> Path:
    """Return the directory of the trash below the directory of all files."""
    return files / _TRASH


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
        self._clock: Callable[[], int] = now_ms  # for a directory without a server

    def set_clock(self, clock: Callable[[], int]) -> None:
        """Set the clock; see `Blobs.set_clock`."""
        self._clock = clock
        # The clock of the machine may have been ahead when it dated them.
        self.begun.limit_times(clock() / 1000)

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
        part = _IncomingFile(path, size, self._make_room)
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
                left = await in_thread_shielded(lambda: _close(part, self._clock() / 1000))
            finally:  # on a damaged disk, too: the next upload of the file waits for this
                del self._uploads[path]
                reservation.ended.set()
            if left is not None:
                self.begun.add(path, left, self._clock() / 1000)
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
            if not self._make_room(missing + part.size - part.offset):
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
            if not await in_thread(lambda: self._make_room(size - there + promised - sent)):
                raise DiskReserved

    @asynccontextmanager
    async def download(self, sha256: bytes, size: int) -> AsyncIterator[StoredFile]:
        """Open a stored file for reading; see `Blobs.download`."""
        path = self._path_of(sha256)
        with storage_errors():
            try:
                file = await in_thread(lambda: self._open(path))
            except FileNotFoundError:
                raise FileDamaged from None
        try:
            yield BlobFile(file, path, sha256, size)
        finally:
            await in_thread_shielded(file.close)

    async def remove(self, digests: list[bytes]) -> None:
        """Remove files; see `Blobs.remove`."""
        await self._change(lambda: self._remove(digests))

    async def discard(self, digests: list[bytes]) -> None:
        """Move files to the trash; see `Blobs.discard`."""
        await self._change(lambda: self._discard([self._path_of(sha256) for sha256 in digests]))

    async def empty_trash(self, before: int | None = None) -> None:
        """Delete what is in the trash; see `Blobs.empty_trash`."""
        limit = None if before is None else before / 1000
        await self._change(lambda: self._empty_trash(limit))

    async def remove_unknown(self, known: set[bytes]) -> None:
        """Remove files that are not `known`; see `Blobs.remove_unknown`."""
        await self._change(lambda: self._remove_unknown(known))

    async def remove_stale_uploads(self, before: int) -> None:
        """Remove uploads that were not continued; see `Blobs.remove_stale_uploads`."""
        await self._remove_begun(self.begun.stale(before / 1000))

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
        self._remove_from_trash(path.name)  # this copy has just been verified
        # A rename, or a new directory, is durable only once its parent directory is.
        sync_directory(path.parent)
        sync_directory(path.parent.parent)

    def _remove(self, digests: list[bytes]) -> None:
        for sha256 in digests:
            path = self._path_of(sha256)
            path.unlink(missing_ok=True)
            digests_file(path).unlink(missing_ok=True)
            self._remove_from_trash(path.name)

    def _remove_unknown(self, known: set[bytes]) -> None:
        names = {sha256.hex() for sha256 in known}
        for path in trash_path(self.path).glob("*"):
            if path.name in names:
                self._restore(path.name)
        self._discard(
            [
                path
                for path in self.path.glob("??/*")
                if path.name.removesuffix(DIGESTS_SUFFIX) not in names
            ]
        )
        for left_over in self.path.glob("incoming-*"):  # from versions without resumable uploads
            left_over.unlink(missing_ok=True)

    def _discard(self, paths: list[Path]) -> None:
        """Move files, and their digests, to the trash; ignore those that are gone."""
        trash, at = trash_path(self.path), self._clock() / 1000
        if paths:
            trash.mkdir(mode=0o700, exist_ok=True)
        for path in paths:
            # The digests first: without the file, nothing would find them.
            for one in (digests_file(path), path):
                with suppress(FileNotFoundError):
                    os.utime(one, (at, at))
                    one.replace(trash / one.name)

    def _restore(self, name: str) -> bool:
        """Take a file from the trash, unless there is a newer copy; return whether it was there."""
        trashed, path = trash_path(self.path) / name, self._path_of(bytes.fromhex(name))
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not trashed.exists():
            return False
        if not path.exists():
            with suppress(FileNotFoundError):
                digests_file(trashed).replace(digests_file(path))
            trashed.replace(path)
            sync_directory(path.parent)
        return True

    def _open(self, path: Path) -> FileIO:
        try:
            return path.open("rb", buffering=0)
        except FileNotFoundError:
            if not self._restore(path.name):
                raise
            return path.open("rb", buffering=0)

    def _remove_from_trash(self, name: str) -> None:
        for one in (name, name + DIGESTS_SUFFIX):
            (trash_path(self.path) / one).unlink(missing_ok=True)

    def _trashed(self) -> list[tuple[float, str]]:
        """Return since when files are in the trash, and their names, the oldest first."""
        found: list[tuple[float, str]] = []
        with suppress(FileNotFoundError), os.scandir(trash_path(self.path)) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    name = entry.name.removesuffix(DIGESTS_SUFFIX)
                    found.append((entry.stat(follow_symlinks=False).st_mtime, name))
        return sorted(found)

    def _empty_trash(self, before: float | None) -> None:
        for at, name in self._trashed():
            if before is None or at < before:
                self._remove_from_trash(name)

    def _make_room(self, size: int) -> bool:
        """Return whether the disk has room for `size` bytes, if need be without the trash."""
        if self.space.available() >= size:
            return True
        for _, name in self._trashed():
            self._remove_from_trash(name)
            if self.space.available() >= size:
                return True
        return False

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

    def __init__(self, path: Path, size: int, has_room: Callable[[int], bool]) -> None:
        super().__init__(path, size)
        self._has_room = has_room

    def add(self, rest: Data, digest: bytes) -> None:
        """Add the rest of a piece, unless the disk is full."""
        if not self._has_room(0):
            raise StorageFull
        super().add(rest, digest)


def _open(part: PartialFile) -> None:
    for directory in (part.path.parent.parent, part.path.parent):
        directory.mkdir(mode=0o700, exist_ok=True)
    part.open(check_cancelled)


def _close(part: PartialFile, at: float) -> int | None:
    """Close a partial file and date it; return its size, or None if nothing is left of it."""
    part.close()
    try:
        os.utime(part.path, (at, at))
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

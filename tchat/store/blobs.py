"""Files in a directory, each known by its SHA-256, so that the same bytes are kept once.

    files/ab/ab12…            a file, and beside it its running digests (`.sums`)
    files/incoming/p/f        one that somebody is sending, or was: `p` and `f` are digests of who
                              sends it and of what it is said to be, so that it is found again

A file gets its name when it is whole and on disk; a crash leaves at most a file that nobody knows,
which the next start removes. What was begun and is not gone on with for a day goes, too.

Hashing, reading and writing happen in worker threads: neither a slow disk nor a large file holds up
the chat.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import Code, Refused, StorageError
from tchat.store.base import FileDamaged, StorageFull
from tchat.transfer.endpoints import check_cancelled, in_the_end, in_thread
from tchat.transfer.partial_file import SUMS, PartialFile, fill, is_full, write_digests
from tchat.transfer.pieces import (
    boundary,
    count_pieces,
    digest_before,
    end_of_piece,
    split_digests,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from io import FileIO
    from pathlib import Path

    from tchat.core.protocol.frames import Have

BEGUN_SECONDS = 24 * 3600.0
"""How long what was begun to be sent is kept, to be gone on with."""

_INCOMING = "incoming"
_ENDING_SECONDS = 1.0


class BlobDirectory:
    """The files of one server, under `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changing = trio.Lock()
        self._changes = trio.CapacityLimiter(1)
        self._open: dict[Path, _Reservation] = {}
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Let nobody else add or remove files for the length of the block.

        Threads of `in_thread` are few, and one that finds a file damaged waits for this. So within
        the block nobody waits for one of these; what changes files has a thread of its own.
        """
        async with self._changing:
            yield

    @asynccontextmanager
    async def incoming(
        self, person: str, size: int, head: bytes, is_alive: Callable[[], bool] = lambda: True
    ) -> AsyncIterator[PartialFile]:
        """Reserve what there is of a file that somebody sends, for the length of the block.

        It is to be opened by `begin`. If the disk is full or fails, nothing of it stays. A block
        that is not alive when the same file comes again gives way, and ends with `Refused`
        (replaced); beside one that is, the second begins anew.
        """
        place = self._begun_by(person) / _key(size, head)
        while (older := self._open.get(place)) is not None:
            # One that has just broken may not know it yet.
            with trio.move_on_after(_ENDING_SECONDS):
                await older.ended.wait()
                continue
            if older.is_alive():
                place = place.with_name(secrets.token_hex(16))
            else:
                older.scope.cancel()
                await older.ended.wait()
        part, mine = PartialFile(place, size), _Reservation(is_alive)
        self._open[place] = mine
        try:
            with mine.scope:
                yield part
        except (StorageFull, StorageError):
            await in_the_end(part.discard)
            raise
        finally:
            await in_the_end(part.close)
            del self._open[place]
            mine.ended.set()
        if mine.scope.cancelled_caught:
            raise Refused(Code.REPLACED, "The same file is sent on a newer connection.")

    def begin(self, part: PartialFile) -> None:
        """Open a part, which takes as long as it takes to read; for a worker thread.

        Raises `StorageFull` if there is no room for the rest.
        """
        with reported():
            for directory in (part.path.parent.parent, part.path.parent):
                directory.mkdir(mode=0o700, exist_ok=True)
            part.open(check_cancelled)
            if shutil.disk_usage(self.path).free < part.size - part.offset:
                raise StorageFull

    async def keep(self, part: PartialFile) -> None:
        """Make a whole part durable under its digest, while nobody else may change anything."""
        await self._change(lambda: self._keep(part))

    async def make_room(self, person: str, room: int, going: Iterable[tuple[int, bytes]]) -> None:
        """Drop the oldest of what a person has begun to send, if it takes more than `room` bytes.

        Not counted is what is being sent at the moment, nor what is `going` to be: sizes and heads.
        """
        begun_by = self._begun_by(person)
        kept = self._open.keys() | {begun_by / _key(size, head) for size, head in going}
        with reported():
            await in_thread(lambda: _drop_oldest(begun_by, kept, room))

    @asynccontextmanager
    async def outgoing(self, sha256: bytes, size: int) -> AsyncIterator[StoredFile]:
        """Read a stored file. Raises `Refused` (file_damaged)."""
        place = self._place(sha256)
        with reported():
            try:
                file = await in_thread(lambda: place.open("rb", buffering=0))
            except FileNotFoundError:
                raise FileDamaged from None
        try:
            yield StoredFile(file, place, sha256, size)
        finally:
            await in_the_end(file.close)

    async def remove(self, digests: list[bytes]) -> None:
        """Remove files. To be called while nobody else may change anything."""
        await self._change(lambda: self._remove(digests))

    async def clean(self, known: set[bytes]) -> None:
        """Remove files that are not among the `known`, and what was begun long ago.

        To be called while nobody else may change anything.
        """
        await self._change(lambda: self._clean(known))

    async def drop_stale(self) -> None:
        """Remove what was begun long ago."""
        with reported():
            await in_thread(self._drop_stale, long=True)

    async def _change(self, work: Callable[[], None]) -> None:
        with reported():
            await trio.to_thread.run_sync(work, limiter=self._changes)

    # ------------------------------------------------------------------ in threads

    def _keep(self, part: PartialFile) -> None:
        part.sync()
        place = self._place(part.digest)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        has_sums = count_pieces(part.size) > 1  # the digest of one piece is the file's name
        part.place(place, place.with_name(place.name + SUMS) if has_sums else None)
        # The rename and a new directory are only on disk once their directories are.
        _sync_directory(place.parent)
        _sync_directory(place.parent.parent)

    def _remove(self, digests: list[bytes]) -> None:
        for sha256 in digests:
            place = self._place(sha256)
            place.unlink(missing_ok=True)
            place.with_name(place.name + SUMS).unlink(missing_ok=True)

    def _clean(self, known: set[bytes]) -> None:
        names = {sha256.hex() for sha256 in known}
        for place in self.path.glob("??/*"):
            if place.name.removesuffix(SUMS) not in names:
                place.unlink()
        for left_over in self.path.glob("incoming-*"):  # of versions that could not go on with them
            left_over.unlink()
        self._drop_stale()

    def _drop_stale(self) -> None:
        limit = time.time() - BEGUN_SECONDS
        for place in self.path.glob(f"{_INCOMING}/*/*"):
            with suppress(FileNotFoundError):
                if place.stat().st_mtime < limit and _main(place) not in self._open:
                    place.unlink()

    def _begun_by(self, person: str) -> Path:
        return self.path / _INCOMING / hashlib.sha256(person.encode()).hexdigest()[:32]

    def _place(self, sha256: bytes) -> Path:
        digest = sha256.hex()
        return self.path / digest[:2] / digest


@dataclass(slots=True)
class _Reservation:
    """A part that is being sent; `is_alive` says whether anything still comes."""

    is_alive: Callable[[], bool]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)


class StoredFile:
    """A stored file as the source of a transfer; see `tchat.transfer.endpoints.Source`."""

    def __init__(self, file: FileIO, place: Path, sha256: bytes, size: int) -> None:
        self.size = size
        self._file = file
        self._place = place
        self._sha256 = sha256
        self._sums = place.with_name(place.name + SUMS)
        self._digests: list[bytes] = []
        self._at = 0
        self._room = memoryview(bytearray(min(PIECE_SIZE, size)))

    def start(self, have: Have, check: Callable[[], None]) -> int:
        """Go to where the receiver is. A copy that is in doubt is looked through first.

        Raises `FileDamaged` if it is not what was stored.
        """
        with reported():
            self._load(check, doubt=have.doubt)
            end = count_pieces(self.size) * PIECE_SIZE  # where the last piece would end, if whole
            whole = have.offset if have.offset < self.size else end
            same = have.offset <= self.size and have.sha256 == digest_before(whole, self._digests)
            self._at = have.offset if same else 0
            self._file.seek(self._at)
        return self._at

    def is_current(self) -> bool:
        """Return whether it is what is stored, and not replaced by a newer copy by now."""
        try:
            return os.path.samestat(self._place.stat(), os.fstat(self._file.fileno()))
        except OSError:
            return True

    def read(self) -> tuple[memoryview, bytes]:
        """Return the rest of the next piece and the digest that was stored with it."""
        end = end_of_piece(self._at, self.size)
        data = self._room[: end - self._at]
        with reported():
            size = fill(self._file.readinto, data)
        if size < len(data):
            raise FileDamaged
        digest = self._digests[boundary(self._at) // PIECE_SIZE]
        self._at = end
        return data, digest

    def _load(self, check: Callable[[], None], *, doubt: bool) -> None:
        count = count_pieces(self.size)
        if os.fstat(self._file.fileno()).st_size != self.size:
            raise FileDamaged
        if not doubt:
            self._digests = [self._sha256] if count == 1 else self._stored_digests()
            if len(self._digests) == count and self._sha256 == digest_before(
                count * PIECE_SIZE, self._digests
            ):
                return
        self._digests = self._compute(check)
        if digest_before(count * PIECE_SIZE, self._digests) != self._sha256:
            raise FileDamaged
        if count > 1:
            write_digests(self._sums, self._digests)

    def _stored_digests(self) -> list[bytes]:
        return split_digests(self._sums.read_bytes()) if self._sums.exists() else []

    def _compute(self, check: Callable[[], None]) -> list[bytes]:
        digests, running = [], hashlib.sha256()
        self._file.seek(0)
        while size := fill(self._file.readinto, self._room):
            check()
            running.update(self._room[:size])
            digests.append(running.digest())
        return digests


@contextmanager
def reported() -> Iterator[None]:
    """Turn what the operating system says into what stores promise to say."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise StorageFull from error
        raise StorageError(
            Code.INTERNAL, f"Files cannot be stored or read: {error.strerror}."
        ) from error


def _key(size: int, head: bytes) -> str:
    return hashlib.sha256(size.to_bytes(8, "big") + head).hexdigest()[:32]


def _main(place: Path) -> Path:
    """Return the part that a file of digests belongs to, or the part itself."""
    return place.with_name(place.name.removesuffix(SUMS))


def _drop_oldest(directory: Path, kept: set[Path], room: int) -> None:
    parts = []
    for place in directory.glob("*"):
        with suppress(FileNotFoundError):  # somebody else may be tidying up as well
            parts.append((place.stat().st_mtime, place.stat().st_size, place))
    for _, size, place in sorted(parts, reverse=True):
        if _main(place) not in kept:
            room -= size
            if room < 0:
                place.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

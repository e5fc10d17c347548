"""Partial files on disk, of uploads and downloads: verified pieces, appended one by one.

Data from an earlier run is not trusted. When a partial file is opened again, it is read and hashed,
which the running digest requires anyway, and truncated after the last piece that matches its
digest. So a flipped bit on the disk is found before data is added, and only the file from that
piece on has to be received again.

All methods block, so call them in worker threads.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from io import FileIO
from stat import S_ISREG
from typing import TYPE_CHECKING

from tchat.errors import Code, Refused
from tchat.file_lock import lock_opened
from tchat.transfer.pieces import (
    CHUNK_SIZE,
    EMPTY_DIGEST,
    count_pieces,
    join_digests,
    piece_end,
    piece_start,
    split_digests,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Data = bytes | bytearray | memoryview

# Never follow a symbolic link, and never block while opening a pipe.
_SAFE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK

DIGESTS_SUFFIX = ".sums"
"""The suffix of a digests file's name."""


class BrokenPiece(Refused):
    """A piece does not match its digest; it was discarded."""

    def __init__(self) -> None:
        super().__init__(Code.FILE_CHANGED, "The file was damaged in transit.")


class PartialFile:
    """The beginning of a file of `size` bytes, at `path`.

    `offset` is its current length. `doubt` is true after a broken piece: the next sender is asked
    to verify its own copy first.
    """

    def __init__(self, path: Path, size: int, mode: int = 0o600) -> None:
        self.path = path
        self.size = size
        self.offset = 0
        self.doubt = False
        self.digests: list[bytes] = []
        self._mode = mode
        self._sums = path.with_name(path.name + DIGESTS_SUFFIX)
        self._hash = hashlib.sha256()
        self._whole = hashlib.sha256()
        self._file: FileIO | None = None
        self._ready = False

    @property
    def digest(self) -> bytes:
        """The running digest of all complete pieces; in a complete file, the file's SHA-256."""
        return self.digests[-1] if self.digests else EMPTY_DIGEST

    @property
    def is_complete(self) -> bool:
        """Whether the file is complete and verified."""
        return self.offset == self.size and len(self.digests) == count_pieces(self.size)

    def open(self, check: Callable[[], None] = lambda: None) -> None:
        """Open or create the file, and truncate it to its valid part.

        `check` is called regularly, and may cancel the call by raising an exception. Raises
        OSError: BlockingIOError if another process has the file open.
        """
        self._file = _lock(self.path, self._mode)
        _remove_foreign(self._sums)
        known = read_digests(self._sums)
        room = memoryview(bytearray(min(CHUNK_SIZE, self.size)))
        for digest in known[: count_pieces(self.size)]:
            check()
            size = self._hash_next(piece_end(self.offset, self.size) - self.offset, room)
            if self._hash.digest() != digest:
                break
            self._advance(size, digest)
        self._hash = self._whole.copy()
        self._file.seek(self.offset)
        # The file may end with the start of the next piece. A complete piece without a recorded
        # digest cannot be verified, and has to be received again. So read at most one byte less
        # than a piece; the check below detects further bytes.
        rest = self._hash_next(max(0, piece_end(self.offset, self.size) - self.offset - 1), room)
        # Keep these bytes only if all recorded digests have matched, and no further bytes follow.
        if len(self.digests) == len(known) and not self._file.read(1):
            self.offset += rest
        else:
            self._hash = self._whole.copy()
        self._truncate()
        self._ready = True

    def add(self, rest: Data, digest: bytes) -> None:
        """Add the rest of a piece. Raises `BrokenPiece`; then the piece has to be sent again."""
        self._hash.update(rest)
        if self._hash.digest() != digest:
            self.rewind()
            self.doubt = True
            raise BrokenPiece
        self._write(rest)
        begin = piece_start(self.offset)
        self._advance(len(rest), digest)
        self._start_writeback(begin)
        self.doubt = False
        write_digests(self._sums, [digest], self._mode, os.O_APPEND)

    def add_incomplete(self, data: Data) -> None:
        """Add data of a piece, but not its end."""
        self._hash.update(data)
        self._write(data)
        self.offset += len(data)

    def rewind(self, *, to_start: bool = False) -> None:
        """Discard the incomplete piece, or everything."""
        if to_start:
            self.digests.clear()
            self._whole = hashlib.sha256()
        self.offset = 0 if to_start else piece_start(self.offset)
        self._hash = self._whole.copy()
        self._truncate()

    def sync(self) -> None:
        """Flush the file to the disk."""
        os.fsync(self._opened.fileno())

    def move_to(self, target: Path, sums: Path | None = None) -> None:
        """Move the complete file to `target`, and its digests to `sums`, or delete them if None."""
        try:
            if sums is not None:
                write_digests(self._sums, self.digests, self._mode)
                self._sums.replace(sums)
            self._sums.unlink(missing_ok=True)
            self.path.replace(target)
        finally:
            self._opened.close()  # which unlocks it

    def close(self) -> None:
        """Close the file, and remove it if it is empty."""
        if self._file is not None:
            try:
                if self._ready and not self.offset:
                    self.discard()
            finally:
                self._file.close()  # which also unlocks it

    def discard(self) -> None:
        """Remove the file and its digests."""
        self.path.unlink(missing_ok=True)
        self._sums.unlink(missing_ok=True)

    @property
    def _opened(self) -> FileIO:
        if self._file is None:
            raise ValueError("a partial file is used before it was opened")
        return self._file

    def _hash_next(self, size: int, room: memoryview) -> int:
        """Hash the next `size` bytes of the file; return how many there were."""
        done = 0
        while done < size and (more := self._opened.readinto(room[: size - done])):
            self._hash.update(room[:more])
            done += more
        return done

    def _advance(self, size: int, digest: bytes) -> None:
        self.offset += size
        self.digests.append(digest)
        self._whole = self._hash.copy()

    def _truncate(self) -> None:
        """Truncate the file and the digests file to the valid part."""
        self._opened.truncate(self.offset)
        self._opened.seek(self.offset)
        if self.digests or self._sums.exists():
            write_digests(self._sums, self.digests, self._mode)

    def _start_writeback(self, begin: int) -> None:
        """Make the kernel start to write the bytes from `begin` to the disk, without waiting.

        Otherwise the kernel collects much data and writes it all at once, and an fsync at that
        moment, even for a single message, has to wait for all of it.
        """
        if sys.platform == "linux":
            size = self.offset - begin
            os.posix_fadvise(self._opened.fileno(), begin, size, os.POSIX_FADV_DONTNEED)

    def _write(self, data: Data) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._opened.write(rest) :]


def write_digests(
    path: Path, digests: Sequence[bytes], mode: int = 0o600, how: int = os.O_TRUNC
) -> None:
    """Write a digests file; `how` is O_TRUNC, or O_APPEND to add to it."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | _SAFE_FLAGS | how, mode), "wb") as file:
        file.write(join_digests(digests))


def read_digests(path: Path) -> list[bytes]:
    """Return the contents of a digests file; nothing if there is none."""
    try:
        return split_digests(path.read_bytes())
    except FileNotFoundError:
        return []


def _lock(path: Path, mode: int) -> FileIO:
    """Open a file, and lock it against other processes."""
    while True:
        _remove_foreign(path)
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | _SAFE_FLAGS, mode), "rb+")
        try:
            if lock_opened(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _remove_foreign(path: Path) -> None:
    """Remove a link, a special file or another user's file at `path`.

    Writing to it could change another file, or a file of another user. A file with a second hard
    link is removed, too: a program that was killed while it moved a file leaves two links.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    is_mine = found.st_uid == os.geteuid()
    if not (S_ISREG(found.st_mode) and found.st_nlink == 1 and is_mine):
        path.unlink(missing_ok=True)


def fill_buffer(read_into: Callable[[memoryview], int | None], room: memoryview) -> int:
    """Read until the buffer is full, or the file ends; return the number of bytes."""
    size = 0
    while size < len(room) and (more := read_into(room[size:])):
        size += more
    return size


def is_disk_full(error: OSError) -> bool:
    """Return whether an error means that the disk or a quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

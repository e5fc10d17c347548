"""A file that is not whole yet, and what is known about it: its running digests, beside it.

Nothing is taken on trust from an earlier run. Opened again, the part is read and hashed, which it
has to be anyway, and cut back to where it agrees with the digests: a byte that flipped on the disk
meanwhile costs its piece, and is found before anything is built upon it.

All of this blocks, and is meant for worker threads.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from io import FileIO
from stat import S_ISREG
from typing import TYPE_CHECKING

from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import Code, Refused
from tchat.transfer.pieces import (
    NOTHING,
    boundary,
    count_pieces,
    end_of_piece,
    join_digests,
    split_digests,
)

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# Never through a link, and never waiting for somebody at the other end of a pipe.
_CAREFULLY = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))

SUMS = ".sums"
"""What the name of a file of digests ends in."""


class BrokenPiece(Refused):
    """A piece came that is not what its digest says; it was not kept."""

    def __init__(self) -> None:
        super().__init__(Code.FILE_CHANGED, "The file broke on its way.")


class PartialFile:
    """The beginning of a file of `size` bytes, at `path`.

    `offset` is how much of it is here; `doubt` whether what came behind it was broken the last
    time.
    """

    def __init__(self, path: Path, size: int, mode: int = 0o600) -> None:
        self.path = path
        self.size = size
        self.offset = 0
        self.doubt = False
        self.digests: list[bytes] = []
        self._mode = mode
        self._sums = path.with_name(path.name + SUMS)
        self._hash = hashlib.sha256()
        self._whole = hashlib.sha256()
        self._file: FileIO | None = None
        self._ready = False

    @property
    def digest(self) -> bytes:
        """The SHA-256 of all whole pieces; that of the file, once it is whole."""
        return self.digests[-1] if self.digests else NOTHING

    @property
    def is_whole(self) -> bool:
        """Whether all of the file is here, and is what it should be."""
        return self.offset == self.size and len(self.digests) == count_pieces(self.size)

    def open(self, check: Callable[[], None] = lambda: None) -> None:
        """Open or make the part and find out how much of it is right.

        `check` is called now and then, and may end it by raising. Raises OSError, of which
        BlockingIOError when somebody else has it open.
        """
        self._file = _lock(self.path, self._mode)
        _make_way(self._sums)
        known = split_digests(self._sums.read_bytes()) if self._sums.exists() else []
        room = memoryview(bytearray(min(PIECE_SIZE, self.size)))
        for digest in known[: count_pieces(self.size)]:
            check()
            piece = room[: fill(self._file.readinto, room[: self.size - self.offset])]
            self._hash.update(piece)
            if self._hash.digest() != digest:
                break
            self._advance(len(piece), digest)
        self._hash = self._whole.copy()
        self._file.seek(self.offset)
        # A piece that is all there but has no digest has to come again: nothing else proves it.
        missing = max(0, end_of_piece(self.offset, self.size) - self.offset - 1)
        rest = room[: fill(self._file.readinto, room[:missing])]
        # What is behind a piece that was found broken, or longer than this, is not its beginning.
        if len(self.digests) == len(known) and not self._file.read(1):
            self._hash.update(rest)
            self.offset += len(rest)
        self._cut()
        self._ready = True

    def add(self, rest: bytes | memoryview, digest: bytes) -> None:
        """Add the rest of a piece. Raises `BrokenPiece`, after which the piece begins anew."""
        self._hash.update(rest)
        if self._hash.digest() != digest:
            self.rewind()
            self.doubt = True
            raise BrokenPiece
        self._write(rest)
        self._advance(len(rest), digest)
        self._hurry(len(rest))
        self.doubt = False
        write_digests(self._sums, [digest], self._mode, os.O_APPEND)

    def add_beginning(self, data: bytes | memoryview) -> None:
        """Add what has come of a piece whose rest is still to come."""
        self._hash.update(data)
        self._write(data)
        self.offset += len(data)

    def rewind(self, *, to_start: bool = False) -> None:
        """Forget what is here of the piece that is not whole, or everything."""
        if to_start:
            self.digests.clear()
            self._whole = hashlib.sha256()
        self.offset = 0 if to_start else boundary(self.offset)
        self._hash = self._whole.copy()
        self._cut()

    def sync(self) -> None:
        """Return when all of it has reached the disk."""
        os.fsync(self._opened.fileno())

    def place(self, target: Path, sums: Path | None = None) -> None:
        """Give the whole file its name, and its digests one, if they are to be kept."""
        self._opened.close()  # some systems rename no open file
        if sums is not None:
            write_digests(self._sums, self.digests, self._mode)
            self._sums.replace(sums)
        self._sums.unlink(missing_ok=True)
        self.path.replace(target)

    def close(self) -> None:
        """End the use of the part; one that is empty does not stay."""
        if self._file is not None:
            if self._ready and not self.offset:
                self.discard()
            self._file.close()

    def discard(self) -> None:
        """Remove all trace of it."""
        self.path.unlink(missing_ok=True)
        self._sums.unlink(missing_ok=True)

    @property
    def _opened(self) -> FileIO:
        if self._file is None:
            raise ValueError("a part is used before it was opened")
        return self._file

    def _advance(self, size: int, digest: bytes) -> None:
        self.offset += size
        self.digests.append(digest)
        self._whole = self._hash.copy()

    def _cut(self) -> None:
        """Let the files end where their contents are right."""
        self._opened.truncate(self.offset)
        self._opened.seek(self.offset)
        if self.digests or self._sums.exists():
            write_digests(self._sums, self.digests, self._mode)

    def _hurry(self, size: int) -> None:
        """Let the system begin to write what was added to the disk, without waiting for it.

        Left to itself it gathers much and writes it at once, and whoever waits for the disk then,
        be it for one message, waits for all of that.
        """
        if sys.platform == "linux":
            begin = self.offset - size
            os.posix_fadvise(self._opened.fileno(), begin, size, os.POSIX_FADV_DONTNEED)

    def _write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._opened.write(rest) :]


def write_digests(
    path: Path, digests: Sequence[bytes], mode: int = 0o600, how: int = os.O_TRUNC
) -> None:
    """Write the file of digests, or add to it if that is `how`."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | _CAREFULLY | how, mode), "wb") as file:
        file.write(join_digests(digests))


def _lock(path: Path, mode: int) -> FileIO:
    """Open a file that no other process has open as a part."""
    while True:
        _make_way(path)
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | _CAREFULLY, mode), "rb+")
        try:
            if sys.platform == "win32":
                return file
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it before may have given it its name, or removed it.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _make_way(path: Path) -> None:
    """Remove what bears the name of a file of ours and is none, or is one with another name, too.

    Others may have put it there, to have us write somewhere else, or on what belongs to them; or
    a program was killed when it had just given a part its name.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    is_mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    if not (S_ISREG(found.st_mode) and found.st_nlink == 1 and is_mine):
        path.unlink(missing_ok=True)


def fill(read_into: Callable[[memoryview], int | None], room: memoryview) -> int:
    """Fill a buffer with what is read a part at a time; return how much, less if it ends before."""
    size = 0
    while size < len(room) and (more := read_into(room[size:])):
        size += more
    return size


def is_full(error: OSError) -> bool:
    """Return whether a disk has no room for what was to be written."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

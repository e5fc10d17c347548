"""What can be sent: a file as it is, or a directory as a tar archive that is made on the way.

Of an archive only the order and the sizes are found out beforehand, which is enough to know every
byte's place in it: so it needs no room anywhere, and can be gone on with like a file. It has no
owners, only names, modes and times, and is the same whenever it is made from the same files.

All of this blocks, and is meant for worker threads.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from bisect import bisect_right
from io import FileIO
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import TYPE_CHECKING, Protocol

from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.core.text import clean_line, safe_filename
from tchat.errors import Code, Refused
from tchat.transfer.partial_file import fill_buffer
from tchat.transfer.pieces import EMPTY_DIGEST, piece_end, piece_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tchat.core.protocol.frames import Have

MOST_MEMBERS = 200_000
"""Of how many files a directory is sent: where each of them begins is kept in memory."""

_BLOCK = tarfile.BLOCKSIZE


class Content(Protocol):
    """Bytes that can be read from any place. `name` is what the others see."""

    name: str
    size: int

    def seek(self, offset: int) -> None:
        """Go to a place."""

    def read_into(self, room: memoryview) -> int:
        """Read into a buffer; return how much, none at the end. Raises OSError or `Refused`."""

    def check(self, sha256: bytes) -> None:
        """Raise `Refused` (file_changed) if they are not what they were, and have that digest."""

    def close(self) -> None:
        """End the use of it."""


class HashedSource:
    """Content as the source of a transfer; see `tchat.transfer.endpoints.Source`.

    The state of the hash is kept for each piece, so that no byte is hashed again because a
    connection broke.
    """

    def __init__(self, content: Content) -> None:
        self.content = content
        self.name = content.name
        self.size = content.size
        self.digest = EMPTY_DIGEST  # of everything, once it was read
        self._states = [hashlib.sha256()]
        self._hash = self._states[0].copy()
        self._at = 0
        self._room = memoryview(bytearray(min(PIECE_SIZE, self.size)))

    def head(self) -> bytes:
        """Return the digest of the first piece."""
        return self._digest_at(min(PIECE_SIZE, self.size), lambda _: None)

    def whole(self, told: Callable[[int], None]) -> bytes:
        """Return the digest of everything; `told` gets how much of it is read."""
        return self._digest_at(self.size, told)

    def start(self, have: Have, check: Callable[[], None]) -> int:
        """Go to where the receiver is; see `Source.start`."""
        offset = have.offset
        whole = piece_start(offset) if offset < self.size else offset
        if offset > self.size or self._digest_at(whole, lambda _: check()) != have.sha256:
            offset = whole = 0
        self._go_to(whole)
        if offset > whole:
            self._hash.update(self._read(offset - whole))
        self._at = offset
        return offset

    def read(self) -> tuple[memoryview, bytes]:
        """Return the rest of the next piece, and its running digest; see `Source.read`."""
        data = self._read(piece_end(self._at, self.size) - self._at)
        self._hash.update(data)
        self._at += len(data)
        digest = self._hash.digest()
        if self._at == self.size:
            self.content.check(digest)
            self.digest = digest
        if self._at == len(self._states) * PIECE_SIZE:
            self._states.append(self._hash.copy())
        return data, digest

    def close(self) -> None:
        """End the use of the content."""
        self.content.close()

    def _digest_at(self, offset: int, told: Callable[[int], None]) -> bytes:
        """Return the running digest at the end of a piece."""
        known = min(offset // PIECE_SIZE, len(self._states) - 1) * PIECE_SIZE
        self._go_to(known)
        digest = self._hash.digest() if known else EMPTY_DIGEST
        while self._at < offset:
            _, digest = self.read()
            told(self._at)
        return digest

    def _go_to(self, begin: int) -> None:
        self.content.seek(begin)
        self._hash = self._states[begin // PIECE_SIZE].copy()
        self._at = begin

    def _read(self, size: int) -> memoryview:
        data = self._room[:size]
        if fill_buffer(self.content.read_into, data) < size:
            raise changed(self.name)
        return data


class FileContent:
    """A file. It may become longer while it is sent, as logs do: what it had at first is sent."""

    def __init__(self, path: Path) -> None:
        # Not to hang on a named pipe: opened without blocking, then turned away.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        self._file = FileIO(os.open(path, flags), "rb")
        self._found = self._now()
        trouble = self._trouble()
        if trouble:
            self._file.close()
            raise OSError(0, trouble)
        self.name = safe_filename(path.name)
        self.size = self._found.st_size
        self.mtime = self._found.st_mtime_ns

    def seek(self, offset: int) -> None:
        """Go to a place."""
        self._file.seek(offset)

    def read_into(self, room: memoryview) -> int:
        """Read what there was at first, and nothing that was added."""
        return self._file.readinto(room[: max(0, self.size - self._file.tell())]) or 0

    def check(self, sha256: bytes | None = None) -> None:
        """Raise `Refused` if the file is not what it was.

        One that was written to and became longer is read once more, if there is a digest to compare
        with: what it had at first is to be there still, and not what two versions had.
        """
        now = self._now()
        if (now.st_size, now.st_mtime_ns) == (self.size, self.mtime):
            return
        if now.st_size <= self.size or sha256 is None or self._digest() != sha256:
            raise changed(self.name)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _trouble(self) -> str:
        """Return what makes it impossible to send, if anything does."""
        if not S_ISREG(self._found.st_mode):
            return "it is neither a file nor a directory"
        # As those do which a system makes up when they are read.
        if not self._found.st_size and self._file.read(1) and not self._now().st_size:
            return "it has no length, and yet something in it"
        return ""

    def _now(self) -> os.stat_result:
        return os.fstat(self._file.fileno())

    def _digest(self) -> bytes:
        room, running = memoryview(bytearray(PIECE_SIZE)), hashlib.sha256()
        self.seek(0)
        while size := fill_buffer(self.read_into, room):
            running.update(room[:size])
        return running.digest()


class TarContent:
    """A directory as a tar archive (POSIX.1-2001, pax). Links stay links; devices stay away."""

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        self.name = safe_filename(f"{path.resolve().name or 'root'}.tar")
        self._starts: list[int] = []
        self._segments: list[bytes | tuple[Path, os.stat_result]] = []
        self.size = 0
        for number, (member, found) in enumerate(_walk(path)):
            check()
            if number >= MOST_MEMBERS:
                raise OSError(0, f"it has more than {MOST_MEMBERS:,} files; make an archive of it")
            self._add_member(path, member, found)
        end = -(self.size + 2 * _BLOCK) % tarfile.RECORDSIZE + 2 * _BLOCK
        self._add(bytes(end), end)
        self._at = 0
        self._open: tuple[int, FileContent] | None = None

    def seek(self, offset: int) -> None:
        """Go to a place."""
        self._at = offset

    def read_into(self, room: memoryview) -> int:
        """Read what is next in one go: a header, say, or some of a file."""
        if self._at >= self.size:
            return 0
        index = bisect_right(self._starts, self._at) - 1
        segment, inside = self._segments[index], self._at - self._starts[index]
        if isinstance(segment, bytes):
            size = min(len(room), len(segment) - inside)
            room[:size] = segment[inside : inside + size]
        else:
            file = self._file(index, *segment)
            file.seek(inside)
            size = file.read_into(room[: segment[1].st_size - inside])
            if not size or inside + size == segment[1].st_size:
                file.check()
        self._at += size
        return size

    def check(self, sha256: bytes) -> None:
        """Each member was checked when its end was read."""

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _file(self, index: int, path: Path, found: os.stat_result) -> FileContent:
        if self._open is None or self._open[0] != index:
            self.close()
            try:
                file = FileContent(path)
            except OSError as error:
                raise changed(str(path)) from error
            self._open = index, file
            if (file.size, file.mtime) != (found.st_size, found.st_mtime_ns):
                raise changed(str(path))
        return self._open[1]

    def _add_member(self, top: Path, member: Path, found: os.stat_result) -> None:
        name = Path(top.resolve().name or "root") / member.relative_to(top)
        info = tarfile.TarInfo(name.as_posix())
        info.mode, info.mtime = found.st_mode & 0o7777, int(found.st_mtime)
        if S_ISDIR(found.st_mode):
            info.type = tarfile.DIRTYPE
        elif S_ISLNK(found.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, str(member.readlink())
        else:
            info.size = found.st_size
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        self._add(header, len(header))
        if info.size:
            self._add((member, found), info.size)
            padding = -info.size % _BLOCK
            self._add(bytes(padding), padding)

    def _add(self, segment: bytes | tuple[Path, os.stat_result], size: int) -> None:
        if size:
            self._starts.append(self.size)
            self._segments.append(segment)
            self.size += size


def open_source(path: Path, check: Callable[[], None] = lambda: None) -> HashedSource:
    """Return a file or directory as something to send. Raises `Refused` (file_unreadable).

    `check` is called now and then, and may end it by raising.
    """
    try:
        path = path.expanduser()
        return HashedSource(TarContent(path, check) if path.is_dir() else FileContent(path))
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Refused(
            Code.FILE_UNREADABLE, f"{clean_line(str(path))} cannot be sent: {reason}."
        ) from error


def changed(name: str) -> Refused:
    """Return what to say of content that is not what it was."""
    return Refused(
        Code.FILE_CHANGED, f"{clean_line(name)} changed while it was read; send it again."
    )


def _walk(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield a directory and all that is in it and can be archived, in order."""
    yield path, path.stat()
    for member in sorted(path.iterdir()):
        found = member.lstat()
        if S_ISDIR(found.st_mode):
            yield from _walk(member)
        elif S_ISREG(found.st_mode) or S_ISLNK(found.st_mode):
            if S_ISREG(found.st_mode) and not os.access(member, os.R_OK):
                raise OSError(0, f"{clean_line(str(member))} cannot be read")
            yield member, found

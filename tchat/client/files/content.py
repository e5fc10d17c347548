"""Content to upload: a file as it is, or a directory as a tar archive that is built on the fly.

The order and the sizes of an archive's members are determined beforehand, which fixes the offset of
every byte. So the archive needs no disk space, and its upload can be resumed like that of a file.
The archive records names, modes and times but no owners, and it is reproducible: the same files
always make the same archive.

Everything here blocks, and has to run in worker threads.
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

from tchat.client.native_paths import readable
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.core.text import clean_line, safe_filename
from tchat.errors import Code, Refused
from tchat.transfer.partial_file import fill_buffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


MOST_MEMBERS = 200_000
"""The largest number of files in a directory to upload: the offset of each is kept in memory."""

_BLOCK = tarfile.BLOCKSIZE


class Content(Protocol):
    """Bytes that can be read from any offset. `name` is the file name that the group sees."""

    name: str
    size: int

    def seek(self, offset: int) -> None:
        """Seek to an offset."""

    def read_into(self, buffer: memoryview) -> int:
        """Read into a buffer; return the size, 0 at the end. Raises OSError or `Refused`."""

    def check(self, sha256: bytes) -> None:
        """Raise `Refused` (file_changed) if the bytes no longer have this digest."""

    def close(self) -> None:
        """Close the open file, if any."""


class FileContent:
    """A file to upload. If it grows meanwhile, as logs do, only its original bytes are sent."""

    def __init__(self, path: Path) -> None:
        # Opened without blocking, so as not to hang on a named pipe, which is refused below.
        self._file = FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
        self._initial = self._stat()
        trouble = self._obstacle()
        if trouble:
            self._file.close()
            raise OSError(0, trouble)
        self.name = safe_filename(readable(path.name))
        self.size = self._initial.st_size
        self.mtime = self._initial.st_mtime_ns

    def seek(self, offset: int) -> None:
        """Seek to an offset."""
        self._file.seek(offset)

    def read_into(self, buffer: memoryview) -> int:
        """Read up to the original size; bytes that were appended later are ignored."""
        return self._file.readinto(buffer[: max(0, self.size - self._file.tell())]) or 0

    def check(self, sha256: bytes | None = None) -> None:
        """Raise `Refused` if the file has changed.

        A file that has grown is read again and compared with the digest, if there is one: the bytes
        that were sent might be a mixture of two versions.
        """
        now = self._stat()
        if (now.st_size, now.st_mtime_ns) == (self.size, self.mtime):
            return
        if now.st_size <= self.size or sha256 is None or self._digest() != sha256:
            raise changed(self.name)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _obstacle(self) -> str:
        """Return why the file cannot be sent; empty if it can."""
        if not S_ISREG(self._initial.st_mode):
            return "it is neither a file nor a directory"
        # Virtual files, such as those under /proc, have size 0 and generate their content.
        if not self._initial.st_size and self._file.read(1) and not self._stat().st_size:
            return "it is a virtual file without a size"
        return ""

    def _stat(self) -> os.stat_result:
        return os.fstat(self._file.fileno())

    def _digest(self) -> bytes:
        buffer, running = memoryview(bytearray(PIECE_SIZE)), hashlib.sha256()
        self.seek(0)
        while size := fill_buffer(self.read_into, buffer):
            running.update(buffer[:size])
        return running.digest()


class TarContent:
    """A directory as a tar archive (POSIX.1-2001, pax): directories, files and symbolic links."""

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        self.name = safe_filename(f"{readable(path.resolve().name) or 'root'}.tar")
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
        """Seek to an offset."""
        self._at = offset

    def read_into(self, buffer: memoryview) -> int:
        """Read from one segment: a header, padding, or a part of a file."""
        if self._at >= self.size:
            return 0
        index = bisect_right(self._starts, self._at) - 1
        segment, inside = self._segments[index], self._at - self._starts[index]
        if isinstance(segment, bytes):
            size = min(len(buffer), len(segment) - inside)
            buffer[:size] = segment[inside : inside + size]
        else:
            file = self._file(index, *segment)
            file.seek(inside)
            size = file.read_into(buffer[: segment[1].st_size - inside])
            if not size or inside + size == segment[1].st_size:
                file.check()
        self._at += size
        return size

    def check(self, sha256: bytes) -> None:
        """Do nothing: each member was checked when its end was read."""

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


def changed(name: str) -> Refused:
    """Return the refusal for content that changed while it was read."""
    return Refused(
        Code.FILE_CHANGED, f"{clean_line(name)} changed while it was read; send it again."
    )


def _walk(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield a directory and everything in it that can be archived, in a stable order."""
    yield path, path.stat()
    for member in sorted(path.iterdir()):
        found = member.lstat()
        if S_ISDIR(found.st_mode):
            yield from _walk(member)
        elif S_ISREG(found.st_mode) or S_ISLNK(found.st_mode):
            if S_ISREG(found.st_mode) and not os.access(member, os.R_OK):
                raise OSError(0, f"{clean_line(str(member))} cannot be read")
            yield member, found

"""Upload source: hashes content piece by piece, and resumes from the receiver's offset.

Everything here blocks, and has to run in worker threads.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tchat.client.files.content import FileContent, TarContent, changed
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.core.text import clean_line
from tchat.errors import Code, Refused
from tchat.transfer.partial_file import fill_buffer
from tchat.transfer.pieces import EMPTY_DIGEST, piece_end, piece_start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tchat.client.files.content import Content
    from tchat.core.protocol.frames import Have


class HashedSource:
    """Content as the source of a transfer; see `tchat.transfer.endpoints.Source`.

    The state of the hash is saved at each piece boundary, so that resuming after a broken
    connection hashes at most a part of one piece again.
    """

    def __init__(self, content: Content) -> None:
        self.content = content
        self.name = content.name
        self.size = content.size
        self.digest = EMPTY_DIGEST  # of the whole content, once it has been read
        self._states = [hashlib.sha256()]
        self._hash = self._states[0].copy()
        self._at = 0
        self._buffer = memoryview(bytearray(min(PIECE_SIZE, self.size)))

    def head(self) -> bytes:
        """Return the digest of the first piece."""
        return self._digest_at(min(PIECE_SIZE, self.size), lambda _: None)

    def whole(self, on_progress: Callable[[int], None]) -> bytes:
        """Return the digest of the whole content; `on_progress` gets the number of bytes read."""
        return self._digest_at(self.size, on_progress)

    def start(self, have: Have, check: Callable[[], None]) -> int:
        """Seek to the receiver's offset, or to 0 if its bytes differ; see `Source.start`."""
        offset = have.offset
        # Digests are compared at piece boundaries; the rest up to the offset is only hashed.
        whole = piece_start(offset) if offset < self.size else offset
        if offset > self.size or self._digest_at(whole, lambda _: check()) != have.sha256:
            offset = whole = 0
        self._seek(whole)
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
        """Close the content."""
        self.content.close()

    def _digest_at(self, offset: int, on_progress: Callable[[int], None]) -> bytes:
        """Return the running digest at the end of a piece."""
        known = min(offset // PIECE_SIZE, len(self._states) - 1) * PIECE_SIZE
        self._seek(known)
        digest = self._hash.digest() if known else EMPTY_DIGEST
        while self._at < offset:
            _, digest = self.read()
            on_progress(self._at)
        return digest

    def _seek(self, begin: int) -> None:
        self.content.seek(begin)
        self._hash = self._states[begin // PIECE_SIZE].copy()
        self._at = begin

    def _read(self, size: int) -> memoryview:
        data = self._buffer[:size]
        if fill_buffer(self.content.read_into, data) < size:
            raise changed(self.name)
        return data


def open_source(path: Path, check: Callable[[], None] = lambda: None) -> HashedSource:
    """Open a file or a directory for uploading. Raises `Refused` (file_unreadable).

    `check` is called periodically, and may raise to stop the work.
    """
    try:
        path = path.expanduser()
        return HashedSource(TarContent(path, check) if path.is_dir() else FileContent(path))
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Refused(
            Code.FILE_UNREADABLE, f"{clean_line(str(path))} cannot be sent: {reason}."
        ) from error

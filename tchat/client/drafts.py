"""Drafts on disk: the unsent texts of each group survive restarts and crashes of the client.

Each process locks a file of its own, so that two clients that run at the same time do not overwrite
each other's drafts. A process that starts takes over the drafts of processes that have ended. A
file belongs to one person on one server; it is replaced atomically, and only its owner may read it.

The front end decides when to save. `pending` returns the new contents of the file, and `write`,
which may run in a worker thread, writes them.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tchat.core.text import fold
from tchat.durable_directory import make_directory
from tchat.file_lock import try_lock
from tchat.transfer.durable import remove_file, replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import FileIO
    from pathlib import Path

MOST_TEXT = 4 << 20
"""Most text on disk, in code points; the least recent drafts beyond this limit are not saved."""

_MAX_FILES = 100
_SUFFIX = ".json"


class Drafts:
    """The unsent texts of each group (folded), the one in the input line last; `path` is the file.

    Without a path, the texts are in memory only. `failure` is the error if no file can be used.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.failure: OSError | None = None
        self._texts = _read(path) if path else {}
        self._written = self._encode()

    def texts(self, group: str) -> list[str]:
        """Return the unsent texts of a group."""
        return list(self._texts.get(fold(group), []))

    def update(self, group: str, texts: Sequence[str]) -> None:
        """Replace the unsent texts of a group."""
        key = fold(group)
        if self._texts.get(key, []) == list(texts):
            return
        self._texts.pop(key, None)  # so that the most recent is the last
        if texts:
            self._texts[key] = list(texts)

    def adopt(self, other: Path) -> None:
        """Take over the drafts in another file, whose process has ended. Raises OSError."""
        for group, texts in _read(other).items():
            mine = self._texts.get(group, [])
            self._texts[group] = [*(text for text in texts if text not in mine), *mine]
        if (data := self.pending()) is not None:
            self.write(data)
        remove_file(other)

    def pending(self) -> bytes | None:
        """Return the new contents of the file; None if they have not changed."""
        data = self._encode()
        is_kept = self.path is not None or self.failure is not None
        return data if is_kept and data != self._written else None

    def write(self, data: bytes) -> None:
        """Replace the file, or remove it if there are no drafts any more. Raises OSError."""
        if self.failure is not None:
            raise self.failure
        if self.path is None:
            return
        if data == _EMPTY:
            remove_file(self.path)
        else:
            replace_file(self.path, data)
        self._written = data

    def _encode(self) -> bytes:
        kept: dict[str, list[str]] = {}
        room = MOST_TEXT
        for group, texts in reversed(self._texts.items()):
            for text in reversed(texts):
                room -= len(text)
                if room < 0:
                    break
                kept.setdefault(group, []).insert(0, text)
        return json.dumps(dict(reversed(kept.items()))).encode()


_EMPTY = b"{}"


@contextmanager
def open_drafts(directory: Path | None, user: str, servers: Sequence[str]) -> Iterator[Drafts]:
    """Open a person's drafts on a server for the length of the block.

    `servers` are the names that identify the server, the most reliable first: the drafts that are
    kept under the others move to that one. Without a directory, drafts are in memory only. If it
    cannot be used, `write` says so.
    """
    names = [
        hashlib.sha256(f"{fold(user)}\0{server}".encode()).hexdigest()[:20] for server in servers
    ]
    path = lock = failure = None
    if directory is not None:
        try:
            make_directory(directory)
            path, lock = _lock_first_free(directory, names[0])
        except OSError as error:
            failure = error
    drafts = Drafts(path)
    drafts.failure = failure
    try:
        if directory is not None and path is not None:
            for name in names:
                _adopt_others(drafts, directory, name)
        yield drafts
    finally:
        if lock is not None:
            lock.close()


def _lock_first_free(directory: Path, name: str) -> tuple[Path | None, FileIO | None]:
    for number in range(_MAX_FILES):
        path = directory / f"{name}.{number}{_SUFFIX}"
        if (lock := _try_lock(path)) is not None:
            return path, lock
    return None, None


def _adopt_others(drafts: Drafts, directory: Path, name: str) -> None:
    with suppress(OSError):
        for path in sorted(directory.glob(f"{name}.*{_SUFFIX}")):
            if path == drafts.path or (lock := _try_lock(path)) is None:
                continue
            with lock:
                drafts.adopt(path)


def _try_lock(path: Path) -> FileIO | None:
    """Lock a file of drafts; return None if another process has locked it. Raises OSError."""
    return try_lock(path.with_suffix(".lock"))


def _read(path: Path) -> dict[str, list[str]]:
    """Return the drafts in a file; none if it is missing or damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        group: [text for text in texts if isinstance(text, str)]
        for group, texts in found.items()
        if isinstance(texts, list)
    }

"""Notice that the files of an open database were moved, removed, replaced or overwritten.

An open file goes on existing when its name is removed, so SQLite would go on writing to a database
that nobody finds again, and the server would acknowledge what is lost. So after each commit, before
it is acknowledged, the names of the files must still lead to the same inodes. The write-ahead log
is one of them, because it holds the latest commits; the lock is another, because with a new one in
its place a second server could start. The database may not have shrunk either, unless it was
compacted: a copy over it, as by `cp`, keeps the inode.

SQLite has similar checks, but in WAL mode it heeds them only when it closes the database. Then it
leaves the log alone, so a directory that was moved as a whole has everything.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tchat.errors import Code, StorageError

if TYPE_CHECKING:
    from pathlib import Path


class FileWatch:
    """The files of a database that is open in this process, and the inodes they had at first."""

    def __init__(self, database: Path, *others: Path) -> None:
        self._database = database
        wal = database.with_name(f"{database.name}-wal")
        self._files: dict[Path, os.stat_result | None] = dict.fromkeys((database, wal, *others))
        self._size = 0
        self._may_shrink = False

    def expect_shrinking(self) -> None:
        """Allow the database to shrink once, at some later checkpoint."""
        self._may_shrink = True

    def lost(self) -> StorageError | None:
        """Return an error if a file is not what it was at the first call, or when it appeared.

        Errors other than a missing file mean that it cannot be checked now, and are ignored.
        """
        for path, known in self._files.items():
            try:
                found = os.stat(path)  # noqa: PTH116  # after each commit: Path.stat takes longer
            except (FileNotFoundError, NotADirectoryError):
                if known is None:
                    continue
                return _gone(path, "moved or removed")
            except OSError:
                continue
            if known is None:
                self._files[path] = found
            elif found.st_ino != known.st_ino or found.st_dev != known.st_dev:
                return _gone(path, "replaced")
            if path is self._database and self._has_shrunk(found.st_size):
                return _gone(path, "overwritten")
        return None

    def _has_shrunk(self, size: int) -> bool:
        shrunk, self._size = size < self._size, size
        if shrunk and self._may_shrink:
            self._may_shrink = False
            return False
        return shrunk


def _gone(path: Path, what: str) -> StorageError:
    return StorageError(
        Code.INTERNAL,
        f"{path} was {what} while the server was using it, so nothing can be stored any more. Put"
        " its directory back as it was, or restore a backup, and start the server again.",
    )

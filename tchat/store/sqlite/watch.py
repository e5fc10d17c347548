"""Notice that the files of an open database were moved, removed, replaced or overwritten.

An open file goes on existing when its name is removed, so SQLite would go on writing to a database
that nobody finds again, and the server would acknowledge what is lost. So after each commit, before
it is acknowledged, the name of the database must still lead to the same inode. The database may not
have shrunk either, unless it was compacted: a copy over it, as by `cp`, keeps the inode.

The write-ahead log and the lock are checked once a second, because each check costs a commit about
10 us. If the log was removed, SQLite copies what is in it to the database when the server stops;
and a second server that locks another file cannot write in the middle of a transaction.

SQLite has a similar check, but in WAL mode it heeds it only when it closes the database. Then it
leaves the log alone, so a directory that was moved as a whole has everything.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING

from tchat.errors import Code, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OTHERS_SECONDS = 1.0
"""How often the files other than the database are checked."""


class FileWatch:
    """The files of a database that is open in this process, and the inodes they had at first."""

    def __init__(
        self, database: Path, *others: Path, clock: Callable[[], float] = monotonic
    ) -> None:
        self._database = database
        wal = database.with_name(f"{database.name}-wal")
        self._others = (wal, *others)
        self._inodes: dict[Path, tuple[int, int]] = {}
        self._clock = clock
        self._others_at = clock()
        self._size = 0
        self._may_shrink = False

    def expect_shrinking(self) -> None:
        """Allow the database to shrink once, at some later checkpoint."""
        self._may_shrink = True

    def lost(self) -> StorageError | None:
        """Return an error if a file is not what it was at the first call, or when it appeared.

        Errors other than a missing file mean that it cannot be checked now, and are ignored.
        """
        error = self._changed(self._database)
        if error is None and (now := self._clock()) >= self._others_at:
            self._others_at = now + OTHERS_SECONDS
            error = next(filter(None, map(self._changed, self._others)), None)
        return error

    def _changed(self, path: Path) -> StorageError | None:
        try:
            found = os.stat(path)  # noqa: PTH116  # after each commit: Path.stat takes longer
        except (FileNotFoundError, NotADirectoryError):
            return _gone(path, "moved or removed") if path in self._inodes else None
        except OSError:
            return None
        inode = (found.st_dev, found.st_ino)
        if self._inodes.setdefault(path, inode) != inode:
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

"""Locks between processes: flock(2) on a file that stays where it is.

The kernel releases a lock when its last descriptor is closed, so a process that crashes or is
killed leaves none behind. Programs that a process starts do not inherit the descriptor (PEP 446). A
forked child does, and keeps its parent's lock until both have closed it: both use what is locked.

Lock files are not removed: a process that has just opened one would then lock a file that the
next process no longer finds. Versions of tchat up to 0.2 locked the same files with the library
filelock, which uses flock as well; each excludes the other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from io import FileIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_POLL_SECONDS = 0.01
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""The error numbers of a file system that does not support locks, as some network ones."""


def try_lock(path: Path) -> FileIO | None:
    """Lock a file, which is created if it is missing, until the returned one is closed.

    Returns None if it is locked already, by this process or another. Raises OSError if it cannot be
    created, opened or locked.
    """
    while True:
        # Read and write: over NFS, only a writable descriptor can have an exclusive lock.
        file = _open(path)
        try:
            if lock_opened(file, path):
                return file
        except BlockingIOError:
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        file.close()


def _open(path: Path) -> FileIO:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOCTTY
    try:
        # O_EXCL: only a file that is certainly new may be given away, never what a link leads to.
        file = FileIO(os.open(path, flags | os.O_EXCL, 0o600), "rb+")
    except FileExistsError:
        return FileIO(os.open(path, flags, 0o600), "rb+")
    if os.geteuid() == 0:
        # Otherwise, the user whose directory this is could never lock it again.
        owner = path.parent.stat()
        with suppress(OSError):
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
    return file


def lock_within(path: Path, seconds: float) -> FileIO:
    """Lock a file as `try_lock` does; block until it is free. Raises OSError.

    After `seconds`, the error is BlockingIOError.
    """
    deadline = time.monotonic() + seconds
    while (lock := try_lock(path)) is None:
        if time.monotonic() >= deadline:
            raise BlockingIOError(errno.EAGAIN, "another process keeps it locked", str(path))
        time.sleep(_POLL_SECONDS)
    return lock


def lock_opened(file: FileIO, path: Path) -> bool:
    """Lock an open file; return False if it is no longer the one at `path`.

    Then another process has moved or removed it between the opening and the locking. Raises
    BlockingIOError if it is locked already, and other OSErrors.
    """
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path)) from error
        if error.errno in UNSUPPORTED:
            sentence = "its file system does not support locks"
            raise OSError(error.errno, sentence, str(path)) from error
        raise
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False

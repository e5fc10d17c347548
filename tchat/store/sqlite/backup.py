"""Back up a data directory while its server runs: the database first, then the files it names.

The database is copied as one snapshot by SQLite's backup API. Files never change, but the server
removes those that nobody refers to any more, and may do so after the snapshot. Then the snapshot is
taken again: the newer one does not refer to the file. Every file is hashed while it is copied, so
that a backup does not silently carry a damaged file. Everything is on the disk when it is done, the
directories included.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.durable_directory import sync_directory
from tchat.store.blobs import blob_path
from tchat.store.sqlite.directory import DATABASE
from tchat.store.sqlite.view import connect_read_only, open_view_of_any_age, reading
from tchat.transfer.partial_file import DIGESTS_SUFFIX

if TYPE_CHECKING:
    from pathlib import Path

_ATTEMPTS = 20
_CHUNK = 1 << 20
_UNREADABLE = b""


@dataclass(frozen=True, slots=True)
class Copied:
    """The number of files in a backup and their total size; `damaged` could not be copied."""

    files: int
    size: int
    damaged: list[bytes]


def back_up(source: Path, target: Path) -> Copied:
    """Copy the database and the files of the directory `source` to the empty `target`.

    Raises `StartupError`, `StorageError` or OSError.
    """
    (target / "files").mkdir(mode=0o700, exist_ok=True)
    for _ in range(_ATTEMPTS):
        _copy_database(source, target)
        wanted = _stored_files(target)
        missing = [sha256 for sha256 in wanted if not _copy_file(source, target, sha256)]
        if not missing or _stored_files(source).keys() >= set(missing):
            break  # nothing is missing, or the server still refers to it: it is damaged
    _remove_others(target, wanted)
    for directory in (target / "files").iterdir():
        sync_directory(directory)
    sync_directory(target / "files")
    size = sum(size for sha256, size in wanted.items() if sha256 not in missing)
    return Copied(len(wanted) - len(missing), size, missing)


def _copy_database(source: Path, target: Path) -> None:
    path = target / DATABASE
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    with (
        reading(source),
        closing(connect_read_only(source)) as original,
        closing(sqlite3.connect(path)) as copy,
    ):
        original.backup(copy)  # in one step, and so in one transaction: a snapshot
        # A database in WAL mode needs two more files to be read, which a backup should not need.
        copy.execute("PRAGMA journal_mode = DELETE")
    sync_directory(target)


def _stored_files(directory: Path) -> dict[bytes, int]:
    """Return the size of every file in the index, by its SHA-256."""
    with open_view_of_any_age(directory) as connection:
        return dict(connection.execute("SELECT sha256, size FROM blobs"))


def _copy_file(source: Path, target: Path, sha256: bytes) -> bool:
    """Copy a file unless the target has it; return whether its digest is right."""
    copy = blob_path(target / "files", sha256)
    if copy.exists():
        return True
    original = blob_path(source / "files", sha256)
    copy.parent.mkdir(mode=0o700, exist_ok=True)
    digest = _copy_bytes(original, copy)
    if digest is None:
        return False
    if digest != sha256:
        copy.unlink()
        return False
    sums = original.with_name(original.name + DIGESTS_SUFFIX)
    copied_sums = copy.with_name(sums.name)
    if _copy_bytes(sums, copied_sums) == _UNREADABLE:  # or if there are none
        copied_sums.unlink()
    return True


def _copy_bytes(original: Path, copy: Path) -> bytes | None:
    """Copy a file durably; return the SHA-256 of its contents, or None if there is no such file.

    If reading fails, the result is `_UNREADABLE`, and the copy is a part of the file.
    """
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        read = original.open("rb")
    except FileNotFoundError:  # and only here: a target that is gone is another error
        return None
    with read, os.fdopen(os.open(copy, flags, 0o600), "wb") as write:
        while True:
            try:
                data = read.read(_CHUNK)
            except OSError:  # this file is damaged; an error of the target ends the backup
                return _UNREADABLE
            if not data:
                break
            digest.update(data)
            write.write(data)
        write.flush()
        os.fsync(write.fileno())
    return digest.digest()


def _remove_others(target: Path, wanted: dict[bytes, int]) -> None:
    """Remove files that only an earlier snapshot referred to."""
    names = {sha256.hex() for sha256 in wanted}
    for path in (target / "files").glob("??/*"):
        if path.name.removesuffix(DIGESTS_SUFFIX) not in names:
            path.unlink()

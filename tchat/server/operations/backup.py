"""Back up a data directory: database, files, and last the server's keys.

The backup is a data directory itself: to restore it, start a server on it, or on a copy of it. It
gets its name only when it is complete, so an interrupted one is never taken for a whole one.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.errors import Code, Refused
from tchat.store.sqlite.backup import back_up
from tchat.transfer.durable import replace_file, sync_directory
from tchat.transfer.partial_file import is_disk_full

if TYPE_CHECKING:
    from pathlib import Path

KEY_FILES = ("server-cert.pem", "server-key.pem")
_UNFINISHED = ".incomplete"


@dataclass(frozen=True, slots=True)
class BackupReport:
    """A finished backup: its path, the number and total size of its files.

    `damaged` are the SHA-256 (hexadecimal) of files that are missing or wrong in the data itself.
    """

    target: str
    files: int
    size: int
    damaged: tuple[str, ...]


def take_backup(data: Path, target: Path) -> BackupReport:
    """Back up the data directory to `target`, which must not exist, or be an empty directory.

    Raises `Refused` (file_unreadable, storage_full), `StartupError` or `StorageError`.
    """
    if target.absolute().is_relative_to(data.absolute()):
        raise Refused(Code.BAD_FILE, f"{target} is inside the data directory; choose another.")
    draft = target.with_name(target.name + _UNFINISHED)
    try:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise Refused(Code.BAD_FILE, f"{target} exists already; choose a new directory.")
        if draft.exists():  # from a backup that was interrupted
            shutil.rmtree(draft)
        draft.mkdir(mode=0o700, parents=True)
        try:
            copied = back_up(data, draft)
            for name in KEY_FILES:
                if (data / name).exists():
                    replace_file(draft / name, (data / name).read_bytes())
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        sync_directory(draft)
        draft.replace(target)
        sync_directory(target.absolute().parent)
    except OSError as error:
        code = Code.STORAGE_FULL if is_disk_full(error) else Code.FILE_UNREADABLE
        raise Refused(code, f"The backup to {target} failed: {error.strerror}.") from error
    damaged = tuple(sha256.hex() for sha256 in copied.damaged)
    return BackupReport(str(target), copied.files, copied.size, damaged)

"""Back up a data directory: database, files, and last the server's keys.

The backup is a data directory itself (`restore` copies it back, in the same way). It gets its name
only when it is complete and on the disk, so an interrupted one is never taken for a whole one.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tchat.durable_directory import sync_directory
from tchat.errors import Code, Refused, StartupError
from tchat.net.tls import CERTIFICATE_FILE, KEY_FILE, load_credentials
from tchat.server.operations.drafts import (
    complete,
    disk_errors,
    draft_of,
    make_parents,
    remove_abandoned,
    resolved,
)
from tchat.store.sqlite.backup import back_up
from tchat.transfer.durable import replace_file

if TYPE_CHECKING:
    from tchat.store.sqlite.backup import Copied

KEY_FILES = (CERTIFICATE_FILE, KEY_FILE)
_UNFINISHED = ".incomplete"
_KEY_ATTEMPTS = 5
_KEY_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class BackupReport:
    """A finished backup: its path, the number and total size of its files.

    `damaged` are the SHA-256 (hexadecimal) of files that are missing or wrong in the data itself.
    `abandoned` counts interrupted backups to the same directory, which were removed.
    """

    target: str
    files: int
    size: int
    damaged: tuple[str, ...]
    abandoned: int = 0


def take_backup(data: Path, target: Path) -> BackupReport:
    """Back up the data directory to `target`, which must not exist, or be an empty directory.

    Raises `Refused` (bad_file, file_unreadable, storage_full), `StartupError` or `StorageError`.
    """
    target = resolved(target)
    with disk_errors(f"The backup to {target}"):
        _check_target(data, target)
        make_parents(target)
        abandoned = remove_abandoned(target, _UNFINISHED)
        with draft_of(target, _UNFINISHED) as draft:
            copied = copy_data(data, draft)
            complete(draft)
            _give_name(draft, target)
    damaged = tuple(sha256.hex() for sha256 in copied.damaged)
    return BackupReport(str(target), copied.files, copied.size, damaged, abandoned)


def copy_data(source: Path, draft: Path) -> Copied:
    """Copy a data directory durably into the empty directory `draft`, the keys last."""
    copied = back_up(source, draft)
    _copy_keys(source, draft)
    return copied


def _copy_keys(source: Path, draft: Path) -> None:
    """Copy the key and its certificate; they fit unless those of `source` do not.

    A rotation replaces one after the other, and may do so just now.
    """
    for _ in range(_KEY_ATTEMPTS):
        for name in KEY_FILES:
            if (source / name).exists():
                replace_file(draft / name, (source / name).read_bytes())
            else:
                (draft / name).unlink(missing_ok=True)
        certificate, key = (draft / name for name in KEY_FILES)
        if not (certificate.exists() or key.exists()):
            return
        try:
            load_credentials(certificate, key)
        except StartupError:
            time.sleep(_KEY_PAUSE_SECONDS)
        else:
            return


def _check_target(data: Path, target: Path) -> None:
    """Raise `Refused` if a resolved path cannot become a backup."""
    if data.exists() and any(
        parent.exists() and parent.samefile(data) for parent in (target, *target.parents)
    ):
        raise Refused(Code.BAD_FILE, f"{target} is inside the data directory; choose another.")
    check_replaceable(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise _exists(target)


def check_replaceable(target: Path) -> None:
    """Raise `Refused` if a finished draft could not take the place of a directory."""
    if not target.exists():
        return
    if target.is_mount():
        raise Refused(
            Code.BAD_FILE,
            f"{target} is a mount point; choose a new directory in it: {target / 'tchat'}",
        )
    if target.samefile(Path.cwd()):
        raise Refused(
            Code.BAD_FILE,
            f"{target} is the working directory; choose a new one in it: {target / 'tchat'}",
        )


def _exists(target: Path) -> Refused:
    return Refused(Code.BAD_FILE, f"{target} exists already; choose a new directory.")


def _give_name(draft: Path, target: Path) -> None:
    try:
        draft.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # since the check
            raise _exists(target) from error
        raise
    sync_directory(target.parent)

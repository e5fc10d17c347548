"""Back up a data directory: database, files, and last the server's keys.

The backup is a data directory itself: to restore it, start a server on it, or on a copy of it. It
gets its name only when it is complete, so an interrupted one is never taken for a whole one.
"""

from __future__ import annotations

import errno
import fcntl
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from tchat.durable_directory import sync_directory
from tchat.errors import Code, Refused
from tchat.store.sqlite.backup import back_up
from tchat.transfer.durable import replace_file
from tchat.transfer.partial_file import is_disk_full

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY_FILES = ("server-cert.pem", "server-key.pem")
_UNFINISHED = ".incomplete"
_MARKER = "unfinished-backup"
_MARK = b"An unfinished backup of tchat; the next backup to the same directory removes it.\n"


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

    Raises `Refused` (bad_file, file_unreadable, storage_full), `StartupError` or `StorageError`.
    """
    target = _resolved(target)
    try:
        _check_target(data, target)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_abandoned(target)
        with _draft_of(target) as draft:
            copied = back_up(data, draft)
            for name in KEY_FILES:
                if (data / name).exists():
                    replace_file(draft / name, (data / name).read_bytes())
            (draft / _MARKER).unlink()
            sync_directory(draft)
            _give_name(draft, target)
    except OSError as error:
        code = Code.STORAGE_FULL if is_disk_full(error) else Code.FILE_UNREADABLE
        raise Refused(code, f"The backup to {target} failed: {error.strerror}.") from error
    damaged = tuple(sha256.hex() for sha256 in copied.damaged)
    return BackupReport(str(target), copied.files, copied.size, damaged)


def _resolved(target: Path) -> Path:
    try:
        return target.resolve()
    except (OSError, RuntimeError) as error:
        raise Refused(Code.BAD_FILE, f"{target} has symbolic links in a circle.") from error


def _check_target(data: Path, target: Path) -> None:
    """Raise `Refused` if a resolved path cannot become a backup."""
    if data.exists() and any(
        parent.exists() and parent.samefile(data) for parent in (target, *target.parents)
    ):
        raise Refused(Code.BAD_FILE, f"{target} is inside the data directory; choose another.")
    if not target.exists():
        return
    # A finished backup replaces the directory, which none of these can be.
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
    if not target.is_dir() or any(target.iterdir()):
        raise _exists(target)


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


# ------------------------------------------------------------------ unfinished backups


@contextmanager
def _draft_of(target: Path) -> Iterator[Path]:
    """Give a new directory beside `target`; if the block fails, it is removed.

    Its name is unique, since several backups may have the same target. A lock on its marker says
    that somebody is working on it.
    """
    draft = Path(mkdtemp(_UNFINISHED, f"{target.name}.", target.parent))  # with mode 0700
    try:
        with (draft / _MARKER).open("wb") as marker:
            with suppress(OSError):  # without locks, it is not removed by another backup either
                fcntl.flock(marker, fcntl.LOCK_EX)
            marker.write(_MARK)
            marker.flush()
            yield draft
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _remove_abandoned(target: Path) -> None:
    """Remove the unfinished backups to `target` that nobody works on any more.

    Another directory with such a name is none of ours, and stays.
    """
    for draft in target.parent.iterdir():
        if not (draft.name.startswith(f"{target.name}.") and draft.name.endswith(_UNFINISHED)):
            continue
        try:
            with (draft / _MARKER).open("rb") as marker:
                fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if marker.read() == _MARK:
                    shutil.rmtree(draft, ignore_errors=True)
        except OSError:  # no marker, or somebody works on it
            continue

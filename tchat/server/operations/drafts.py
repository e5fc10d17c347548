"""Directories that get their name only once they are complete, so none is half a copy.

A draft is beside its target, on the same file system, and has a marker that its maker keeps locked.
What an interrupted program leaves is recognized by a marker that nobody has locked, and removed by
the next program with the same target.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from tchat.durable_directory import sync_directory
from tchat.errors import Code, Refused
from tchat.transfer.partial_file import is_disk_full

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKER = "unfinished-backup"
_MARK = b"An unfinished backup of tchat; the next backup to the same directory removes it.\n"


@contextmanager
def draft_of(target: Path, suffix: str) -> Iterator[Path]:
    """Give a new directory beside `target`; if the block fails, it is removed.

    Its name is unique, since several programs may have the same target. A lock on its marker says
    that somebody is working on it.
    """
    draft = Path(mkdtemp(suffix, f"{target.name}.", target.parent))  # with mode 0700
    made = draft.stat()
    try:
        with (draft / _MARKER).open("wb") as marker:
            with suppress(OSError):  # without locks, it is not removed by another program either
                fcntl.flock(marker, fcntl.LOCK_EX)
            marker.write(_MARK)
            marker.flush()
            yield draft
    except BaseException:
        # Unless it has another name already, and something else has this one.
        with suppress(OSError):
            if os.path.samestat(draft.stat(), made):
                shutil.rmtree(draft, ignore_errors=True)
        raise


def complete(draft: Path) -> None:
    """Remove the marker of a draft, and make all entries of its top directory durable."""
    (draft / _MARKER).unlink()
    sync_directory(draft)


def is_draft(directory: Path) -> bool:
    """Return whether a directory is not complete."""
    return (directory / _MARKER).exists()


def remove_abandoned(target: Path, suffix: str) -> int:
    """Remove the drafts of `target` that nobody works on any more; return how many there were.

    Another directory with such a name is none of ours, and stays.
    """
    removed = 0
    for draft in drafts_of(target, suffix):
        try:
            with (draft / _MARKER).open("rb") as marker:
                fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if marker.read() == _MARK:
                    shutil.rmtree(draft, ignore_errors=True)
                    removed += 1
        except OSError:  # no marker, or somebody works on it
            continue
    return removed


def drafts_of(target: Path, suffix: str) -> list[Path]:
    """Return what is called as a draft of `target` would be."""
    names = (entry for entry in target.parent.iterdir() if entry.name.startswith(f"{target.name}."))
    return sorted(entry for entry in names if entry.name.endswith(suffix))


def free_name(path: Path) -> Path:
    """Return a path that does not exist: this one, or with a number behind it."""
    names = (f"{path.name}{extra}" for extra in ("", *(f"-{n}" for n in range(2, 10_000))))
    return next(one for name in names if not (one := path.with_name(name)).exists())


def give_to_owner(path: Path, directory: Path) -> None:
    """Give a path, and what is below it, to the owner of a directory, if root made it for them.

    Otherwise the server, which runs as that owner, could not use it. Raises OSError.
    """
    if os.geteuid() != 0:
        return
    owner = directory.stat()
    for place in (path, *path.rglob("*")):
        os.chown(place, owner.st_uid, owner.st_gid, follow_symlinks=False)


def make_parents(target: Path) -> None:
    """Create the directories above `target` that are missing, durably."""
    missing = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for created in missing:
        sync_directory(created.parent)


def resolved(path: Path) -> Path:
    """Return an absolute path without symbolic links. Raises `Refused` (bad_file)."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise Refused(
            Code.BAD_FILE, f"{path} has symbolic links in a circle. Give another path."
        ) from error


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn an OSError within the block into `Refused`; `what` has failed then."""
    try:
        yield
    except OSError as error:
        code = Code.STORAGE_FULL if is_disk_full(error) else Code.FILE_UNREADABLE
        reason = error.strerror or error
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        step = "Make room there" if is_disk_full(error) else "Look at its permissions and the disk"
        raise Refused(code, f"{what} failed: {reason}{where}. {step}, and try again.") from error

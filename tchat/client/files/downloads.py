"""Download directory: resumable partial files, free-space check, and names that are not in use.

A download in progress is a hidden `.part` file in the target directory, named after the file's
digest and its owner: the person on that server. Downloading the same file again within
`PARTS_KEPT_DAYS` resumes it, but not from another server: the first one decides how much it sends,
so the second one could recognise the person by the size of the part. Each download into a directory
first removes the older ones there: nobody sees them, and other people can cause them, by sharing
files that are saved automatically and then cannot be downloaded. What is older is not said by one
clock alone (see `client.clock`): a part has the later of two times as its modification time.

A file gets its final name once it is complete and its digest matches. It never replaces another
file: if a file of that name has other content, the new one becomes "name (2)", and so on; if it has
the same content, that file is used instead. To find that out, files of the same size are read. So
after some numbers, the digest is a part of the name: otherwise each file of one name and size would
take longer than the one before, and people and servers choose both.

Everything here blocks, and has to run in worker threads.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
from contextlib import contextmanager, suppress
from io import FileIO
from typing import TYPE_CHECKING

from tchat.core.text import clean_line
from tchat.durable_directory import sync_directory
from tchat.errors import Code, Refused
from tchat.file_lock import lock_opened
from tchat.machine_clocks import DAY_MS
from tchat.transfer.partial_file import DIGESTS_SUFFIX, PartialFile, is_disk_full
from tchat.transfer.threads import check_cancelled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tchat.client.clock import ClientClock
    from tchat.core.group.state import File


PARTS_KEPT_DAYS = 30
"""Days after which a download that was not resumed cannot be resumed any more."""

MOST_NUMBERED = 20
"""How many files of one name are distinguished by a number."""

_DIGEST_DIGITS = 16
_PART = re.compile(r"\.[0-9a-f]{32}(-[0-9a-f]{8})?\.part")


def part_name(file: File, owner: str, suffix: str = "") -> str:
    """Return the name of the partial file of an owner's download."""
    digest = hashlib.sha256(file.sha256 + owner.encode()).hexdigest()
    return f".{digest[:32]}{suffix}.part"


def open_part(into: Path, file: File, owner: str, clock: ClientClock) -> PartialFile:
    """Open the partial file of an owner's download, to be resumed if it exists. Raises OSError."""
    into.mkdir(parents=True, exist_ok=True)
    name = part_name(file, owner)
    _remove_old_parts(into, name, clock)
    part = PartialFile(into / name, file.size, 0o644)
    try:
        try:
            part.open(check_cancelled)
        except BlockingIOError:  # another program downloads the same file to the same path
            spare = part_name(file, owner, f"-{secrets.token_hex(4)}")
            part = PartialFile(into / spare, file.size, 0o644)
            part.open(check_cancelled)
        _date(part, clock)  # now as well: `close_part` is not reached by a program that is killed
        _check_free_space(into, file.size - part.offset)
    except BaseException:
        part.close()
        raise
    return part


def _remove_old_parts(into: Path, wanted: str, clock: ClientClock) -> None:
    """Remove the partial files of a directory that were not resumed for long, except `wanted`.

    Those that another program has open stay. Errors are ignored: another one may remove them, too.
    """
    now = clock.earliest()
    if now is None:
        return
    oldest, newest = now - PARTS_KEPT_DAYS * DAY_MS, clock.latest() + DAY_MS
    with suppress(OSError), os.scandir(into) as entries:
        for entry in entries:
            name = entry.name.removesuffix(DIGESTS_SUFFIX)
            if name != wanted and _PART.fullmatch(name):
                with suppress(OSError):
                    changed = entry.stat(follow_symlinks=False).st_mtime * 1000
                    if changed < oldest:
                        _remove_unlocked(into / entry.name)
                    elif changed > newest:  # the clock was ahead then; else it would stay for years
                        _set_time(into / entry.name, clock.latest())


def _date(part: PartialFile, clock: ClientClock) -> None:
    """Set the modification times of a partial file and its digests."""
    for path in (part.path, part.path.with_name(part.path.name + DIGESTS_SUFFIX)):
        with suppress(OSError):
            _set_time(path, clock.latest())


def _set_time(path: Path, at: int) -> None:
    os.utime(path, ns=(at * 1_000_000,) * 2, follow_symlinks=False)


def _remove_unlocked(path: Path) -> None:
    """Remove a file that no program has locked. Raises OSError, if it is locked or not one."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    with FileIO(os.open(path, flags), "rb+") as file:
        if lock_opened(file, path):
            path.unlink()


def close_part(part: PartialFile, file: File, owner: str, clock: ClientClock) -> None:
    """Close a partial file; delete it if it has a random suffix, since nothing can resume it."""
    _date(part, clock)
    if part.path.name != part_name(file, owner):
        part.discard()
    part.close()


def should_discard(error: OSError | Refused) -> bool:
    """Return whether to discard the partial file of a download that failed with `error`.

    A partial file must not keep a full disk full, and a file that is damaged on the server will
    never be complete. Other failures may be temporary.
    """
    return is_disk_full(error) if isinstance(error, OSError) else error.code == Code.FILE_DAMAGED


def _check_free_space(into: Path, size: int) -> None:
    if shutil.disk_usage(into).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def find_existing(target: Path, file: File) -> Path | None:
    """Return the path of a file with the same content under this name, if there is one."""
    return next((path for path in _candidates(target, file) if _is_same(path, file)), None)


def _candidates(target: Path, file: File) -> Iterator[Path]:
    """Yield "name", "name (2)", ... up to and including the first that is free."""
    number, path = 1, target
    while True:
        yield path
        if not os.path.lexists(path):
            return
        number += 1
        mark = f"{number}"
        if number > MOST_NUMBERED:
            more = number - MOST_NUMBERED
            mark = file.sha256.hex()[:_DIGEST_DIGITS] + (f" {more}" if more > 1 else "")
        path = target.with_name(f"{target.stem} ({mark}){target.suffix}")


def finish(part: PartialFile, target: Path, file: File) -> Path:
    """Give a complete file its name, or the first free variation of it, and return the path."""
    while True:
        for path in _candidates(target, file):
            if _is_same(path, file):
                part.discard()
                return path
        try:
            _claim_name(part, path)
        except FileExistsError:
            continue  # another program was faster
        return path


def _claim_name(part: PartialFile, path: Path) -> None:
    """Give a complete file a name atomically, if it is free. Raises FileExistsError."""
    try:
        path.hardlink_to(part.path)
    except FileExistsError:
        raise
    except OSError:  # no hard links on this file system: claim the name by creating an empty file
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        part.move_to(path)
    else:
        part.discard()
    with suppress(OSError):
        sync_directory(path.parent)


def _is_same(path: Path, file: File) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as existing:
        return hashlib.file_digest(existing, "sha256").digest() == file.sha256


@contextmanager
def saving_into(into: Path) -> Iterator[None]:
    """Turn an OSError into a `Refused` that names the directory."""
    try:
        yield
    except OSError as error:
        raise Refused(
            Code.FILE_UNREADABLE,
            f"The file cannot be saved in {clean_line(str(into))}: {error.strerror or error}.",
        ) from error

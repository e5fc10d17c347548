"""Durable files: replace one atomically, so that a crash leaves the old content or the new one."""

from __future__ import annotations

import os
from contextlib import suppress
from io import BufferedWriter, FileIO
from itertools import count
from typing import TYPE_CHECKING

from tchat.durable_directory import sync_directory
from tchat.file_lock import UNSUPPORTED, try_lock

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["replace_file", "sync_directory"]


def replace_file(path: Path, data: bytes) -> None:
    """Write a temporary file, sync it, and rename it. If this raises OSError, nothing has changed.

    Only its owner may read the file. Several programs may replace it at the same time: the last one
    wins.
    """
    draft, file = _open_draft(path)
    with BufferedWriter(file) as writer:
        try:
            file.truncate(0)
            writer.write(data)
            writer.flush()
            os.fsync(file.fileno())
            draft.replace(path)  # still locked, so that nobody else writes to it
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise
    # A rename survives a power cut only once the directory is synced, which not every file
    # system can do. It is too late to report a failure: the new content is in place.
    with suppress(OSError):
        sync_directory(path.parent)


def _open_draft(path: Path) -> tuple[Path, FileIO]:
    """Open and lock the first temporary file of `path` that nobody writes at the moment.

    So two writers never have the same one, and one that a killed process has left is used again.
    """
    drafts = (path.with_name(f"{path.name}.new{number or ''}") for number in count())
    try:
        return next((draft, file) for draft in drafts if (file := try_lock(draft)) is not None)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    draft = path.with_name(f"{path.name}.new")
    return draft, FileIO(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600), "wb")


def rename_file(path: Path, target: Path) -> None:
    """Rename a file within its directory, and make that durable. Raises OSError."""
    path.replace(target)
    with suppress(OSError):
        sync_directory(target.parent)


def remove_file(path: Path) -> None:
    """Remove a file, if it exists, and make that durable. Raises OSError."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    with suppress(OSError):
        sync_directory(path.parent)

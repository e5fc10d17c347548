"""Durable files: replace one atomically, so that a crash leaves the old content or the new one."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Write a temporary file, sync it, and rename it. If this raises OSError, nothing has changed.

    Only its owner may read the file.
    """
    draft = path.with_name(f"{path.name}.new")
    flags = os.O_WRONLY | os.O_TRUNC | os.O_CREAT
    with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    # A rename survives a power cut only once the directory is synced, which not every file
    # system can do. It is too late to report a failure: the new content is in place.
    with suppress(OSError):
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and new entries in a directory durable; a power cut may undo unsynced ones."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

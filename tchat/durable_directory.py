"""Durable directories and files: what was written to them survives a power cut."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def sync_directory(path: Path) -> None:
    """Make renames and new entries in a directory durable; a power cut may undo unsynced ones."""
    _sync(path)


def sync_file(path: Path) -> None:
    """Make what was written to a file durable, by whichever process. Raises OSError."""
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create a directory and those above it that are missing, durably, for their owner only.

    Does nothing if it exists. Raises OSError.
    """
    if path.is_dir():
        return
    missing = [place for place in (path, *path.parents) if not place.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Not every file system can sync a directory, and it is too late to fail.
    for place in missing:
        with suppress(OSError):
            sync_directory(place.parent)

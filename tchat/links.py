"""Refuse paths that are something else than the file that is expected there.

What a symbolic link to nowhere led to may be on a disk that is not mounted. To most calls such a
file is missing, so that a program would make a new one, or advise to. To read a pipe or a device
may take forever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.errors import Code, StartupError

if TYPE_CHECKING:
    from pathlib import Path


def check_link(path: Path) -> None:
    """Raise `StartupError` if a path is a symbolic link to something that does not exist."""
    if path.is_symlink() and not path.exists():
        raise StartupError(
            Code.CANNOT_START,
            f"{path} is a symbolic link to {path.readlink()}, which does not exist. Mount or"
            " restore that, or replace the link.",
        )


def check_file(path: Path) -> None:
    """Raise `StartupError` as `check_link`, or if a path is something else than a file."""
    check_link(path)
    if path.exists() and not path.is_file():
        what = "a directory" if path.is_dir() else "a pipe, a socket or a device"
        raise StartupError(
            Code.CANNOT_START, f"{path} is {what}, not a file. Move it away, or name another file."
        )

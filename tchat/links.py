"""Symbolic links to nowhere: refuse them, since what they led to is on a disk that is not mounted.

To most calls such a file is missing, so that a program would make a new one, or advise to.
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

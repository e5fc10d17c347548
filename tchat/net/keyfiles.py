"""Private keys on disk: made on first use, for their owner's eyes only, never overwritten."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from tchat.errors import Code, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_OTHERS = 0o077


def read_or_make(path: Path, make: Callable[[], bytes], what: str, *, secret: bool = True) -> bytes:
    """Return what is in a private file; make it first if it is not there.

    When several processes make it at once, one of them wins and all return the same. Raises
    `StartupError` if others may read it, or if it cannot be read or made.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create(path, make())
        return _read_private(path, what) if secret else path.read_bytes()
    except OSError as error:
        raise StartupError(
            Code.CANNOT_START, f"{what} {path} cannot be used: {error.strerror}."
        ) from error


def _read_private(path: Path, what: str) -> bytes:
    with path.open("rb") as file:
        # Asked of the open file, which nobody can put another in the place of.
        if os.name == "posix" and os.fstat(file.fileno()).st_mode & _OTHERS:
            raise StartupError(
                Code.CANNOT_START,
                f"{what} {path} can be read by others, and may not be secret any more. If you are"
                f" sure that nobody has read it: chmod 600 {path}",
            )
        return file.read()


def _create(path: Path, data: bytes) -> None:
    """Write a new private file, whole or not at all, unless somebody else was first."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)

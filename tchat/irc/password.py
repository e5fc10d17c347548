"""Password of the IRC door: made at the first start, and kept in a file that only its owner reads.

A port on loopback is open to every user of the machine, so listening there is not enough.
"""

from __future__ import annotations

import hmac
import os
import secrets
from typing import TYPE_CHECKING

from tchat.errors import Code, StartupError

if TYPE_CHECKING:
    from pathlib import Path

_BYTES = 18  # 144 bits, 24 characters
_SHORTEST = 12
_LONGEST = 200
_OTHERS = 0o077


def load_or_make(path: Path) -> tuple[str, bool]:
    """Return the password in a file, and whether it was made now. Raises `StartupError`."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            # O_EXCL: never through a symbolic link, nor into a file that others can read.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return _load(path), False
        password = secrets.token_urlsafe(_BYTES)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{password}\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(Code.CANNOT_START, f"{path} cannot be used: {error}.") from error
    return password, True


def _load(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_mode & _OTHERS:
            raise StartupError(
                Code.CANNOT_START,
                f"Others may read the password in {path}. Delete the file for a new password, or"
                " run: chmod 600 on it.",
            )
        password = file.read(_LONGEST + 1).strip()
    if not _SHORTEST <= len(password) <= _LONGEST or not password.isprintable():
        raise StartupError(
            Code.CANNOT_START, f"{path} has no valid password. Delete it, and a new one is made."
        )
    return password


def is_right(given: str, password: str) -> bool:
    """Compare a password in constant time."""
    return hmac.compare_digest(given.encode(), password.encode())

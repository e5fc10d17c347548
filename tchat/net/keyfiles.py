"""Private key files: created on first use with mode 0600, atomically, and never overwritten."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tchat.durable_directory import make_directory, sync_directory
from tchat.errors import Code, StartupError
from tchat.private_directory import check_directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_OTHERS = 0o077


def read_or_make(
    path: Path, make: Callable[[], bytes], what: str, *, secret: bool = True, advice: str = ""
) -> bytes:
    """Return the contents of a private file; if it is missing, create it durably with `make()`.

    Safe with several processes: one of them creates the file, and all return its contents. `what`
    names the file in messages, and `advice` says what to do if it is lost. Raises `StartupError` if
    it is empty, cannot be read or created, or if a `secret` file is readable or replaceable by
    others.
    """
    if secret:
        check_directory(path.parent, what[:1].lower() + what[1:])
    try:
        if not path.exists():
            make_directory(path.parent)
            _create(path, make())
        data = _read_private(path, what) if secret else path.read_bytes()
    except OSError as error:
        raise StartupError(
            Code.CANNOT_START, f"{what} {path} cannot be used: {error.strerror}. {advice}".rstrip()
        ) from error
    if not data.strip(b"\0 \n"):  # some file systems fill with zeros what a power cut has lost
        raise StartupError(Code.CANNOT_START, f"{what} {path} is empty. {advice}".rstrip())
    return data


def new_private_key() -> bytes:
    """Generate an Ed25519 private key. Returns it as PEM (PKCS #8, not encrypted)."""
    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def _read_private(path: Path, what: str) -> bytes:
    with path.open("rb") as file:
        # Check the open file: between a check by path and the open, the file could be replaced.
        if os.fstat(file.fileno()).st_mode & _OTHERS:
            raise StartupError(
                Code.CANNOT_START,
                f"{what} {path} can be read by others, so it may no longer be secret. If you are"
                f" sure that nobody has read it, run: chmod 600 {path}",
            )
        return file.read()


def _create(path: Path, data: bytes) -> None:
    """Create a private file atomically, unless another process has created it first."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a hard link fails if the name is taken.
        os.link(draft, path)
        sync_directory(path.parent)  # a key that a power cut undoes may be in use already
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)

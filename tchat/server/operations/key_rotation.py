"""Rotate the key of a server: make the next key, sign its pin with the present one, and replace it.

The private key and the chain of signatures (see `net.key_chain`) are in one file, so one rename
replaces both; the certificate is made from that file, again after a crash between the two. The old
private key is destroyed: it is overwritten, as far as the file system does that in place. Copies in
backups have to be destroyed by the operator.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tchat.errors import Code, Refused, StartupError
from tchat.net.key_chain import chain_block, extend_chain, pin_of_key, read_chain
from tchat.net.keyfiles import new_private_key
from tchat.net.tls import KEY_FILE, make_credentials
from tchat.transfer.durable import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.net.tls import Credentials


def rotate_key(directory: Path) -> Credentials:
    """Replace the key in a server's data directory; return the new credentials.

    Raises `Refused` if the key cannot be rotated, or `StartupError`; then nothing has changed.
    """
    make_credentials(directory)  # raises if the present key cannot be used
    path = directory / KEY_FILE
    try:
        with path.open("r+b") as old:
            before = old.read()
            replace_file(path, _next_file(before))
            _overwrite(old.fileno(), len(before))
    except OSError as error:
        raise StartupError(
            Code.CANNOT_START,
            f"{path} cannot be replaced: {error.strerror}. Look at its permissions and the disk.",
        ) from error
    return make_credentials(directory)


def _next_file(before: bytes) -> bytes:
    """Return the contents of the key file with the next key. Raises `Refused`."""
    made = new_private_key()
    try:
        pin = pin_of_key(_ed25519(made).public_key().public_bytes_raw())
        return made + chain_block(extend_chain(read_chain(before), _ed25519(before), pin))
    except ValueError as error:
        raise Refused(
            Code.CANNOT_START,
            f"The server's key cannot be rotated: {error}. Its file has not changed; if it is"
            " damaged, restore it from a backup.",
        ) from error


def _ed25519(pem: bytes) -> Ed25519PrivateKey:
    """Return the private key in a file. Raises ValueError if it is of another kind."""
    key = load_pem_private_key(pem, None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("it is not an Ed25519 key")  # noqa: TRY004  # of a file, not of code
    return key


def _overwrite(file: int, size: int) -> None:
    """Overwrite an open file that has been replaced, unless it still has another name."""
    with suppress(OSError):
        if os.fstat(file).st_nlink == 0:
            os.pwrite(file, bytes(size), 0)
            os.fsync(file)

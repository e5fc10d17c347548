"""A person's identity: an Ed25519 key (RFC 8032) in a file, from which a key per server is derived.

Each server gets a key of its own, so that servers, and members of groups on two of them, cannot
tell by the key that two names belong to one person. The file is all that has to be kept: the same
identity always has the same key for a server. The derivation is HKDF (RFC 5869) with SHA-256; its
input is the identity's private key, its info a purpose and the name of the server.

Identities of tchat before 0.2 were used at all servers themselves, and own names there. A file that
was made since then says in its first line that this one was not.

Names belong to keys, so anybody who has the file can act as the person. All cryptography is done by
the library; only one check, which it leaves to its callers, is added here. A few points of small
order are valid public keys for which anybody can forge a signature of any message. If such a key
claimed a name, everybody could use that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
)

from tchat.errors import Code, ProtocolError, StartupError
from tchat.net.keyfiles import new_private_key, read_or_make

if TYPE_CHECKING:
    from pathlib import Path

_P = 2**255 - 19
_ORDER_8 = (
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
)
_SMALL_ORDER = frozenset((0, 1, _P - 1, *_ORDER_8))
"""The y coordinates of all points whose order divides 8 (RFC 7748, section 7; libsodium)."""


_DERIVED_ONLY = b"tchat: this key is used at no server, only keys that are derived from it\n"
_PURPOSE = b"tchat: the key of an identity for one server\0"


class Identity:
    """A person's private key. `public` is the public key, 32 bytes.

    `owns_names` says whether an earlier version may have claimed names with this key itself.
    """

    def __init__(self, private: Ed25519PrivateKey, *, owns_names: bool = False) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        self.owns_names = owns_names

    def for_server(self, server: str) -> Identity:
        """Return the identity for the server with a name, which is the same one every time."""
        # Here, since not every program that uses identities derives any.
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        info = _PURPOSE + server.encode()
        seed = HKDF(SHA256(), 32, salt=None, info=info).derive(self._private.private_bytes_raw())
        return Identity(Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, message: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        return self._private.sign(message)


def _new_identity() -> bytes:
    return _DERIVED_ONLY + new_private_key()


def load_identity(path: Path) -> Identity:
    """Load the identity from a file, or create it if it is missing. Raises `StartupError`."""
    advice = (
        "Restore it from a backup; or, to begin with a new one, run:"
        f" mv {path.parent} {path.parent}.old. The new one gets your name by /link on another"
        " device, or by a code from the server's operator."
    )
    pem = read_or_make(path, _new_identity, "The identity", advice=advice)
    try:
        private = load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise StartupError(
            Code.CANNOT_START,
            f"The identity {path} is not an Ed25519 key in PEM format, or is damaged. {advice}",
        )
    return Identity(private, owns_names=not pem.startswith(_DERIVED_ONLY))


def verify(key: bytes, signature: bytes, message: bytes) -> None:
    """Raise `ProtocolError` (bad_proof) unless the holder of `key` (32 bytes) signed `message`."""
    y = int.from_bytes(key, "little") & (2**255 - 1)
    # A y of p or more is a second encoding of a point, and would give one key two identities.
    if y in _SMALL_ORDER or y >= _P:
        raise ProtocolError(Code.BAD_PROOF, "This key is not secure: its signatures can be forged.")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise ProtocolError(
            Code.BAD_PROOF, "The signature is not valid for this key and this server."
        ) from error

"""Hand-made TLS 1.3 ClientHellos (RFC 8446, 4.1.2), with any groups and keys of them."""

from __future__ import annotations

import hashlib
import secrets
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

X25519, P256, FFDHE2048, FFDHE8192 = 0x1D, 0x17, 0x100, 0x104
KEY_SIZES = {X25519: 32, P256: 65, FFDHE2048: 256, FFDHE8192: 1024}

ALERT, HANDSHAKE = 0x15, 0x16  # types of records
HANDSHAKE_FAILURE = 40
RETRY = hashlib.sha256(b"HelloRetryRequest").digest()
"""What a HelloRetryRequest has in place of the random bytes of a ServerHello (RFC 8446, 4.1.3)."""

_CIPHERS = bytes.fromhex("130113021303")
_SIGNATURES = bytes.fromhex("0807040308040805")
_VERSIONS = bytes.fromhex("020304")


def made_up_key(group: int) -> bytes:
    """Return random bytes in the shape of a public key; no private key belongs to it."""
    start = b"\x7f" if group >= FFDHE2048 else b""  # below the prime, as a real key
    return start + secrets.token_bytes(KEY_SIZES[group] - len(start))


def client_hello(groups: Sequence[int], keys: Mapping[int, bytes]) -> bytes:
    """Return the record of a hello that supports `groups` and sends `keys` of some of them."""
    shares = b"".join(struct.pack("!HH", group, len(key)) + key for group, key in keys.items())
    supported = b"".join(struct.pack("!H", group) for group in groups)
    extensions = b"".join(
        struct.pack("!HH", kind, len(content)) + content
        for kind, content in (
            (0x2B, _VERSIONS),
            (0x0A, _with_size(supported)),
            (0x0D, _with_size(_SIGNATURES)),
            (0x33, _with_size(shares)),
        )
    )
    session = secrets.token_bytes(32)
    body = b"\x03\x03" + secrets.token_bytes(32) + bytes([len(session)]) + session
    body += _with_size(_CIPHERS) + b"\x01\x00" + _with_size(extensions)
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return struct.pack("!BHH", HANDSHAKE, 0x0301, len(message)) + message


def _with_size(content: bytes) -> bytes:
    return struct.pack("!H", len(content)) + content

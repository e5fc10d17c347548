"""The chain of a server's keys: each former key has signed the pin of the one that replaced it.

A client that knows an earlier key of a server verifies by the chain that the present key is its
successor, so a server can change its key without being refused. The first key of the chain names
the server for ever.

A chain is the concatenation of its links, the oldest first. A link is a former public key (Ed25519,
32 bytes) and its signature (64 bytes) over the pin of the next key. It travels in an extension of
the server's self-signed certificate, so the client has it before it sends anything.

What a chain cannot do is to help against a key that was stolen while it was in use: the thief can
sign a successor of their own. A client that has followed a rotation refuses the keys before it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tchat.errors import ProtocolError
from tchat.net.identity import verify

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_LINKS = 32
"""The largest number of former keys: a chain has at most 3 KiB."""

EXTENSION = "2.25.38715565589723382822888304418806058381"
"""The object identifier of the certificate extension (a UUID, as in ITU-T X.667)."""

_KEY_SIZE = 32
_LINK_SIZE = _KEY_SIZE + 64
_PURPOSE = b"tchat: the next key of this server has this pin\0"
_BLOCK = re.compile(
    rb"-----BEGIN TCHAT FORMER KEYS-----\n(.*?)-----END TCHAT FORMER KEYS-----\n", re.DOTALL
)
_OCTET_STRING = 0x04


def pin_of_key(public: bytes) -> bytes:
    """Return the pin of an Ed25519 public key. Raises ValueError if it is none."""
    key = Ed25519PublicKey.from_public_bytes(public)
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def statement(next_pin: bytes) -> bytes:
    """Return the text that a former key signs about its successor."""
    return _PURPOSE + next_pin


def extend_chain(chain: bytes, former: Ed25519PrivateKey, next_pin: bytes) -> bytes:
    """Return a chain with one more link, from `former` to the key with `next_pin`.

    Raises ValueError if the chain has `MAX_LINKS` already.
    """
    if len(chain) >= MAX_LINKS * _LINK_SIZE:
        raise ValueError(f"the key was rotated {MAX_LINKS} times already")
    return chain + former.public_key().public_bytes_raw() + former.sign(statement(next_pin))


def former_pins(chain: bytes, pin: bytes) -> tuple[bytes, ...]:
    """Return the pins of the former keys, the oldest first, of the server with `pin`.

    There are none if any part of the chain is wrong.
    """
    if len(chain) % _LINK_SIZE or len(chain) > MAX_LINKS * _LINK_SIZE:
        return ()
    links = [chain[start : start + _LINK_SIZE] for start in range(0, len(chain), _LINK_SIZE)]
    try:
        keys = [link[:_KEY_SIZE] for link in links]
        pins = [pin_of_key(key) for key in keys]
        for key, link, next_pin in zip(keys, links, [*pins[1:], pin], strict=True):
            verify(key, link[_KEY_SIZE:], statement(next_pin))
    except (ValueError, ProtocolError):
        return ()
    return tuple(pins)


# ------------------------------------------------------------------ in files and certificates


def read_chain(pem: bytes) -> bytes:
    """Return the chain in the file of a server's private key; empty if there is none, or damaged.

    It is a block behind the private key, so that both are replaced at once.
    """
    found = _BLOCK.search(pem)
    try:
        return base64.b64decode(b"".join(found[1].split()), validate=True) if found else b""
    except ValueError:
        return b""


def chain_block(chain: bytes) -> bytes:
    """Return the block of a private key's file that holds a chain."""
    text = base64.encodebytes(chain)
    return b"-----BEGIN TCHAT FORMER KEYS-----\n" + text + b"-----END TCHAT FORMER KEYS-----\n"


def to_extension(chain: bytes) -> bytes:
    """Return the value of the certificate extension: a chain as an OCTET STRING in DER."""
    size = len(chain)
    if size < 0x80:
        return bytes([_OCTET_STRING, size]) + chain
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([_OCTET_STRING, 0x80 | len(digits)]) + digits + chain


def from_extension(value: bytes) -> bytes:
    """Return the chain in the value of a certificate extension; empty if it is not valid."""
    head = 2 + (value[1] & 0x7F if len(value) > 1 and value[1] & 0x80 else 0)
    chain = value[head:]
    return chain if value == to_extension(chain) else b""

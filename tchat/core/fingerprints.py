"""How keys are written for people: pins of servers, fingerprints of persons, invites.

A server is known by the SHA-256 of its public key (its SubjectPublicKeyInfo, so that a
certificate may be renewed): `sha256:` and 43 characters, all of it, for programs to compare. A
person's key is shown as 16 hexadecimal digits, for eyes to compare: 64 bits, which nobody
computes a second key for while a request waits.
"""

from __future__ import annotations

import base64
import hashlib

from tchat.errors import Code, Refused

PIN_SIZE = 32
TOKEN_SIZE = 16
_PIN = "sha256:"
_INVITE = "i"  # an option's value must not begin with a dash, which base64url may


def pin_text(pin: bytes) -> str:
    """Return a pin (32 bytes) as it is printed and pasted."""
    return _PIN + _encode(pin)


def read_pin(text: str) -> bytes:
    """Return the pin that a text writes. Raises ValueError."""
    pin = _decode(text.removeprefix(_PIN))
    if pin is None or len(pin) != PIN_SIZE or not text.startswith(_PIN):
        raise ValueError(f"a pin is {_PIN} and 43 letters, digits, - or _")
    return pin


def fingerprint(key: bytes) -> str:
    """Return the fingerprint of a person's public key: "3f2a-91c4-77de-0b12"."""
    digits = hashlib.sha256(key).hexdigest()
    return "-".join(digits[i : i + 4] for i in range(0, 16, 4))


def invite_text(token: bytes, pin: bytes) -> str:
    """Return an invite as it is pasted: its token (16 bytes) and the server's pin, if it has one.

    The same text carries both, so that one who is invited knows the server beforehand.
    """
    return _INVITE + _encode(token + pin)


def read_invite(text: str) -> tuple[bytes, bytes]:
    """Return an invite's token and pin; an empty pin if it has none. Raises ValueError."""
    data = _decode(text.removeprefix(_INVITE))
    sizes = (TOKEN_SIZE, TOKEN_SIZE + PIN_SIZE)
    if data is None or not text.startswith(_INVITE) or len(data) not in sizes:
        raise ValueError("an invite is what /invite prints, whole")
    return data[:TOKEN_SIZE], data[TOKEN_SIZE:]


def token_digest(token: bytes) -> bytes:
    """Return the digest by which a group knows an invite. Raises `Refused` (bad_invite)."""
    if len(token) != TOKEN_SIZE:
        raise Refused(Code.BAD_INVITE, "That is no invite.")
    return hashlib.sha256(token).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    # validate=True: characters that belong to no encoding are no invitation to guess.
    padded = text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4)
    try:
        return base64.b64decode(padded, validate=True)
    except ValueError:
        return None

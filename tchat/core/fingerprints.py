"""Text forms of keys: server pins, key fingerprints and invites, and their parsing.

A server's pin is the SHA-256 of its public key (of the SubjectPublicKeyInfo, so that a certificate
can be renewed): `sha256:` and 43 characters of base64url, for programs to compare. A person's key
is shown as a fingerprint of 16 hexadecimal digits, for people to compare. With 64 bits, nobody can
find another key with the same fingerprint while a request to join is waiting.
"""

from __future__ import annotations

import base64
import hashlib

from tchat.errors import Code, Refused

SHA256_SIZE = 32
PIN_SIZE = SHA256_SIZE
TOKEN_SIZE = 16
_PIN = "sha256:"
LINK_CODE_LENGTH = 12
"""How many letters and digits a link code has, without the dashes between them."""
_INVITE = "i"  # base64url may begin with a dash, which would look like an option


def pin_text(pin: bytes) -> str:
    """Return a pin (32 bytes) as it is printed and pasted."""
    return _PIN + _encode(pin)


def read_pin(text: str) -> bytes:
    """Parse a pin. Raises ValueError."""
    pin = _decode(text.removeprefix(_PIN))
    if pin is None or len(pin) != PIN_SIZE or not text.startswith(_PIN):
        raise ValueError(f"a pin is {_PIN} and 43 letters, digits, - or _")
    return pin


def fingerprint(key: bytes) -> str:
    """Return the fingerprint of a person's public key: "3f2a-91c4-77de-0b12"."""
    digits = hashlib.sha256(key).hexdigest()
    return "-".join(digits[i : i + 4] for i in range(0, 16, 4))


def invite_text(token: bytes, pin: bytes) -> str:
    """Return the text of an invite: its token (16 bytes) and the server's pin, if it has one.

    With the pin, the invited person's client can verify the server's key on the first connection.
    """
    return _INVITE + _encode(token + pin)


def read_invite(text: str) -> tuple[bytes, bytes]:
    """Parse an invite: return its token and its pin, which may be empty. Raises ValueError."""
    data = _decode(text.removeprefix(_INVITE))
    sizes = (TOKEN_SIZE, TOKEN_SIZE + PIN_SIZE)
    if data is None or not text.startswith(_INVITE) or len(data) not in sizes:
        raise ValueError("an invite is the last word of the command that /invite prints")
    return data[:TOKEN_SIZE], data[TOKEN_SIZE:]


def token_digest(token: bytes) -> bytes:
    """Return the SHA-256 of a token, as stored in the log. Raises `Refused` (bad_invite)."""
    if len(token) != TOKEN_SIZE:
        raise Refused(Code.BAD_INVITE, "This is not an invite.")
    return hashlib.sha256(token).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    # Strict: by default, b64decode skips characters that are not part of the alphabet.
    padded = text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4)
    try:
        return base64.b64decode(padded, validate=True)
    except ValueError:
        return None

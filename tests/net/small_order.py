"""Ed25519 keys of small order, computed from the curve, and the signature forged for them."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
FORGED = (1).to_bytes(32, "little") + bytes(32)
"""A signature that needs no private key: R is the neutral point and S is 0."""


def root(square: int) -> int | None:
    """Return a square root modulo P, if there is one (RFC 8032, 5.1.1)."""
    for factor in (1, pow(2, (P - 1) // 4, P)):
        found = pow(square, (P + 3) // 8, P) * factor % P
        if found * found % P == square % P:
            return found
    return None


def small_order() -> list[bytes]:
    """Return every encoding of every point whose order divides 8, computed from the curve.

    The y coordinates are 1, -1 and 0; and, as twice a point of order 8 has y = 0, those with
    d·y⁴ + 2y² - 1 = 0. A y below 19 may be written with P added, and each with either sign of x.
    """
    halves = [(sign * (root(1 + D) or 0) - 1) * pow(D, -1, P) % P for sign in (1, -1)]
    eighths = [y for square in halves if (y := root(square)) is not None]
    (eighth,) = eighths
    numbers = [y % P for y in (0, 1, -1, eighth, -eighth)]
    numbers += [y + P for y in numbers if y + P < 2**255]
    return [(y | sign << 255).to_bytes(32, "little") for y in numbers for sign in (0, 1)]


def accepted(key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether plain Ed25519 accepts a signature."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True

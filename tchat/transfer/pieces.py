"""Pieces and running digests: verify a file while it arrives.

A file travels in pieces that end at multiples of `PIECE_SIZE`. With each goes a *running digest*:
the SHA-256 of the file from its beginning to the end of that piece, not of the piece alone. Running
digests cost nothing, since whoever hashes the whole file computes them on the way, and they are
useful in three ways:

- the last one is the digest of the file, by which it is identified;
- the first wrong one tells which piece is damaged, so only that piece has to be sent again;
- a single one tells whether two files are equal up to that point, so a transfer can resume where
  another one stopped, months later and between different programs.

To resume, the receiver sends how much it has and the digest of its complete pieces; the sender
starts there, or from 0 if that is a different file. An incomplete piece is kept, too: it is
verified once its rest has arrived.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tchat.core.protocol.handshake import PIECE_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

DIGEST_SIZE = 32
EMPTY_DIGEST = hashlib.sha256().digest()
"""The digest of no bytes: that of an empty file, and of every file before its first piece."""


def piece_start(offset: int) -> int:
    """Return where the piece that contains `offset` starts."""
    return offset - offset % PIECE_SIZE


def piece_end(offset: int, size: int) -> int:
    """Return where the piece that contains `offset` ends, in a file of `size` bytes."""
    return min(piece_start(offset) + PIECE_SIZE, size)


def digest_before(offset: int, digests: Sequence[bytes]) -> bytes:
    """Return the running digest of the complete pieces before `offset`."""
    complete = offset // PIECE_SIZE
    return digests[complete - 1] if complete else EMPTY_DIGEST


def count_pieces(size: int) -> int:
    """Return the number of pieces of a file."""
    return -(-size // PIECE_SIZE)


def join_digests(digests: Sequence[bytes]) -> bytes:
    """Return digests in the format of a digests file."""
    return b"".join(digests)


def split_digests(data: bytes) -> list[bytes]:
    """Return the digests in the contents of a digests file; a truncated last one is left out."""
    complete = len(data) - len(data) % DIGEST_SIZE
    return [data[start : start + DIGEST_SIZE] for start in range(0, complete, DIGEST_SIZE)]

"""Pieces and running digests: verify a file while it arrives.

A file is sent in pieces that end at multiples of `PIECE_SIZE`. Each piece has a *running digest*:
the SHA-256 of the file from its beginning to the end of that piece, not of the piece alone. Running
digests cost nothing extra, because hashing the whole file computes them anyway. They have three
uses:

- the last one is the digest of the file, which identifies it;
- the first wrong one shows which piece is damaged, so only that piece has to be sent again;
- a single one shows whether two files are equal up to that point, so a transfer can be resumed
  months later and by different programs.

To resume, the receiver sends the size of its part and the digest of its complete pieces. The sender
starts there, or from 0 if it has a different file. An incomplete piece is kept, too, and is
verified once its rest has arrived.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tchat.core.fingerprints import SHA256_SIZE
from tchat.core.protocol.handshake import PIECE_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK_SIZE = 256 * 1024
"""The most bytes of a piece that a transfer keeps in memory, and reads or writes at once."""

EMPTY_DIGEST = hashlib.sha256().digest()
"""The digest of no bytes: of an empty file, and of every file before its first piece."""


def piece_start(offset: int) -> int:
    """Return the start of the piece that contains `offset`."""
    return offset - offset % PIECE_SIZE


def piece_end(offset: int, size: int) -> int:
    """Return the end of the piece that contains `offset`, in a file of `size` bytes."""
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
    complete = len(data) - len(data) % SHA256_SIZE
    return [data[start : start + SHA256_SIZE] for start in range(0, complete, SHA256_SIZE)]

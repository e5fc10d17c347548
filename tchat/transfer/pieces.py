"""How a file is cut up, and how each piece proves all that came before it.

A file travels in pieces, of which each ends at a multiple of `PIECE_SIZE` from its beginning. With
a piece goes the SHA-256 of the file *up to its end*: not of the piece alone, but of everything so
far. These running digests cost nothing, because whoever hashes the whole file comes by them on the
way, and they are worth much:

- the last one is the file's own digest, by which it is known;
- the first that is wrong says which piece is, so only that one has to come again;
- one alone says whether two files are the same up to there, so that a transfer can go on where
  another one ended, months later and between other programs.

The receiver says how far it is and shows the digest of its whole pieces; the sender begins there,
or from the start if that was another file. What came of a piece that was cut short is kept too: it
is proved when the rest of its piece has come.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tchat.core.protocol.handshake import PIECE_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

DIGEST_SIZE = 32
NOTHING = hashlib.sha256().digest()
"""The digest of no bytes at all: that of an empty file, and of every file at its beginning."""


def boundary(offset: int) -> int:
    """Return where the piece begins in which `offset` lies."""
    return offset - offset % PIECE_SIZE


def end_of_piece(offset: int, size: int) -> int:
    """Return where the piece ends that goes on at `offset`, in a file of `size` bytes."""
    return min(boundary(offset) + PIECE_SIZE, size)


def digest_before(offset: int, digests: Sequence[bytes]) -> bytes:
    """Return the running digest of the whole pieces before `offset`."""
    whole = offset // PIECE_SIZE
    return digests[whole - 1] if whole else NOTHING


def count_pieces(size: int) -> int:
    """Return how many pieces a file has."""
    return -(-size // PIECE_SIZE)


def join_digests(digests: Sequence[bytes]) -> bytes:
    """Return digests as they are kept in a file."""
    return b"".join(digests)


def split_digests(data: bytes) -> list[bytes]:
    """Return the digests in a file's bytes; one that was cut short is left out."""
    whole = len(data) - len(data) % DIGEST_SIZE
    return [data[start : start + DIGEST_SIZE] for start in range(0, whole, DIGEST_SIZE)]

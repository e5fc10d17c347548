"""Frames on a connection that carries a file, once it is `ready`: what is had, and what follows."""

from __future__ import annotations

from tchat.core.schema import Frame, record


@record
class Have(Frame):
    """The receiver has the file's bytes up to `offset` already.

    `sha256` is that of all bytes of its whole pieces. With `doubt`, what came behind them the last
    time was not what its digest said: the sender is to look at its own copy first.
    """

    type = "have"
    offset: int
    sha256: bytes
    doubt: bool = False


@record
class From(Frame):
    """The sender begins at `offset`: the receiver's, or 0 if that had another file."""

    type = "from"
    offset: int


@record
class Piece(Frame):
    """The next `size` bytes of the file follow, unframed.

    `sha256` is that of the whole file from its beginning to the end of this piece.
    """

    type = "piece"
    size: int
    sha256: bytes


@record
class Stored(Frame):
    """The receiver has the file on its disk, whole."""

    type = "stored"
    sha256: bytes

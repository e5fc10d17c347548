"""File names in the file system's encoding, where that is not UTF-8.

Python encodes names for the system in the locale's encoding. In the locale "C" without Python's
UTF-8 mode that is ASCII, and a name with any other letter cannot be used. Its UTF-8 bytes can: this
is what the name is on a file system that others use, too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def native(text: str) -> str:
    """Return a path for the functions of the system; unchanged if they can take it."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return os.fsdecode(text.encode(errors="surrogateescape"))
    return text


def readable(path: Path | str) -> str:
    """Return a path or a word of the command line for people: the inverse of `native`.

    Python turns each byte that it cannot decode into a surrogate. A text that is not UTF-8 either
    keeps them.
    """
    text = str(path)
    if text.isprintable():  # as surrogates are not
        return text
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        return text

"""Command lines in documents and in --help, as a shell would split them."""

from __future__ import annotations

import shlex
from itertools import takewhile


def first_command(line: str) -> list[str]:
    """Return the words of a line up to its first pipe, redirection or && and without a comment."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    return list(takewhile(lambda word: word[0] not in "|&<>", words))

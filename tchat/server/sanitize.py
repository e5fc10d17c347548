"""Sanitize incoming frames with `core.text`: group names, and text fields that the schema marks.

Some characters control a terminal instead of being shown (`core.text`). The server sanitizes text
when it arrives, and each client again before showing it, so that neither has to trust the other.
The fields to sanitize are marked in their declarations (`Clean` in `core.protocol.schema`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.direct import check_group, is_direct, not_yours, pair_of
from tchat.core.text import fold

if TYPE_CHECKING:
    from tchat.core.group.state import Author


def check_own_group(raw: str, author: Author) -> str:
    """Return a group's display name. Raises `Refused` for a direct conversation of other people.

    The refusal reveals nothing about that conversation, not even whether it exists.
    """
    name = check_group(raw)
    if is_others(name, author):
        raise not_yours()
    return name


def is_others(name: str, author: Author) -> bool:
    """Return whether a name is that of a direct conversation between other people."""
    return is_direct(name) and fold(author.name) not in map(fold, pair_of(name))

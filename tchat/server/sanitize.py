"""Sanitize incoming frames with `core.text`: group names, and text fields that the schema marks.

A terminal obeys some characters instead of showing them (`core.text`), so text is cleaned once when
it comes in, and again by each client before it is shown: neither has to trust the other. Which
fields are cleaned, and how, is marked where they are declared (`Clean` in `core.protocol.schema`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.direct import check_group, is_direct, pair_of
from tchat.core.protocol.schema import clean as clean
from tchat.core.text import fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from tchat.core.group.state import Author


def check_own_group(raw: str, author: Author) -> str:
    """Return a group's name as it is shown, unless it is a conversation of two others.

    Nothing is revealed about such a one, not even whether it exists. Raises `Refused`.
    """
    name = check_group(raw)
    if is_others(name, author):
        raise Refused(Code.NOT_MEMBER, "This is a conversation of two others.")
    return name


def is_others(name: str, author: Author) -> bool:
    """Return whether a name is that of a conversation of two others."""
    return is_direct(name) and fold(author.name) not in map(fold, pair_of(name))

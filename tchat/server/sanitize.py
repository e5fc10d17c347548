"""Group names in requests: sanitize them, and refuse other people's direct conversations.

Other text fields are sanitized by `core.protocol.schema.clean`; `core.text` explains why.
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

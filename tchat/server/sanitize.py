"""Group names in requests: sanitize them, and refuse other people's direct conversations.

Other text fields are sanitized by `core.protocol.schema.clean`; `core.text` explains why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.direct import check_group, is_others, not_yours

if TYPE_CHECKING:
    from tchat.core.group.state import Author


def check_own_group(raw: str, author: Author) -> str:
    """Return a group's display name. Raises `Refused` for a direct conversation of other people.

    The refusal reveals nothing about that conversation, not even whether it exists.
    """
    name = check_group(raw)
    if is_others(name, author.name):
        raise not_yours()
    return name

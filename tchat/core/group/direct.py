"""Direct conversations between two people: groups whose name lists their members.

Alice and Bob write to each other in the group `@alice,bob`: an at sign and both names, sorted by
their folded forms. No other group can have such a name. There is one direct conversation for each
pair of people; nobody founds, joins or leaves it, and it has no admin. Its log and the order and
delivery of its events work as in any group.
"""

from __future__ import annotations

from functools import lru_cache

from tchat.core.text import check_name, fold, quote_name
from tchat.errors import Code, Refused

_PREFIX = "@"
_SEPARATOR = ","


def direct_name(one: str, other: str) -> str:
    """Return the name of two people's direct conversation. Raises `Refused` (yourself)."""
    if fold(one) == fold(other):
        raise Refused(Code.YOURSELF, "You cannot start a conversation with yourself.")
    return _PREFIX + _SEPARATOR.join(sorted((one, other), key=fold))


def is_direct(group: str) -> bool:
    """Return whether a group's name is that of a direct conversation."""
    return group.startswith(_PREFIX)


def pair_of(group: str) -> tuple[str, str]:
    """Return the two names in the name of a direct conversation. Raises `Refused` (bad_name)."""
    one, separator, other = group.removeprefix(_PREFIX).partition(_SEPARATOR)
    if not separator:
        raise Refused(
            Code.BAD_NAME, f"{quote_name(group)!r} is not the name of a direct conversation."
        )
    return check_name(one), check_name(other)


def other_of(group: str, me: str) -> str:
    """Return the name of the person other than `me`."""
    one, other = pair_of(group)
    return other if fold(one) == fold(me) else one


def is_others(group: str, person: str) -> bool:
    """Return whether a group's name is that of a direct conversation between other people."""
    return is_direct(group) and fold(person) not in map(fold, pair_of(group))


def not_yours() -> Refused:
    """Return the refusal for a person outside a direct conversation."""
    return Refused(Code.NOT_MEMBER, "This is a direct conversation between two other people.")


@lru_cache(maxsize=4096)
def check_group(raw: str) -> str:
    """Return a group's display name. Raises `Refused` (bad_name, yourself)."""
    if is_direct(raw):
        return direct_name(*pair_of(raw))
    return check_name(raw, "group name")

"""Conversations of two: groups whose members their names say.

Alice and Bob write to each other in the group `@alice,bob`: an at sign and both names, the one
that folds to less first. No other group can have such a name. There is one such conversation for
each pair, nobody founds it, joins or leaves, and it has no admin; all else, its log, its order and
its delivery, is that of a group.
"""

from __future__ import annotations

from tchat.core.text import check_name, fold, quote_name
from tchat.errors import Code, Refused

_SIGN = "@"
_BETWEEN = ","


def direct_name(one: str, other: str) -> str:
    """Return the name of the conversation of two people. Raises `Refused` for one with oneself."""
    if fold(one) == fold(other):
        raise Refused(Code.YOURSELF, "A message to yourself would reach nobody else.")
    return _SIGN + _BETWEEN.join(sorted((one, other), key=fold))


def is_direct(group: str) -> bool:
    """Return whether a group's name is that of a conversation of two."""
    return group.startswith(_SIGN)


def pair_of(group: str) -> tuple[str, str]:
    """Return the two whose conversation that is. Raises `Refused` (bad_name)."""
    one, between, other = group.removeprefix(_SIGN).partition(_BETWEEN)
    if not between:
        raise Refused(Code.BAD_NAME, f"{quote_name(group)!r} does not say which two are meant.")
    return check_name(one), check_name(other)


def other_of(group: str, me: str) -> str:
    """Return with whom `me` has this conversation."""
    one, other = pair_of(group)
    return other if fold(one) == fold(me) else one


def check_group(raw: str) -> str:
    """Return a group's name as it will be shown, or raise `Refused` (bad_name, yourself)."""
    if is_direct(raw):
        return direct_name(*pair_of(raw))
    return check_name(raw, "group name")

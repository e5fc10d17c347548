"""Names that look like other names (Unicode UTS 39), and names that nobody may have.

Two names look alike if their *skeletons* are equal: a skeleton is the name with each character
replaced by the simplest one that looks the same (`confusables`). Whether somebody's name is shown
in capital letters depends on how they wrote it, so a name has two *appearances*: the skeleton as it
is written, and in small letters; both are folded. `aIice`, with a capital i, has an appearance of
`alice`.

A rule for new names must not lock anybody out of a name that they have: it is checked when a name
is claimed, or a group founded, and nowhere else.
"""

from __future__ import annotations

import unicodedata
from functools import cache

from tchat.core.confusables import PROTOTYPES, UNICODE
from tchat.core.text import fold
from tchat.errors import Code, Refused

APPEARANCES = f"confusables {UNICODE}, unicode {unicodedata.unidata_version}"
"""The versions that appearances depend on: with other versions, they are computed again."""

RESERVED_GROUPS = (
    *("admin", "administrator", "moderator", "operator", "server", "system", "tchat"),
)
"""Names with which somebody could speak in the place of the server; no group may have them."""

RESERVED = (
    *RESERVED_GROUPS,
    *("all", "anybody", "channel", "everybody", "everyone", "here", "nobody", "somebody"),
    *("me", "you"),
)
"""Those, and names with which a person could speak for everybody; a group of all is fine."""

# What marks a person's name, a notice or an error in plain mode, and letters that look like it.
_MARKS = frozenset("<>*!")


@cache
def _prototypes() -> dict[int, str]:
    pairs = (pair.split(":") for pair in PROTOTYPES.split())
    table = {
        int(code, 16): "".join(chr(int(one, 16)) for one in target.split(","))
        for code, target in pairs
    }
    # A few characters look like one whose decomposition has a prototype again.
    return {code: _replaced(_replaced(looks, table), table) for code, looks in table.items()}


def _replaced(text: str, table: dict[int, str]) -> str:
    decomposed = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFD", decomposed.translate(table))


def skeleton(name: str) -> str:
    """Return what a name looks like (UTS 39, section 4): equal for names that look alike."""
    return _replaced(name, _prototypes())


def appearances_of(name: str) -> frozenset[str]:
    """Return the appearances of a name: two names with one in common look alike."""
    return frozenset({fold(skeleton(name)), fold(skeleton(fold(name)))})


def check_new_name(name: str, what: str) -> None:
    """Raise `Refused` (bad_name) for a name that looks like an option or like marks of the screen.

    `name` is a valid name (`text.check_name`), and `what` its noun in the sentence. Without these
    checks, `--help` would be a name, and one with Canadian syllabics could look like `<alice>`.
    """
    if name.startswith("-"):
        raise Refused(Code.BAD_NAME, f"A new {what} cannot begin with a dash.")
    if not any(character.isalnum() for character in name):
        raise Refused(Code.BAD_NAME, f"A new {what} needs at least one letter or digit.")
    if not _MARKS.isdisjoint(skeleton(name)):
        raise Refused(Code.BAD_NAME, f"A new {what} cannot contain letters that look like < > * !")


def check_new_person(name: str) -> None:
    """Raise `Refused` (bad_name, lookalike) for a name that no new person may have."""
    check_new_name(name, "username")
    _check_not_reserved(name, RESERVED)


def check_new_group(name: str) -> None:
    """Raise `Refused` (bad_name, lookalike) for a name that no new group may have."""
    check_new_name(name, "group name")
    _check_not_reserved(name, RESERVED_GROUPS)


def group_lookalike_refusal(name: str) -> Refused:
    """Return the refusal of a new group whose name looks like that of another one.

    It does not say which one: whoever guesses a name by its look would learn how it is written.
    """
    return Refused(
        Code.LOOKALIKE,
        f"The name {name} looks like that of another group on this server. To join that group, type"
        " its name as its members do; otherwise choose another name.",
    )


def _check_not_reserved(name: str, reserved: tuple[str, ...]) -> None:
    if not _appearances_of_all(reserved).isdisjoint(appearances_of(name)):
        raise Refused(Code.LOOKALIKE, f"The name {name} is reserved. Choose another name.")


@cache
def _appearances_of_all(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset().union(*(appearances_of(name) for name in names))

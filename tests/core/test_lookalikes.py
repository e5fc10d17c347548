"""Names that look alike, and names that nobody new may have."""

from __future__ import annotations

import pytest

from tchat.core.confusables import PROTOTYPES
from tchat.core.lookalikes import (
    RESERVED,
    appearances_of,
    check_new_group,
    check_new_name,
    check_new_person,
    skeleton,
)
from tchat.errors import Code, Refused


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("alice", "\u0430lice"),  # Cyrillic
        ("alice", "aIice"),  # a capital i
        ("ALICE", "ALlCE"),
        ("alice", "a1ice"),
        ("bob", "b0b"),
        ("tom", "torn"),
        ("\u0430\u0441\u0435", "ace"),
        ("Zo\u00eb", "Zo\u0451"),
    ],
)
def test_names_that_look_alike_share_an_appearance(name: str, other: str) -> None:
    assert not appearances_of(name).isdisjoint(appearances_of(other))


@pytest.mark.parametrize(
    ("name", "other"), [("alice", "alicia"), ("bob", "bop"), ("anna", "\u0430\u043d\u043d\u0430")]
)
def test_other_names_share_no_appearance(name: str, other: str) -> None:
    assert appearances_of(name).isdisjoint(appearances_of(other))


def test_skeletons_have_no_skeleton_of_their_own() -> None:
    """Otherwise, two names could look like a third one, but not like each other."""
    for pair in PROTOTYPES.split():
        character = chr(int(pair.partition(":")[0], 16))
        assert skeleton(skeleton(character)) == skeleton(character), pair


@pytest.mark.parametrize(
    "name", ["--help", "-x", "...", "_", "\u1438alice\u1433", "\u01c3Xo", "alice\u1433"]
)
def test_names_like_options_and_marks_are_refused(name: str) -> None:
    with pytest.raises(Refused) as refused:
        check_new_name(name, "group name")
    assert refused.value.code == Code.BAD_NAME


@pytest.mark.parametrize(
    "name",
    [
        *("alice", "root", "a-b.c_d", "x", "7", "Zo\u00eb", "\u674e\u660e", "\u30ce\u30d6"),
        *("\u0926\u0941\u0903\u0916", "\u0645\u062d\u0645\u062f", "\u0e2a\u0e21\u0e0a\u0e32\u0e22"),
    ],
)
def test_ordinary_names_are_allowed(name: str) -> None:
    check_new_person(name)


@pytest.mark.parametrize("name", [*RESERVED, "SERVER", "s\u0435rver", "Y0U"])
def test_reserved_names_are_refused_however_written(name: str) -> None:
    with pytest.raises(Refused) as refused:
        check_new_person(name)
    assert refused.value.code == Code.LOOKALIKE


@pytest.mark.parametrize("name", ["server", "Serv\u0435r", "TCHAT", "adrnin"])
def test_no_new_group_speaks_for_the_server(name: str) -> None:
    with pytest.raises(Refused) as refused:
        check_new_group(name)
    assert refused.value.code == Code.LOOKALIKE


@pytest.mark.parametrize("name", ["everyone", "all", "channel", "admins", "servers", "h\u00e9re"])
def test_group_may_be_for_everybody(name: str) -> None:
    check_new_group(name)

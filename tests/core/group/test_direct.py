"""Direct conversations: their names, their members, and which commands they allow."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tchat.core.group.direct import check_group, direct_name, is_direct, other_of, pair_of
from tchat.core.group.features import COMMANDS
from tchat.core.group.files import RemoveFile, Share
from tchat.core.group.membership import (
    Approve,
    Ban,
    Deny,
    DenyAll,
    Invite,
    Join,
    Kick,
    Leave,
    TransferAdmin,
    Unban,
)
from tchat.core.group.messages import Delete, Deleted, Edit, Edited, Pin, Post, Posted, Unpin
from tchat.core.group.settings import SetPolicy, SetTopic
from tchat.core.group.state import Group
from tchat.core.text import NAME_LIMIT, check_name, fold
from tchat.errors import Code, Refused
from tests.core.histories import Step, histories, run_history
from tests.core.script import Script

if TYPE_CHECKING:
    from tchat.core.group.feature import Command

HOSTILE = [
    "@",
    "@,",
    "@a",
    "@a,",
    "@,a",
    "@a,b,c",
    "@a,,b",
    "@@a,b",
    "@a,@b",
    "@ a,b",
    "@a, b",
    " @a,b",
    "@a;b",
    "@a\n,b",
    "@a\x00,b",
    "@a\u200b,b",
    "@a,\u202eb",
    "@a,\u0301b",
    "@a,\ud800",
    "＠a,b",  # noqa: RUF001
    "﹫a,b",
    "@a，b",  # noqa: RUF001
    "@a﹐b",
    "@a︐b",
    "@a\u0326b",
    "a,b",
    "a@b",
    "ops@",
    "@" * 99_999,
    "@" + "," * 99_999,
    "@" + "a" * 99_999 + ",b",
    "@a," + "ﷺ" * 99_999,
    "@" + "a" * (NAME_LIMIT + 1) + ",b",
    "",
]
"""What is the name of no group and no conversation."""


def is_name(text: str) -> bool:
    try:
        check_name(text)
    except Refused:
        return False
    return True


letters = st.characters(categories=["L", "Nd", "Mn"], include_characters="_-.")
any_name = (
    st.sampled_from(["alice", "Bob", "Straße", "ŉ", "ﬃ", "Σς", "ΐ", "ǰ", "İ", "a.b-c_d", "漢字"])
    | st.text(letters, min_size=1, max_size=9).filter(is_name)
).map(check_name)


@pytest.fixture
def two() -> Script:
    """Return the conversation of Alice and bob, who have not posted anything."""
    return Script("@Alice,bob")


# ------------------------------------------------------------------ names


def test_direct_name_sorts_both_names_by_folding() -> None:
    assert direct_name("alice", "bob") == direct_name("bob", "alice") == "@alice,bob"
    assert direct_name("bob", "Alice") == "@Alice,bob"
    assert direct_name("Zoe", "alice") == "@alice,Zoe"


@pytest.mark.parametrize("other", ["alice", "ALICE", "ａｌｉｃｅ"])  # noqa: RUF001
def test_nobody_has_a_conversation_with_oneself(other: str) -> None:
    with pytest.raises(Refused) as caught:
        direct_name("alice", other)
    assert caught.value.code == Code.YOURSELF
    with pytest.raises(Refused) as caught:
        check_group(f"@alice,{other}")
    assert caught.value.code == Code.YOURSELF


@given(any_name, any_name)
def test_each_pair_has_one_conversation_in_any_spelling(one: str, other: str) -> None:
    assume(fold(one) != fold(other))
    name = direct_name(one, other)
    assert is_direct(name)
    assert direct_name(other, one) == check_group(name) == name
    # The server looks it up by its folded name, so folding must not depend on the spelling.
    assert fold(name) == direct_name(fold(one), fold(other))
    for spelling in (fold(name), f"@{other},{one}", f"@{one},{other}"):
        assert fold(check_group(spelling)) == fold(name)
        assert {*map(fold, pair_of(spelling))} == {fold(one), fold(other)}


@given(st.lists(any_name, min_size=3, max_size=3, unique_by=fold))
def test_two_pairs_never_share_a_name(people: list[str]) -> None:
    assert len({fold(direct_name(*pair)) for pair in permutations(people, 2)}) == 3


@given(any_name)
def test_group_names_are_never_direct_names(name: str) -> None:
    assert check_group(name) == name
    assert not is_direct(fold(name))


@given(any_name, any_name)
def test_other_of_returns_the_other_person(one: str, other: str) -> None:
    assume(fold(one) != fold(other))
    name = direct_name(one, other)
    assert (other_of(name, one), other_of(name, other)) == (other, one)
    assert other_of(name, fold(one)) == other
    assert pair_of(name) in [(one, other), (other, one)]


def test_direct_names_are_normalised() -> None:
    assert check_group("@Bob,ａｌｉｃｅ") == "@alice,Bob"  # noqa: RUF001
    assert check_group("ｏｐｓ") == "ops"  # noqa: RUF001


def test_the_longest_names_make_a_conversation() -> None:
    one, other = "a" * NAME_LIMIT, "漢" * NAME_LIMIT
    assert check_group(f"@{other},{one}") == f"@{one},{other}"
    with pytest.raises(Refused):
        check_group(f"@{other},{one}a")


@pytest.mark.parametrize("raw", HOSTILE, ids=lambda raw: ascii(raw[:12]))
def test_bad_direct_name_is_refused_briefly(raw: str) -> None:
    with pytest.raises(Refused) as caught:
        check_group(raw)
    assert caught.value.code == Code.BAD_NAME
    assert len(caught.value.sentence) < 250
    assert caught.value.sentence.isprintable()


@given(st.text(alphabet="@,abAB＠，﹫ａ. ") | st.text().map("@".__add__))  # noqa: RUF001
def test_any_text_is_a_valid_name_or_refused(raw: str) -> None:
    try:
        name = check_group(raw)
    except Refused as refusal:
        assert refusal.code in (Code.BAD_NAME, Code.YOURSELF)  # noqa: PT017
        return
    assert check_group(name) == name
    assert is_direct(name) == is_direct(raw) == (len({*Group.unwritten(name).members}) == 2)
    assert name.count("@") == name.count(",") == is_direct(name)


# ------------------------------------------------------------------ members


def test_both_people_are_members_from_the_start() -> None:
    group = Group.unwritten("@Alice,bob")
    assert group.members == {"alice": "Alice", "bob": "bob"}
    assert group.direct
    assert (group.name, group.admin, group.seq, group.floor) == ("@Alice,bob", None, 0, 0)


def test_order_and_spelling_name_the_same_conversation() -> None:
    assert Group.unwritten("@bob,Alice") == Group.unwritten("@Alice,bob")
    assert Group.unwritten("@BOB,alice").members.keys() == {"alice", "bob"}


@pytest.mark.parametrize("name", ["ops", "", "alice,bob"])
def test_unwritten_group_is_empty(name: str) -> None:
    assert Group.unwritten(name) == Group()
    assert not Group.unwritten(name).direct


@pytest.mark.parametrize("raw", [raw for raw in HOSTILE if is_direct(raw)] + ["@a,A"])
def test_bad_direct_name_has_no_state(raw: str) -> None:
    with pytest.raises(Refused):
        Group.unwritten(raw)


# ------------------------------------------------------------------ commands


def test_both_people_post_and_reply(two: Script) -> None:
    [first] = two.events("alice", Post, "psst")
    assert (first.group, first.seq) == ("@Alice,bob", 1)
    assert two.run("bob", Post, "what?", first.seq) == [Posted("what?", 1)]
    assert two.refused("bob", Post, "what?", 0) == Code.NO_SUCH_MESSAGE
    assert two.replayed() == two.group


def test_latest_spelling_of_a_name_is_shown(two: Script) -> None:
    assert two.group.members == {"alice": "Alice", "bob": "bob"}
    two.run("ALICE", Post, "psst")
    assert two.group.members == {"alice": "ALICE", "bob": "bob"}


def test_direct_messages_are_edited_by_their_authors(two: Script) -> None:
    two.run("alice", Post, "psst")
    assert two.run("ALICE", Edit, 1, "hello") == [Edited(1, "hello")]
    assert two.refused("bob", Edit, 1, "nothing") == Code.NOT_AUTHOR
    assert two.refused("bob", Delete, 1) == Code.NOT_AUTHOR
    assert "admin" not in two.sentence
    assert two.run("alice", Delete, 1) == [Deleted(1)]


def test_events_carry_the_canonical_direct_name(two: Script) -> None:
    two.name = "@BOB,ALICE"
    assert [event.group for event in two.events("bob", Post, "hello")] == ["@Alice,bob"]


def test_third_person_is_refused(two: Script) -> None:
    two.run("alice", Post, "psst")
    assert two.refused("carol", Post, "what are you talking about?") == Code.NOT_MEMBER
    assert two.sentence == "This is a direct conversation between two other people."
    assert two.refused("carol", Edit, 1, "boo") == Code.NOT_MEMBER
    assert two.refused("carol", Delete, 1) == Code.NOT_MEMBER


REFUSED: list[tuple[type[Command], tuple[object, ...]]] = [
    (Join, ()),
    (Join, (bytes(16),)),
    (Leave, ()),
    (DenyAll, ()),
    (Share, ("a.txt", 1, bytes(32))),
    (Invite, (bytes(32), 1000)),
    (SetTopic, ("us",)),
    (SetPolicy, ("open",)),
    (RemoveFile, (1,)),
    (Pin, (1,)),
    (Unpin, ()),
    *((what, ("bob",)) for what in (Approve, Deny, Kick, TransferAdmin, Ban, Unban)),
]


def test_every_command_is_either_allowed_or_refused() -> None:
    assert {what for what, _ in REFUSED} | {Post, Edit, Delete} == {*COMMANDS}


@pytest.mark.parametrize("who", ["alice", "bob", "carol"])
@pytest.mark.parametrize(("what", "about"), REFUSED, ids=[what.type for what, _ in REFUSED])
def test_membership_commands_are_refused_in_direct_conversations(
    two: Script, who: str, what: type[Command], about: tuple[object, ...]
) -> None:
    assert two.refused(who, what, *about) == Code.DIRECT


def test_repeated_direct_message_is_posted_once(two: Script) -> None:
    two.run("alice", Post, "psst")
    assert two.again() == []


@given(histories)
def test_members_of_a_direct_conversation_never_change(history: list[Step]) -> None:
    two = Script("@alice,bob")
    for outcome in run_history(history, two):
        assert all(fold(event.actor) in ("alice", "bob") for event in outcome.events)
        group = two.group
        assert {*group.members} == {*map(fold, group.members.values())} == {"alice", "bob"}
        assert group.admin is None
        assert not group.requests | group.invites | group.files | group.banned
    assert two.replayed() == two.group

"""The rules of a group, told as stories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.core.group.files import FileShared, Share
from tchat.core.group.membership import (
    AdminTransferred,
    Approve,
    Approved,
    Created,
    Denied,
    Deny,
    Join,
    Kick,
    Kicked,
    Leave,
    Left,
    Requested,
    TransferAdmin,
    Withdrawn,
)
from tchat.core.group.messages import Post
from tchat.errors import Code
from tests.core.script import Script, key_of

if TYPE_CHECKING:
    from tchat.core.group.feature import Command

DIGEST = bytes(range(32))


# ------------------------------------------------------------------ founding and joining


def test_joining_a_group_that_is_not_there_founds_it(ops: Script) -> None:
    assert ops.run("alice", Join) == [Created(key_of("alice"))]
    assert ops.members == ["alice"]
    assert ops.group.admin_name == "alice"
    assert ops.group.name == "ops"


def test_joining_a_group_that_is_there_is_a_request(ops: Script) -> None:
    ops.run("alice", Join)
    assert ops.run("bob", Join) == [Requested(key_of("bob"))]
    assert ops.group.standing("bob") == "waiting"
    assert ops.members == ["alice"]


def test_whoever_asks_twice_waits_once(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    assert ops.run("bob", Join) == []
    assert ops.waiting == ["bob"]


def test_a_member_who_joins_changes_nothing(crew: Script) -> None:
    assert crew.run("bob", Join) == []
    assert crew.group.standing("bob") == "member"


def test_the_admin_lets_people_in(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    assert ops.run("alice", Approve, "bob") == [Approved("bob")]
    assert ops.members == ["alice", "bob"]
    assert ops.waiting == []


def test_the_admin_turns_people_down(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    assert ops.run("alice", Deny, "bob") == [Denied("bob")]
    assert ops.group.standing("bob") == "outsider"


def test_whoever_was_turned_down_may_ask_again(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    ops.run("alice", Deny, "bob")
    assert ops.run("bob", Join) == [Requested(key_of("bob"))]


@pytest.mark.parametrize("answer", [Approve, Deny])
def test_only_the_admin_answers_requests(crew: Script, answer: type[Command]) -> None:
    crew.run("dave", Join)
    assert crew.refused("bob", answer, "dave") == Code.NOT_ADMIN
    assert crew.refused("dave", answer, "dave") == Code.NOT_MEMBER
    assert crew.refused("erin", answer, "dave") == Code.NOT_MEMBER


@pytest.mark.parametrize("answer", [Approve, Deny])
def test_a_request_that_nobody_made_cannot_be_answered(crew: Script, answer: type[Command]) -> None:
    assert crew.refused("alice", answer, "dave") == Code.NO_SUCH_REQUEST
    assert crew.refused("alice", answer, "not a name") == Code.NO_SUCH_REQUEST
    assert crew.refused("alice", answer, "bob") == Code.ALREADY_MEMBER


def test_a_request_is_answered_once(crew: Script) -> None:
    crew.run("dave", Join)
    crew.run("alice", Deny, "dave")
    assert crew.refused("alice", Approve, "dave") == Code.NO_SUCH_REQUEST


def test_a_request_can_be_taken_back(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.run("dave", Leave) == [Withdrawn()]
    assert crew.group.standing("dave") == "outsider"
    assert crew.refused("alice", Approve, "dave") == Code.NO_SUCH_REQUEST


def test_requests_are_listed_in_the_order_in_which_they_came(crew: Script) -> None:
    for name in ("zoe", "dave", "mia"):
        crew.run(name, Join)
    assert crew.waiting == ["zoe", "dave", "mia"]


# ------------------------------------------------------------------ kicking


def test_the_admin_kicks_members(crew: Script) -> None:
    assert crew.run("alice", Kick, "bob") == [Kicked("bob")]
    assert crew.members == ["alice", "carol"]
    assert list(crew.group.kicked) == ["bob"]


def test_only_the_admin_kicks(crew: Script) -> None:
    assert crew.refused("bob", Kick, "carol") == Code.NOT_ADMIN
    assert crew.refused("bob", Kick, "alice") == Code.NOT_ADMIN
    assert crew.refused("dave", Kick, "carol") == Code.NOT_MEMBER


def test_nobody_kicks_oneself(crew: Script) -> None:
    assert crew.refused("alice", Kick, "alice") == Code.YOURSELF
    assert crew.refused("alice", Kick, "ALICE") == Code.YOURSELF


def test_only_members_can_be_kicked(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.refused("alice", Kick, "dave") == Code.NO_SUCH_MEMBER
    assert crew.refused("alice", Kick, "erin") == Code.NO_SUCH_MEMBER


def test_whoever_cannot_be_kicked_yet_can_be_refused(crew: Script) -> None:
    crew.run("dave", Join)
    crew.refused("alice", Kick, "dave")
    assert "has asked to join" in crew.sentence
    crew.refused("alice", Kick, "erin")
    assert "/deny" not in crew.sentence


def test_whoever_was_kicked_is_out(crew: Script) -> None:
    crew.run("alice", Kick, "bob")
    assert crew.refused("bob", Post, "but why?") == Code.NOT_MEMBER
    assert crew.refused("bob", Leave) == Code.NOT_MEMBER
    assert crew.refused("alice", Kick, "bob") == Code.NO_SUCH_MEMBER


def test_whoever_was_kicked_may_ask_and_be_let_in_again(crew: Script) -> None:
    crew.run("alice", Kick, "bob")
    assert crew.run("bob", Join) == [Requested(key_of("bob"))]
    crew.run("alice", Approve, "bob")
    assert crew.members == ["alice", "carol", "bob"]
    assert crew.group.kicked == {}


# ------------------------------------------------------------------ the admin


def test_the_admin_makes_another_member_the_admin(crew: Script) -> None:
    assert crew.run("alice", TransferAdmin, "bob") == [AdminTransferred("bob")]
    assert crew.group.admin_name == "bob"
    assert crew.members == ["alice", "bob", "carol"]


def test_a_former_admin_is_a_member_like_others(crew: Script) -> None:
    crew.run("alice", TransferAdmin, "bob")
    assert crew.refused("alice", Kick, "carol") == Code.NOT_ADMIN
    assert crew.run("bob", Kick, "alice") == [Kicked("alice")]


def test_only_the_admin_passes_adminship_on(crew: Script) -> None:
    assert crew.refused("bob", TransferAdmin, "bob") == Code.NOT_ADMIN
    assert crew.refused("dave", TransferAdmin, "dave") == Code.NOT_MEMBER


def test_adminship_goes_to_members_only(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.refused("alice", TransferAdmin, "dave") == Code.NO_SUCH_MEMBER
    assert crew.refused("alice", TransferAdmin, "erin") == Code.NO_SUCH_MEMBER


def test_the_admin_cannot_be_made_the_admin(crew: Script) -> None:
    assert crew.refused("alice", TransferAdmin, "alice") == Code.YOURSELF


def test_an_admin_who_leaves_is_followed_by_the_longest_standing_member(crew: Script) -> None:
    assert crew.run("alice", Leave) == [AdminTransferred("bob"), Left()]
    assert crew.group.admin_name == "bob"
    assert crew.members == ["bob", "carol"]


def test_a_member_who_came_back_stands_behind_those_who_stayed(crew: Script) -> None:
    crew.run("bob", Leave)
    crew.run("bob", Join)
    crew.run("alice", Approve, "bob")
    crew.run("alice", Leave)
    assert crew.group.admin_name == "carol"


def test_whoever_founded_the_group_is_still_the_longest_standing(crew: Script) -> None:
    crew.run("alice", TransferAdmin, "carol")
    crew.run("carol", Leave)
    assert crew.group.admin_name == "alice"


def test_a_member_leaves(crew: Script) -> None:
    assert crew.run("bob", Leave) == [Left()]
    assert crew.members == ["alice", "carol"]
    assert crew.group.admin_name == "alice"


def test_only_those_who_are_in_can_leave(crew: Script) -> None:
    assert crew.refused("dave", Leave) == Code.NOT_MEMBER


# ------------------------------------------------------------------ closing and refounding


def test_the_last_one_out_closes_the_group(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    assert ops.run("alice", Leave) == [Left()]
    assert (ops.members, ops.waiting, ops.group.admin) == ([], [], None)
    assert ops.group.admin_name == ""


def test_in_a_closed_group_nothing_can_be_done_but_to_found_it_anew(ops: Script) -> None:
    ops.joined("alice")
    ops.run("alice", Leave)
    assert ops.refused("alice", Leave) == Code.NOT_MEMBER
    assert ops.refused("alice", Post, "hello?") == Code.NOT_MEMBER
    assert ops.refused("alice", Approve, "bob") == Code.NOT_MEMBER
    assert ops.run("bob", Join) == [Created(key_of("bob"))]


def test_a_group_founded_anew_begins_a_new_life(crew: Script) -> None:
    crew.run("alice", Share, "plan.txt", 10, DIGEST)
    crew.run("alice", Kick, "carol")
    crew.run("bob", Leave)
    crew.run("alice", Leave)
    closed_at = crew.group.seq
    [founded] = crew.events("dave", Join)
    assert founded.seq == closed_at + 1
    assert crew.group.floor == founded.seq
    assert crew.members == ["dave"]
    assert crew.group.admin_name == "dave"
    assert (crew.group.files, crew.group.kicked) == ({}, {})


def test_the_first_life_begins_with_the_first_event(ops: Script) -> None:
    ops.run("alice", Join)
    assert ops.group.floor == 1


def test_file_numbers_go_on_in_a_new_life(ops: Script) -> None:
    ops.joined("alice")
    ops.run("alice", Share, "plan.txt", 10, DIGEST)
    ops.run("alice", Leave)
    ops.run("bob", Join)
    assert ops.run("bob", Share, "song.ogg", 5, DIGEST) == [FileShared(2, "song.ogg", 5, DIGEST)]


def test_the_shelf_of_a_group_that_is_closed_is_empty(ops: Script) -> None:
    ops.joined("alice")
    ops.run("alice", Share, "plan.txt", 10, DIGEST)
    ops.run("alice", Leave)
    assert ops.group.files == {}


def test_whoever_was_kicked_in_an_earlier_life_is_just_an_outsider_now(crew: Script) -> None:
    crew.run("alice", Kick, "bob")
    crew.run("carol", Leave)
    crew.run("alice", Leave)
    crew.run("bob", Join)
    assert crew.group.admin_name == "bob"
    assert crew.group.kicked == {}


def test_a_group_is_spelled_as_its_last_founder_wrote_it() -> None:
    ops = Script("Ops")
    ops.joined("alice")
    ops.name = "OPS"
    assert [event.group for event in ops.events("alice", Post, "hello")] == ["Ops"]
    ops.run("alice", Leave)
    assert [event.group for event in ops.events("bob", Join)] == ["OPS"]
    assert ops.group.name == "OPS"


# ------------------------------------------------------------------ names


@pytest.mark.parametrize("spelling", ["ALICE", "Alice", "ａｌｉｃｅ", "AlIcE"])  # noqa: RUF001
def test_a_name_is_the_same_in_any_spelling(spelling: str) -> None:
    ops = Script()
    ops.joined("alice", "bob")
    assert ops.group.is_admin(spelling)
    assert ops.group.standing(spelling) == "member"
    assert ops.refused("alice", Kick, spelling) == Code.YOURSELF
    assert ops.run(spelling, Kick, "bob") == [Kicked("bob")]


def test_folding_knows_more_than_lower_case() -> None:
    ops = Script()
    ops.joined("alice", "Straße")
    assert ops.run("alice", Kick, "STRASSE") == [Kicked("Straße")]


def test_people_are_shown_as_they_wrote_their_names_first(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("BoB", Join)
    assert ops.run("alice", Approve, "bob") == [Approved("BoB")]
    assert ops.members == ["alice", "BoB"]
    assert ops.run("alice", TransferAdmin, "BOB") == [AdminTransferred("BoB")]
    assert ops.group.admin_name == "BoB"


def test_one_person_in_two_spellings_is_one_member(ops: Script) -> None:
    ops.run("alice", Join)
    assert ops.run("ALICE", Join) == []
    ops.run("bob", Join)
    assert ops.run("Bob", Join) == []
    assert (ops.members, ops.waiting) == (["alice"], ["bob"])

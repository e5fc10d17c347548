"""Membership: join, approve, deny, leave, kick, the admin role, founding anew."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tchat.core.fingerprints import token_digest
from tchat.core.group.files import FileShared, Share
from tchat.core.group.membership import (
    COOL_DOWN_MS,
    AdminTransferred,
    Approve,
    Approved,
    Created,
    Denied,
    Deny,
    DenyAll,
    Invite,
    Join,
    Joined,
    Kick,
    Kicked,
    Leave,
    Left,
    Requested,
    TransferAdmin,
    Withdrawn,
)
from tchat.core.group.messages import Post
from tchat.core.group.settings import SetPolicy
from tchat.errors import Code, Refused
from tests.core.script import Script, key_of

if TYPE_CHECKING:
    from tchat.core.group.feature import Command

DIGEST = bytes(range(32))


# ------------------------------------------------------------------ join


def test_first_join_founds_the_group(ops: Script) -> None:
    assert ops.run("alice", Join) == [Created(key_of("alice"))]
    assert ops.members == ["alice"]
    assert ops.group.admin_name == "alice"
    assert ops.group.name == "ops"


def test_a_cautious_join_founds_nothing(ops: Script) -> None:
    """Scripts send it: a mistyped name must not become a group."""
    assert ops.refused("alice", Join, None, False) == Code.NO_SUCH_GROUP
    assert ops.run("alice", Join, None, True) == [Created(key_of("alice"))]
    assert ops.run("bob", Join, None, False) == [Requested(key_of("bob"))]


def test_a_cautious_join_does_not_revive_groups(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("alice", Leave)
    assert ops.refused("bob", Join, None, False) == Code.NO_SUCH_GROUP


def test_joining_an_existing_group_is_a_request(ops: Script) -> None:
    ops.run("alice", Join)
    assert ops.run("bob", Join) == [Requested(key_of("bob"))]
    assert ops.group.standing("bob") == "waiting"
    assert ops.members == ["alice"]


def test_second_request_changes_nothing(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    assert ops.run("bob", Join) == []
    assert ops.waiting == ["bob"]


def test_join_by_a_member_changes_nothing(crew: Script) -> None:
    assert crew.run("bob", Join) == []
    assert crew.group.standing("bob") == "member"


def test_admin_approves_requests(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    assert ops.run("alice", Approve, "bob") == [Approved("bob")]
    assert ops.members == ["alice", "bob"]
    assert ops.waiting == []


def test_admin_denies_requests(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    assert ops.run("alice", Deny, "bob") == [Denied("bob", ops.now + COOL_DOWN_MS)]
    assert ops.group.standing("bob") == "outsider"


def test_denied_person_may_ask_again_later(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    ops.run("alice", Deny, "bob")
    assert ops.refused("bob", Join) == Code.DENIED
    assert "alice, the admin, denied your request; you can ask again in 60 minutes" in ops.sentence
    ops.now += COOL_DOWN_MS - 1
    assert ops.refused("bob", Join) == Code.DENIED
    assert "in a minute." in ops.sentence
    ops.now += 1
    assert ops.run("bob", Join) == [Requested(key_of("bob"))]


def test_denial_holds_for_the_key(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    ops.run("alice", Deny, "bob")
    author, join = ops.asked("robert", Join)
    with pytest.raises(Refused, match="denied your request"):
        ops.give(replace(author, key=key_of("bob")), join)
    assert ops.run("carol", Join) == [Requested(key_of("carol"))]


def test_denied_person_may_use_invite_or_policy(ops: Script) -> None:
    ops.run("alice", Join)
    for name in ("bob", "carol"):
        ops.run(name, Join)
        ops.run("alice", Deny, name)
    ops.run("alice", Invite, token_digest(bytes(16)), 9000)
    assert ops.run("bob", Join, bytes(16)) == [
        Joined("alice", token_digest(bytes(16)), key_of("bob"))
    ]
    assert ops.group.denied.keys() == {"carol"}
    ops.run("alice", SetPolicy, "open")
    assert ops.run("carol", Join) == [Joined(key=key_of("carol"))]
    assert not ops.group.denied


def test_withdrawn_request_may_be_repeated_at_once(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    ops.run("bob", Leave)
    assert ops.run("bob", Join) == [Requested(key_of("bob"))]


def test_all_requests_are_denied_at_once(ops: Script) -> None:
    ops.run("alice", Join)
    for name in ("Bob", "carol", "dave"):
        ops.run(name, Join)
    until = ops.now + COOL_DOWN_MS
    denied = [Denied(name, until) for name in ("Bob", "carol", "dave")]
    assert ops.run("alice", DenyAll) == denied
    assert ops.waiting == []
    assert ops.again() == []
    assert ops.refused("bob", Join) == Code.DENIED
    assert ops.refused("alice", DenyAll) == Code.NO_SUCH_REQUEST


def test_only_the_admin_denies_all_requests(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.refused("bob", DenyAll) == Code.NOT_ADMIN
    assert crew.refused("dave", DenyAll) == Code.NOT_APPROVED
    assert crew.waiting == ["dave"]


@pytest.mark.parametrize("answer", [Approve, Deny])
def test_only_the_admin_answers_requests(crew: Script, answer: type[Command]) -> None:
    crew.run("dave", Join)
    assert crew.refused("bob", answer, "dave") == Code.NOT_ADMIN
    assert crew.refused("dave", answer, "dave") == Code.NOT_APPROVED
    assert crew.refused("erin", answer, "dave") == Code.NOT_MEMBER


@pytest.mark.parametrize("answer", [Approve, Deny])
def test_missing_request_cannot_be_answered(crew: Script, answer: type[Command]) -> None:
    assert crew.refused("alice", answer, "dave") == Code.NO_SUCH_REQUEST
    assert crew.refused("alice", answer, "not a name") == Code.NO_SUCH_REQUEST
    assert crew.refused("alice", answer, "bob") == Code.ALREADY_MEMBER


def test_request_is_answered_once(crew: Script) -> None:
    crew.run("dave", Join)
    crew.run("alice", Deny, "dave")
    assert crew.refused("alice", Approve, "dave") == Code.NO_SUCH_REQUEST


def test_request_can_be_withdrawn(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.run("dave", Leave) == [Withdrawn()]
    assert crew.group.standing("dave") == "outsider"
    assert crew.refused("alice", Approve, "dave") == Code.NO_SUCH_REQUEST


def test_requests_are_listed_in_order(crew: Script) -> None:
    for name in ("zoe", "dave", "mia"):
        crew.run(name, Join)
    assert crew.waiting == ["zoe", "dave", "mia"]


# ------------------------------------------------------------------ kick


def test_admin_kicks_members(crew: Script) -> None:
    assert crew.run("alice", Kick, "bob") == [Kicked("bob")]
    assert crew.members == ["alice", "carol"]
    assert list(crew.group.kicked) == ["bob"]


def test_only_the_admin_kicks(crew: Script) -> None:
    assert crew.refused("bob", Kick, "carol") == Code.NOT_ADMIN
    assert crew.refused("bob", Kick, "alice") == Code.NOT_ADMIN
    assert crew.refused("dave", Kick, "carol") == Code.NOT_MEMBER


def test_nobody_can_kick_oneself(crew: Script) -> None:
    assert crew.refused("alice", Kick, "alice") == Code.YOURSELF
    assert crew.refused("alice", Kick, "ALICE") == Code.YOURSELF


def test_only_members_can_be_kicked(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.refused("alice", Kick, "dave") == Code.NO_SUCH_MEMBER
    assert crew.refused("alice", Kick, "erin") == Code.NO_SUCH_MEMBER


def test_kick_refusal_mentions_a_pending_request(crew: Script) -> None:
    crew.run("dave", Join)
    crew.refused("alice", Kick, "dave")
    assert "has asked to join" in crew.sentence
    crew.refused("alice", Kick, "erin")
    assert "/deny" not in crew.sentence


def test_kicked_person_is_an_outsider(crew: Script) -> None:
    crew.run("alice", Kick, "bob")
    assert crew.refused("bob", Post, "but why?") == Code.NOT_MEMBER
    assert crew.refused("bob", Leave) == Code.NOT_MEMBER
    assert crew.refused("alice", Kick, "bob") == Code.NO_SUCH_MEMBER


def test_kicked_person_may_ask_and_be_approved(crew: Script) -> None:
    crew.run("alice", Kick, "bob")
    assert crew.run("bob", Join) == [Requested(key_of("bob"))]
    crew.run("alice", Approve, "bob")
    assert crew.members == ["alice", "carol", "bob"]
    assert crew.group.kicked == {}


# ------------------------------------------------------------------ the admin role


def test_admin_transfers_the_role(crew: Script) -> None:
    assert crew.run("alice", TransferAdmin, "bob") == [AdminTransferred("bob")]
    assert crew.group.admin_name == "bob"
    assert crew.members == ["alice", "bob", "carol"]


def test_former_admin_is_an_ordinary_member(crew: Script) -> None:
    crew.run("alice", TransferAdmin, "bob")
    assert crew.refused("alice", Kick, "carol") == Code.NOT_ADMIN
    assert crew.run("bob", Kick, "alice") == [Kicked("alice")]


def test_only_the_admin_transfers_the_role(crew: Script) -> None:
    assert crew.refused("bob", TransferAdmin, "bob") == Code.NOT_ADMIN
    assert crew.refused("dave", TransferAdmin, "dave") == Code.NOT_MEMBER


def test_only_members_can_become_admin(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.refused("alice", TransferAdmin, "dave") == Code.NO_SUCH_MEMBER
    assert crew.refused("alice", TransferAdmin, "erin") == Code.NO_SUCH_MEMBER


def test_admin_cannot_transfer_to_oneself(crew: Script) -> None:
    assert crew.refused("alice", TransferAdmin, "alice") == Code.YOURSELF


def test_leaving_admin_is_succeeded_by_longest_standing_member(crew: Script) -> None:
    assert crew.run("alice", Leave) == [AdminTransferred("bob"), Left()]
    assert crew.group.admin_name == "bob"
    assert crew.members == ["bob", "carol"]


def test_returning_member_is_last_in_succession(crew: Script) -> None:
    crew.run("bob", Leave)
    crew.run("bob", Join)
    crew.run("alice", Approve, "bob")
    crew.run("alice", Leave)
    assert crew.group.admin_name == "carol"


def test_founder_remains_the_longest_standing_member(crew: Script) -> None:
    crew.run("alice", TransferAdmin, "carol")
    crew.run("carol", Leave)
    assert crew.group.admin_name == "alice"


def test_member_leaves(crew: Script) -> None:
    assert crew.run("bob", Leave) == [Left()]
    assert crew.members == ["alice", "carol"]
    assert crew.group.admin_name == "alice"


def test_outsider_cannot_leave(crew: Script) -> None:
    assert crew.refused("dave", Leave) == Code.NOT_MEMBER


# ------------------------------------------------------------------ closing and founding anew


def test_last_member_leaving_closes_the_group(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    assert ops.run("alice", Leave) == [Left()]
    assert (ops.members, ops.waiting, ops.group.admin) == ([], [], None)
    assert ops.group.admin_name == ""


def test_closed_group_can_only_be_refounded(ops: Script) -> None:
    ops.joined("alice")
    ops.run("alice", Leave)
    assert ops.refused("alice", Leave) == Code.NOT_MEMBER
    assert ops.refused("alice", Post, "hello?") == Code.NOT_MEMBER
    assert ops.refused("alice", Approve, "bob") == Code.NOT_MEMBER
    assert ops.run("bob", Join) == [Created(key_of("bob"))]


def test_refounding_resets_the_group(crew: Script) -> None:
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


def test_first_founding_is_event_1(ops: Script) -> None:
    ops.run("alice", Join)
    assert ops.group.floor == 1


def test_file_numbers_continue_after_a_refounding(ops: Script) -> None:
    ops.joined("alice")
    ops.run("alice", Share, "plan.txt", 10, DIGEST)
    ops.run("alice", Leave)
    ops.run("bob", Join)
    assert ops.run("bob", Share, "song.ogg", 5, DIGEST) == [FileShared(2, "song.ogg", 5, DIGEST)]


def test_closing_a_group_removes_its_files(ops: Script) -> None:
    ops.joined("alice")
    ops.run("alice", Share, "plan.txt", 10, DIGEST)
    ops.run("alice", Leave)
    assert ops.group.files == {}


def test_refounding_forgets_who_was_kicked(crew: Script) -> None:
    crew.run("alice", Kick, "bob")
    crew.run("carol", Leave)
    crew.run("alice", Leave)
    crew.run("bob", Join)
    assert crew.group.admin_name == "bob"
    assert crew.group.kicked == {}


def test_group_has_its_last_founders_spelling() -> None:
    ops = Script("Ops")
    ops.joined("alice")
    ops.name = "OPS"
    assert [event.group for event in ops.events("alice", Post, "hello")] == ["Ops"]
    ops.run("alice", Leave)
    assert [event.group for event in ops.events("bob", Join)] == ["OPS"]
    assert ops.group.name == "OPS"


# ------------------------------------------------------------------ names


@pytest.mark.parametrize("spelling", ["ALICE", "Alice", "ａｌｉｃｅ", "AlIcE"])  # noqa: RUF001
def test_names_match_in_any_spelling(spelling: str) -> None:
    ops = Script()
    ops.joined("alice", "bob")
    assert ops.group.is_admin(spelling)
    assert ops.group.standing(spelling) == "member"
    assert ops.refused("alice", Kick, spelling) == Code.YOURSELF
    assert ops.run(spelling, Kick, "bob") == [Kicked("bob")]


def test_names_are_matched_by_full_case_folding() -> None:
    ops = Script()
    ops.joined("alice", "Straße")
    assert ops.run("alice", Kick, "STRASSE") == [Kicked("Straße")]


def test_members_are_shown_in_their_first_spelling(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("BoB", Join)
    assert ops.run("alice", Approve, "bob") == [Approved("BoB")]
    assert ops.members == ["alice", "BoB"]
    assert ops.run("alice", TransferAdmin, "BOB") == [AdminTransferred("BoB")]
    assert ops.group.admin_name == "BoB"


def test_two_spellings_are_one_member(ops: Script) -> None:
    ops.run("alice", Join)
    assert ops.run("ALICE", Join) == []
    ops.run("bob", Join)
    assert ops.run("Bob", Join) == []
    assert (ops.members, ops.waiting) == (["alice"], ["bob"])

"""Bans, and how bans, invites and kicks exclude each other."""

from __future__ import annotations

import hashlib

import pytest

from tchat.core.group.feature import Command, Event, GroupLimits
from tchat.core.group.membership import (
    Approve,
    Ban,
    Banned,
    Created,
    Deny,
    Invite,
    Join,
    Joined,
    Kick,
    Leave,
    Requested,
    TransferAdmin,
    Unban,
    Unbanned,
)
from tchat.core.group.messages import Post
from tchat.core.group.rules import apply
from tchat.core.group.settings import PolicySet, SetPolicy, SetTopic, TopicSet
from tchat.core.group.state import Group
from tchat.errors import Code
from tests.core.script import NOON, Script, key_of

HOUR = 3_600_000
TOKEN = bytes(range(16))
OTHER = bytes(range(16, 32))
CLIENT = b"12345678"


def digest_of(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


by_admin = pytest.mark.parametrize(
    ("what", "about"),
    [(Ban, ("carol",)), (Unban, ("carol",)), (SetTopic, ("ours now",)), (SetPolicy, ("open",))],
)


@by_admin
def test_admin_commands_are_refused_to_members(
    crew: Script, what: type[Command], about: tuple[str]
) -> None:
    crew.run("dave", Join)
    assert crew.refused("bob", what, *about) == Code.NOT_ADMIN
    assert crew.refused("dave", what, *about) == Code.NOT_APPROVED
    assert crew.refused("erin", what, *about) == Code.NOT_MEMBER


# ------------------------------------------------------------------ ban


def test_ban_ends_membership(crew: Script) -> None:
    assert crew.run("alice", Ban, "bob") == [Banned("bob")]
    assert crew.members == ["alice", "carol"]
    assert crew.group.banned == {"bob": "bob"}
    assert crew.refused("bob", Post, "but why?") == Code.BANNED
    assert crew.refused("bob", Leave) == Code.BANNED


def test_ban_removes_a_pending_request(crew: Script) -> None:
    crew.run("Dave", Join)
    assert crew.run("alice", Ban, "DAVE") == [Banned("Dave")]
    assert crew.waiting == []
    assert crew.refused("alice", Approve, "dave") == Code.NO_SUCH_REQUEST
    assert crew.refused("alice", Deny, "dave") == Code.NO_SUCH_REQUEST


def test_outsider_can_be_banned(crew: Script) -> None:
    assert crew.run("alice", Ban, "Mallory") == [Banned("Mallory")]
    assert crew.group.banned == {"mallory": "Mallory"}
    assert crew.refused("mallory", Join) == Code.BANNED


def test_ban_event_has_the_members_own_spelling(ops: Script) -> None:
    ops.joined("alice", "Straße")
    assert ops.run("alice", Ban, "STRASSE") == [Banned("Straße")]
    assert ops.refused("strasse", Join) == Code.BANNED


def test_second_ban_changes_nothing(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    assert crew.run("alice", Ban, "BOB") == []


@pytest.mark.parametrize("spelling", ["alice", "ALICE", "ａｌｉｃｅ"])  # noqa: RUF001
def test_nobody_can_ban_oneself(crew: Script, spelling: str) -> None:
    assert crew.refused("alice", Ban, spelling) == Code.YOURSELF


def test_banned_former_admin_cannot_become_admin_again(crew: Script) -> None:
    crew.run("alice", TransferAdmin, "bob")
    crew.run("bob", Ban, "alice")
    assert crew.refused("bob", TransferAdmin, "alice") == Code.NO_SUCH_MEMBER
    assert crew.refused("bob", Kick, "alice") == Code.NO_SUCH_MEMBER
    assert crew.group.admin_name == "bob"


def test_banned_member_does_not_succeed_the_admin(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    crew.run("alice", Leave)
    assert crew.group.admin_name == "carol"


def test_banned_person_cannot_ask_to_join(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    assert crew.refused("bob", Join) == Code.BANNED
    assert crew.refused("BOB", Join) == Code.BANNED
    assert crew.waiting == []


def test_banned_person_can_use_no_invite(crew: Script) -> None:
    crew.run("alice", Invite, digest_of(TOKEN), HOUR)
    crew.run("alice", Ban, "bob")
    crew.run("alice", Invite, digest_of(OTHER), HOUR)
    assert crew.refused("bob", Join, TOKEN) == Code.BANNED
    assert crew.refused("bob", Join, OTHER) == Code.BANNED
    assert crew.run("dave", Join, TOKEN) != []


def test_banned_person_cannot_be_invited_by_name(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    assert crew.refused("alice", Invite, digest_of(TOKEN), HOUR, "BOB") == Code.BANNED
    assert crew.sentence == "BOB is banned; lift the ban before inviting them."
    crew.run("alice", Unban, "bob")
    crew.run("alice", Invite, digest_of(TOKEN), HOUR, "BOB")
    assert crew.run("bob", Join, TOKEN) != []


def test_ban_voids_the_invites_that_the_person_gave(crew: Script) -> None:
    crew.run("alice", Invite, digest_of(TOKEN), HOUR)
    crew.run("alice", TransferAdmin, "bob")
    crew.run("bob", Ban, "alice")
    assert crew.refused("dave", Join, TOKEN) == Code.BAD_INVITE


def test_kicked_person_can_be_banned(crew: Script) -> None:
    crew.run("alice", Kick, "bob")
    assert crew.run("bob", Join) == [Requested(key_of("bob"))]
    crew.run("alice", Ban, "bob")
    assert crew.refused("bob", Join) == Code.BANNED
    assert crew.refused("alice", Kick, "bob") == Code.NO_SUCH_MEMBER


def test_ban_changes_standing_to_outsider(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    assert "bob" in crew.group.kicked


def test_repeated_ban_is_idempotent(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    banned = crew.last
    crew.run("alice", Unban, "bob")
    assert crew.give(*banned) == []
    assert crew.group.banned == {}


# ------------------------------------------------------------------ unban


def test_unbanned_person_may_ask_and_be_approved(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    assert crew.run("alice", Unban, "BOB") == [Unbanned("bob")]
    assert crew.group.standing("bob") == "outsider"
    assert crew.run("bob", Join) == [Requested(key_of("bob"))]
    crew.run("alice", Approve, "bob")
    assert crew.members == ["alice", "carol", "bob"]
    assert (crew.group.banned, crew.group.kicked) == ({}, {})


def test_unban_does_not_revive_older_invites(crew: Script) -> None:
    crew.run("alice", Invite, digest_of(TOKEN), HOUR)
    crew.run("alice", Ban, "bob")
    crew.run("alice", Unban, "bob")
    assert crew.refused("bob", Join, TOKEN) == Code.BAD_INVITE
    crew.run("alice", Invite, digest_of(OTHER), HOUR)
    assert crew.run("bob", Join, OTHER) == [Joined("alice", digest_of(OTHER), key_of("bob"))]


@pytest.mark.parametrize("name", ["bob", "dave", "", "\x1b[2J" * 9_999])
def test_only_a_banned_person_can_be_unbanned(crew: Script, name: str) -> None:
    crew.run("alice", Kick, "bob")
    assert crew.refused("alice", Unban, name) == Code.NO_SUCH_BAN
    assert len(crew.sentence) < 120
    assert crew.sentence.isprintable()


def test_kicked_may_rejoin_open_group_but_not_banned(
    crew: Script,
) -> None:
    crew.run("alice", SetPolicy, "open")
    crew.run("alice", Kick, "bob")
    crew.run("alice", Ban, "carol")
    assert crew.run("bob", Join) == [Joined(key=key_of("bob"))]
    assert crew.group.kicked.keys() == {"carol"}
    assert crew.refused("carol", Join) == Code.BANNED


def test_invite_is_used_up_in_an_open_group(crew: Script) -> None:
    crew.run("alice", Invite, digest_of(TOKEN), HOUR)
    crew.run("alice", SetPolicy, "open")
    crew.run("dave", Join, TOKEN)
    assert crew.refused("erin", Join, TOKEN) == Code.BAD_INVITE
    assert crew.run("erin", Join) == [Joined(key=key_of("erin"))]


# ------------------------------------------------------------------ founding anew


def test_refounding_forgets_bans_and_settings(crew: Script) -> None:
    crew.run("alice", SetTopic, "What runs?")
    crew.run("alice", SetPolicy, "open")
    crew.run("alice", Ban, "bob")
    for name in ("carol", "alice"):
        crew.run(name, Leave)
    assert crew.run("bob", Join) == [Created(key_of("bob"))]
    group = crew.group
    assert (group.topic, group.policy, group.banned, group.kicked) == ("", "approval", {}, {})
    assert crew.run("dave", Join) == [Requested(key_of("dave"))]


@by_admin
def test_closed_group_refuses_every_admin_command(
    ops: Script, what: type[Command], about: tuple[str]
) -> None:
    ops.joined("alice")
    ops.run("alice", SetPolicy, "open")
    ops.run("alice", Leave)
    assert ops.refused("alice", what, *about) == Code.NOT_MEMBER
    assert ops.run("bob", Join) == [Created(key_of("bob"))]


def test_ban_and_settings_events_apply_to_any_state() -> None:
    for body in (
        Banned("x"),
        Unbanned("x"),
        PolicySet("open"),
        TopicSet("x"),
        Joined(),
        Banned(""),
    ):
        group = Group()
        apply(group, Event("ops", 7, NOON, "alice", CLIENT, 1, body))
        assert group.seq == 7


# ------------------------------------------------------------------ limits


class SmallGroup(Script):
    """A group of alice and bob, in which two people may be banned."""

    limits = GroupLimits(bans=2)

    def __init__(self) -> None:
        super().__init__("small")
        self.joined("alice", "bob")


@pytest.fixture
def small() -> SmallGroup:
    return SmallGroup()


def test_number_of_bans_is_limited(small: SmallGroup) -> None:
    for name in ("mallory", "eve"):
        small.run("alice", Ban, name)
    assert small.run("alice", Ban, "eve") == []
    assert small.refused("alice", Ban, "bob") == Code.GROUP_FULL
    small.run("alice", Unban, "eve")
    assert small.run("alice", Ban, "bob") == [Banned("bob")]

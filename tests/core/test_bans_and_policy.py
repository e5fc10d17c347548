"""Who is barred from a group, who may just come in, and what it is about, told as stories."""

from __future__ import annotations

import hashlib

import pytest

from tchat.core.group.feature import Command, Event, GroupLimits
from tchat.core.group.files import RemoveFile, Share
from tchat.core.group.membership import (
    Approve,
    Approved,
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
from tchat.core.group.settings import TOPIC_LIMIT, PolicySet, SetPolicy, SetTopic, TopicSet
from tchat.core.group.state import Author, Group
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
def test_only_the_admin_does_this(crew: Script, what: type[Command], about: tuple[str]) -> None:
    crew.run("dave", Join)
    assert crew.refused("bob", what, *about) == Code.NOT_ADMIN
    assert crew.refused("dave", what, *about) == Code.NOT_MEMBER
    assert crew.refused("erin", what, *about) == Code.NOT_MEMBER


# ------------------------------------------------------------------ banning


def test_a_member_who_is_banned_is_out(crew: Script) -> None:
    assert crew.run("alice", Ban, "bob") == [Banned("bob")]
    assert crew.members == ["alice", "carol"]
    assert crew.group.banned == {"bob": "bob"}
    assert crew.refused("bob", Post, "but why?") == Code.NOT_MEMBER
    assert crew.refused("bob", Leave) == Code.NOT_MEMBER


def test_one_who_asks_and_is_banned_asks_no_more(crew: Script) -> None:
    crew.run("Dave", Join)
    assert crew.run("alice", Ban, "DAVE") == [Banned("Dave")]
    assert crew.waiting == []
    assert crew.refused("alice", Approve, "dave") == Code.NO_SUCH_REQUEST
    assert crew.refused("alice", Deny, "dave") == Code.NO_SUCH_REQUEST


def test_somebody_who_was_never_here_can_be_banned(crew: Script) -> None:
    assert crew.run("alice", Ban, "Mallory") == [Banned("Mallory")]
    assert crew.group.banned == {"mallory": "Mallory"}
    assert crew.refused("mallory", Join) == Code.BANNED


def test_the_log_has_a_member_who_is_banned_as_he_writes_his_name(ops: Script) -> None:
    ops.joined("alice", "Straße")
    assert ops.run("alice", Ban, "STRASSE") == [Banned("Straße")]
    assert ops.refused("strasse", Join) == Code.BANNED


def test_to_ban_somebody_twice_changes_nothing(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    assert crew.run("alice", Ban, "BOB") == []


@pytest.mark.parametrize("spelling", ["alice", "ALICE", "ａｌｉｃｅ"])  # noqa: RUF001
def test_nobody_bans_oneself(crew: Script, spelling: str) -> None:
    assert crew.refused("alice", Ban, spelling) == Code.YOURSELF


def test_a_former_admin_can_be_banned_and_a_banned_one_not_be_admin(crew: Script) -> None:
    crew.run("alice", TransferAdmin, "bob")
    crew.run("bob", Ban, "alice")
    assert crew.refused("bob", TransferAdmin, "alice") == Code.NO_SUCH_MEMBER
    assert crew.refused("bob", Kick, "alice") == Code.NO_SUCH_MEMBER
    assert crew.group.admin_name == "bob"


def test_an_admin_who_leaves_is_not_followed_by_one_who_is_banned(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    crew.run("alice", Leave)
    assert crew.group.admin_name == "carol"


def test_whoever_is_banned_cannot_ask(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    assert crew.refused("bob", Join) == Code.BANNED
    assert crew.refused("BOB", Join) == Code.BANNED
    assert crew.waiting == []


def test_whoever_is_banned_uses_no_invite_older_or_newer(crew: Script) -> None:
    crew.run("alice", Invite, digest_of(TOKEN), HOUR)
    crew.run("alice", Ban, "bob")
    crew.run("alice", Invite, digest_of(OTHER), HOUR)
    assert crew.refused("bob", Join, TOKEN) == Code.BANNED
    assert crew.refused("bob", Join, OTHER) == Code.BANNED
    assert crew.run("dave", Join, TOKEN) != []


def test_nobody_who_is_banned_is_invited_by_name(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    assert crew.refused("alice", Invite, digest_of(TOKEN), HOUR, "BOB") == Code.BANNED
    assert crew.sentence == "BOB is banned, and an invite does not lift that."
    crew.run("alice", Unban, "bob")
    crew.run("alice", Invite, digest_of(TOKEN), HOUR, "BOB")
    assert crew.run("bob", Join, TOKEN) != []


def test_the_invites_of_one_who_is_banned_are_void(crew: Script) -> None:
    crew.run("alice", Invite, digest_of(TOKEN), HOUR)
    crew.run("alice", TransferAdmin, "bob")
    crew.run("bob", Ban, "alice")
    assert crew.refused("dave", Join, TOKEN) == Code.BAD_INVITE


def test_whoever_was_kicked_can_be_banned_too(crew: Script) -> None:
    crew.run("alice", Kick, "bob")
    assert crew.run("bob", Join) == [Requested(key_of("bob"))]
    crew.run("alice", Ban, "bob")
    assert crew.refused("bob", Join) == Code.BANNED
    assert crew.refused("alice", Kick, "bob") == Code.NO_SUCH_MEMBER


def test_whoever_is_banned_is_out_by_the_hand_of_the_admin(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    assert "bob" in crew.group.kicked


def test_a_ban_that_comes_again_is_done_once(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    banned = crew.last
    crew.run("alice", Unban, "bob")
    assert crew.give(*banned) == []
    assert crew.group.banned == {}


# ------------------------------------------------------------------ and taking it back


def test_whoever_is_not_banned_any_more_may_ask_and_be_let_in(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    assert crew.run("alice", Unban, "BOB") == [Unbanned("bob")]
    assert crew.group.standing("bob") == "outsider"
    assert crew.run("bob", Join) == [Requested(key_of("bob"))]
    crew.run("alice", Approve, "bob")
    assert crew.members == ["alice", "carol", "bob"]
    assert (crew.group.banned, crew.group.kicked) == ({}, {})


def test_a_ban_that_is_taken_back_makes_no_older_invite_good_again(crew: Script) -> None:
    crew.run("alice", Invite, digest_of(TOKEN), HOUR)
    crew.run("alice", Ban, "bob")
    crew.run("alice", Unban, "bob")
    assert crew.refused("bob", Join, TOKEN) == Code.BAD_INVITE
    crew.run("alice", Invite, digest_of(OTHER), HOUR)
    assert crew.run("bob", Join, OTHER) == [Joined("alice", digest_of(OTHER), key_of("bob"))]


@pytest.mark.parametrize("name", ["bob", "dave", "", "\x1b[2J" * 9_999])
def test_only_who_is_banned_can_be_unbanned(crew: Script, name: str) -> None:
    crew.run("alice", Kick, "bob")
    assert crew.refused("alice", Unban, name) == Code.NO_SUCH_BAN
    assert len(crew.sentence) < 120
    assert crew.sentence.isprintable()


# ------------------------------------------------------------------ who may join


def test_a_group_is_by_approval_until_its_admin_says_otherwise(crew: Script) -> None:
    policies = [crew.group.policy]
    for policy in ("open", "approval"):
        crew.run("alice", SetPolicy, policy)
        policies.append(crew.group.policy)
    assert policies == ["approval", "open", "approval"]


def test_everybody_is_in_an_open_group_at_once(crew: Script) -> None:
    assert crew.run("alice", SetPolicy, "open") == [PolicySet("open")]
    assert crew.run("dave", Join) == [Joined(key=key_of("dave"))]
    assert crew.members == ["alice", "bob", "carol", "dave"]
    assert crew.group.keys[key_of("dave")] == "dave"
    assert crew.run("dave", Join) == []


def test_whoever_was_kicked_from_an_open_group_may_come_back_and_who_was_banned_not(
    crew: Script,
) -> None:
    crew.run("alice", SetPolicy, "open")
    crew.run("alice", Kick, "bob")
    crew.run("alice", Ban, "carol")
    assert crew.run("bob", Join) == [Joined(key=key_of("bob"))]
    assert crew.group.kicked.keys() == {"carol"}
    assert crew.refused("carol", Join) == Code.BANNED


def test_a_group_that_opens_lets_in_who_waits_in_the_order_they_came(crew: Script) -> None:
    for name in ("zoe", "Dave"):
        crew.run(name, Join)
    assert crew.run("alice", SetPolicy, "open") == [
        PolicySet("open"),
        Approved("zoe"),
        Approved("Dave"),
    ]
    assert (crew.members[-2:], crew.waiting) == (["zoe", "Dave"], [])
    assert crew.group.keys[key_of("zoe")] == "zoe"
    assert crew.again() == []


def test_an_invite_is_used_up_in_an_open_group_too(crew: Script) -> None:
    crew.run("alice", Invite, digest_of(TOKEN), HOUR)
    crew.run("alice", SetPolicy, "open")
    crew.run("dave", Join, TOKEN)
    assert crew.refused("erin", Join, TOKEN) == Code.BAD_INVITE
    assert crew.run("erin", Join) == [Joined(key=key_of("erin"))]


def test_a_group_that_is_by_approval_again_keeps_who_is_in_and_lets_others_wait(
    crew: Script,
) -> None:
    crew.run("alice", SetPolicy, "open")
    crew.run("dave", Join)
    assert crew.run("alice", SetPolicy, "approval") == [PolicySet("approval")]
    assert crew.run("erin", Join) == [Requested(key_of("erin"))]
    assert crew.members[-1] == "dave"


@pytest.mark.parametrize("policy", ["open", "approval"])
def test_to_say_the_same_policy_again_changes_nothing(crew: Script, policy: str) -> None:
    crew.run("alice", SetPolicy, policy)
    crew.run("dave", Join)
    assert crew.run("alice", SetPolicy, policy) == []


# ------------------------------------------------------------------ what the group is about


def test_the_admin_says_what_the_group_is_about(crew: Script) -> None:
    assert crew.run("alice", SetTopic, "What runs?") == [TopicSet("What runs?")]
    assert crew.group.topic == "What runs?"
    assert crew.run("alice", SetTopic, "What runs?") == []
    assert crew.run("alice", SetTopic, "") == [TopicSet("")]
    assert crew.group.topic == ""


@pytest.mark.parametrize("letter", ["a", "漢", "👋"])
def test_a_topic_has_so_many_characters_and_not_one_more(crew: Script, letter: str) -> None:
    longest = letter * TOPIC_LIMIT
    assert crew.run("alice", SetTopic, longest) == [TopicSet(longest)]
    assert crew.refused("alice", SetTopic, longest + letter) == Code.TEXT_TOO_LONG


# ------------------------------------------------------------------ another life


def test_a_group_founded_anew_remembers_none_of_it(crew: Script) -> None:
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
def test_in_a_closed_group_there_is_nobody_who_could(
    ops: Script, what: type[Command], about: tuple[str]
) -> None:
    ops.joined("alice")
    ops.run("alice", SetPolicy, "open")
    ops.run("alice", Leave)
    assert ops.refused("alice", what, *about) == Code.NOT_MEMBER
    assert ops.run("bob", Join) == [Created(key_of("bob"))]


def test_bans_and_the_like_can_be_applied_to_any_state() -> None:
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
    """A group of alice and bob, with room for one more."""

    limits = GroupLimits(members=3, requests=5, bans=2, files=2)

    def __init__(self) -> None:
        super().__init__("small")
        self.joined("alice", "bob")


@pytest.fixture
def small() -> SmallGroup:
    return SmallGroup()


def test_a_group_has_no_more_files_than_it_may_have(small: SmallGroup) -> None:
    for name in ("alice", "bob"):
        small.run(name, Share, "plan.txt", 0, bytes(32))
    assert small.refused("alice", Share, "plan.txt", 0, bytes(32)) == Code.GROUP_FULL
    small.run("bob", RemoveFile, 2)
    small.run("alice", Share, "plan.txt", 0, bytes(32))


def test_an_open_group_lets_in_no_more_than_it_may_have(small: SmallGroup) -> None:
    small.run("alice", SetPolicy, "open")
    small.run("carol", Join)
    assert small.refused("dave", Join) == Code.GROUP_FULL
    assert small.waiting == []
    small.run("alice", Ban, "bob")
    assert small.run("dave", Join) == [Joined(key=key_of("dave"))]


def test_a_group_that_opens_lets_in_as_many_as_it_may_have(small: SmallGroup) -> None:
    for name in ("carol", "dave"):
        small.run(name, Join)
    assert small.run("alice", SetPolicy, "open") == [PolicySet("open"), Approved("carol")]
    assert small.waiting == ["dave"]
    assert small.refused("dave", Join) == Code.GROUP_FULL
    small.run("carol", Leave)
    assert small.run("dave", Join) == [Joined(key=key_of("dave"))]
    assert small.waiting == []


def test_a_group_that_is_larger_than_it_may_be_by_now_opens_all_the_same(
    small: SmallGroup,
) -> None:
    for name in ("carol", "dave"):
        small.run(name, Join)
    small.limits = GroupLimits(members=1)
    assert small.run("alice", SetPolicy, "open") == [PolicySet("open")]
    assert small.waiting == ["carol", "dave"]


def test_no_more_people_are_banned_than_may_be(small: SmallGroup) -> None:
    for name in ("mallory", "eve"):
        small.run("alice", Ban, name)
    assert small.run("alice", Ban, "eve") == []
    assert small.refused("alice", Ban, "bob") == Code.GROUP_FULL
    small.run("alice", Unban, "eve")
    assert small.run("alice", Ban, "bob") == [Banned("bob")]


def test_a_key_that_came_in_by_itself_is_known_by_its_latest_name(crew: Script) -> None:
    crew.run("alice", SetPolicy, "open")
    crew.give(Author("robert", CLIENT, key_of("bob")), Join(1, 1, "crew"))
    assert crew.group.keys[key_of("bob")] == "robert"

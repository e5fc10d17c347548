"""Invites, the keys that a group remembers, and the limits of its size."""

from __future__ import annotations

import hashlib

import pytest

from tchat.core.group.feature import Event, GroupLimits
from tchat.core.group.membership import (
    LONGEST_INVITE_MS,
    Approve,
    Approved,
    Created,
    Deny,
    Invite,
    Invited,
    Join,
    Joined,
    Kick,
    Leave,
    Requested,
    TransferAdmin,
)
from tchat.core.group.messages import Post
from tchat.core.group.rules import apply
from tchat.core.group.state import Author, Group
from tchat.errors import Code
from tests.core.script import NOON, Script, key_of

HOUR = 3_600_000
TOKEN = bytes(range(16))
OTHER = bytes(range(16, 32))
CLIENT = b"12345678"


def digest_of(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def invite(
    crew: Script, token: bytes = TOKEN, *, by: str = "alice", name: str | None = None
) -> None:
    """Give an invite that lasts an hour."""
    crew.run(by, Invite, digest_of(token), HOUR, name)


# ------------------------------------------------------------------ invite, and join by invite


def test_invite_is_logged_by_its_digest(crew: Script) -> None:
    given = crew.run("alice", Invite, digest_of(TOKEN), HOUR)
    assert given == [Invited(digest_of(TOKEN), NOON + HOUR)]
    assert all(TOKEN not in frame for frame in crew.log)


def test_only_the_admin_gives_invites(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.refused("bob", Invite, digest_of(TOKEN), HOUR) == Code.NOT_ADMIN
    assert crew.refused("dave", Invite, digest_of(TOKEN), HOUR) == Code.NOT_APPROVED
    assert crew.refused("erin", Invite, digest_of(TOKEN), HOUR) == Code.NOT_MEMBER


def test_invite_admits_at_once(crew: Script) -> None:
    invite(crew)
    assert crew.run("dave", Join, TOKEN) == [Joined("alice", digest_of(TOKEN), key_of("dave"))]
    assert crew.members == ["alice", "bob", "carol", "dave"]
    crew.run("dave", Post, "hello")


def test_invite_names_its_giver_as_written() -> None:
    crew = Script("crew")
    crew.joined("Alice")
    invite(crew, by="ALICE")
    assert crew.run("dave", Join, TOKEN) == [Joined("Alice", digest_of(TOKEN), key_of("dave"))]


def test_invite_is_used_once(crew: Script) -> None:
    invite(crew)
    crew.run("dave", Join, TOKEN)
    assert crew.refused("erin", Join, TOKEN) == Code.BAD_INVITE
    assert crew.group.invites == {}


def test_invite_ends_a_pending_request(crew: Script) -> None:
    crew.run("dave", Join)
    invite(crew)
    crew.run("dave", Join, TOKEN)
    assert (crew.members[-1], crew.waiting) == ("dave", [])
    assert crew.refused("alice", Approve, "dave") == Code.ALREADY_MEMBER


def test_member_does_not_use_up_an_invite(crew: Script) -> None:
    invite(crew)
    assert crew.run("bob", Join, TOKEN) == []
    assert crew.run("alice", Join, TOKEN) == []
    assert crew.run("dave", Join, TOKEN) != []


def test_repeated_join_by_invite_is_idempotent(crew: Script) -> None:
    invite(crew)
    crew.run("dave", Join, TOKEN)
    assert crew.again() == []
    used = crew.last
    crew.run("dave", Leave)
    assert crew.give(*used) == []


def test_repeated_invite_command_is_idempotent(crew: Script) -> None:
    invite(crew)
    given = crew.last
    crew.run("dave", Join, TOKEN)
    assert crew.give(*given) == []
    assert crew.group.invites == {}


# ------------------------------------------------------------------ invites that are refused


def test_unknown_token_is_refused(crew: Script) -> None:
    invite(crew)
    assert crew.refused("dave", Join, OTHER) == Code.BAD_INVITE


@pytest.mark.parametrize("token", [b"", TOKEN[:-1], TOKEN + b"\x00", digest_of(TOKEN)])
@pytest.mark.parametrize("who", ["bob", "dave"])
def test_token_must_have_16_bytes(crew: Script, token: bytes, who: str) -> None:
    crew.run("alice", Invite, digest_of(token), HOUR)
    assert crew.refused(who, Join, token) == Code.BAD_INVITE


@pytest.mark.parametrize("token", [TOKEN, b"short"])
def test_invite_founds_no_group(token: bytes) -> None:
    ops = Script("ops")
    assert ops.refused("alice", Join, token) == Code.BAD_INVITE
    ops.joined("alice")
    ops.run("alice", Leave)
    assert ops.refused("alice", Join, token) == Code.BAD_INVITE
    assert ops.group.members == {}


def test_invite_is_valid_until_it_expires(crew: Script) -> None:
    invite(crew)
    crew.now = NOON + HOUR
    assert crew.refused("dave", Join, TOKEN) == Code.BAD_INVITE
    assert "expired" in crew.sentence
    crew.now = NOON + HOUR - 1
    assert crew.run("dave", Join, TOKEN) != []


def test_expired_invite_stays_expired_despite_clock(crew: Script) -> None:
    invite(crew)
    crew.now = NOON + HOUR
    crew.run("bob", Post, "late")
    crew.now = NOON
    assert crew.refused("dave", Join, TOKEN) == Code.BAD_INVITE


def test_invite_expiry_counts_from_group_time(crew: Script) -> None:
    crew.now = NOON + HOUR
    crew.run("bob", Post, "late")
    crew.now = NOON
    assert crew.run("alice", Invite, digest_of(TOKEN), 1) == [
        Invited(digest_of(TOKEN), NOON + HOUR + 1)
    ]


def test_named_invite_is_for_nobody_else(crew: Script) -> None:
    invite(crew, name="dave")
    assert crew.refused("erin", Join, TOKEN) == Code.BAD_INVITE
    assert "somebody else" in crew.sentence
    assert crew.run("dave", Join, TOKEN) != []


@pytest.mark.parametrize(("name", "who"), [("Dave", "DAVE"), ("STRASSE", "Straße")])
def test_named_invite_matches_any_spelling(crew: Script, name: str, who: str) -> None:
    invite(crew, name=name)
    crew.run(who, Join, TOKEN)
    assert crew.members[-1] == who


@pytest.mark.parametrize("lasts", [0, LONGEST_INVITE_MS + 1])
def test_invite_duration_out_of_range_is_refused(crew: Script, lasts: int) -> None:
    assert crew.refused("alice", Invite, digest_of(TOKEN), lasts) == Code.BAD_INVITE


@pytest.mark.parametrize("lasts", [1, LONGEST_INVITE_MS])
def test_shortest_and_longest_invite_are_accepted(crew: Script, lasts: int) -> None:
    crew.run("alice", Invite, digest_of(TOKEN), lasts)
    crew.now = NOON + lasts - 1
    assert crew.run("dave", Join, TOKEN) != []


@pytest.mark.parametrize("digest", [b"", TOKEN, bytes(33)])
def test_invite_digest_has_32_bytes(crew: Script, digest: bytes) -> None:
    assert crew.refused("alice", Invite, digest, HOUR) == Code.BAD_INVITE


# ------------------------------------------------------------------ standing of the giver


def test_kick_voids_invites_of_the_kicked(crew: Script) -> None:
    invite(crew)
    crew.run("alice", TransferAdmin, "bob")
    crew.run("bob", Kick, "alice")
    assert crew.refused("dave", Join, TOKEN) == Code.BAD_INVITE


def test_leaving_voids_own_invites_permanently(crew: Script) -> None:
    invite(crew)
    crew.run("alice", Leave)
    assert crew.refused("dave", Join, TOKEN) == Code.BAD_INVITE
    crew.run("alice", Join)
    crew.run("bob", Approve, "alice")
    assert crew.refused("dave", Join, TOKEN) == Code.BAD_INVITE


def test_leaving_keeps_the_invites_of_others(crew: Script) -> None:
    invite(crew)
    crew.run("alice", TransferAdmin, "bob")
    invite(crew, OTHER, by="bob")
    crew.run("alice", Leave)
    assert crew.run("dave", Join, OTHER) == [Joined("bob", digest_of(OTHER), key_of("dave"))]


def test_invite_outlives_its_givers_admin_role(crew: Script) -> None:
    invite(crew)
    crew.run("alice", TransferAdmin, "bob")
    assert crew.run("dave", Join, TOKEN) == [Joined("alice", digest_of(TOKEN), key_of("dave"))]


def test_kicked_person_can_only_use_newer_invites(crew: Script) -> None:
    invite(crew)
    crew.run("alice", Kick, "bob")
    assert crew.refused("bob", Join, TOKEN) == Code.BAD_INVITE
    assert crew.refused("BOB", Join, TOKEN) == Code.BAD_INVITE
    assert "kicked" in crew.sentence
    invite(crew, OTHER)
    crew.run("bob", Join, OTHER)
    assert (crew.members[-1], crew.group.kicked) == ("bob", {})


def test_invites_end_with_the_group(crew: Script) -> None:
    invite(crew)
    for name in ("bob", "carol", "alice"):
        crew.run(name, Leave)
    assert crew.refused("dave", Join, TOKEN) == Code.BAD_INVITE
    crew.run("alice", Join)
    assert crew.refused("dave", Join, TOKEN) == Code.BAD_INVITE


def test_founding_clears_all_invites() -> None:
    group = Group()
    for seq, body in enumerate((Created(), Invited(digest_of(TOKEN), NOON + HOUR), Created()), 1):
        apply(group, Event("ops", seq, NOON, "alice", CLIENT, seq, body))
    assert group.invites == {}


# ------------------------------------------------------------------ keys


def test_keys_of_founder_and_admitted_are_known(crew: Script) -> None:
    invite(crew)
    crew.run("Dave", Join, TOKEN)
    people = ("alice", "bob", "carol", "Dave")
    assert crew.group.keys == {key_of(person): person for person in people}


def test_keys_of_requesters_are_not_known(crew: Script) -> None:
    crew.run("dave", Join)
    crew.run("erin", Join)
    crew.run("alice", Deny, "dave")
    crew.run("erin", Leave)
    assert not {key_of("dave"), key_of("erin")} & crew.group.keys.keys()


def test_keys_of_former_members_are_remembered(crew: Script) -> None:
    crew.run("alice", Kick, "bob")
    crew.run("carol", Leave)
    assert crew.group.keys[key_of("bob")] == "bob"
    assert crew.group.keys[key_of("carol")] == "carol"


def test_key_has_its_latest_members_name(crew: Script) -> None:
    crew.run("bob", Leave)
    renamed = Author("robert", CLIENT, key_of("bob"))
    crew.give(renamed, Join(1, 1, "crew"))
    assert crew.group.keys[key_of("bob")] == "bob"
    crew.run("alice", Approve, "robert")
    assert crew.group.keys[key_of("bob")] == "robert"


def test_refounding_forgets_the_keys(crew: Script) -> None:
    for name in ("alice", "bob", "carol"):
        crew.run(name, Leave)
    crew.run("dave", Join)
    assert crew.group.keys == {key_of("dave"): "dave"}


def test_events_without_keys_still_apply() -> None:
    group = Group()
    bodies = [("alice", Created()), ("bob", Requested()), ("alice", Approved("bob"))]
    for seq, (actor, body) in enumerate(bodies, start=1):
        apply(group, Event("ops", seq, NOON, actor, CLIENT, seq, body))
    assert list(group.members.values()) == ["alice", "bob"]
    assert group.keys == {}


# ------------------------------------------------------------------ limits


class SmallGroup(Script):
    """A group of which alice and bob are members, with room for little more."""

    limits = GroupLimits(members=3, requests=2, invites=2)

    def __init__(self) -> None:
        super().__init__("small")
        self.joined("alice", "bob")


@pytest.fixture
def small() -> SmallGroup:
    return SmallGroup()


def test_approvals_stop_at_the_member_limit(small: SmallGroup) -> None:
    for name in ("carol", "dave"):
        small.run(name, Join)
    small.run("alice", Approve, "carol")
    assert small.refused("alice", Approve, "dave") == Code.GROUP_FULL
    small.run("bob", Leave)
    small.run("alice", Approve, "dave")
    assert small.members == ["alice", "carol", "dave"]


def test_full_group_keeps_an_invite_for_later(small: SmallGroup) -> None:
    for token in (TOKEN, OTHER):
        invite(small, token)
    small.run("carol", Join, TOKEN)
    assert small.refused("dave", Join, OTHER) == Code.GROUP_FULL
    small.run("bob", Leave)
    assert small.run("dave", Join, OTHER) != []


def test_join_by_member_of_full_group_succeeds(small: SmallGroup) -> None:
    for token in (TOKEN, OTHER):
        invite(small, token)
    small.run("carol", Join, TOKEN)
    assert small.run("carol", Join, OTHER) == []
    assert small.run("bob", Join) == []


def test_number_of_requests_is_limited(small: SmallGroup) -> None:
    for name in ("carol", "dave"):
        small.run(name, Join)
    assert small.refused("erin", Join) == Code.GROUP_FULL
    assert small.run("dave", Join) == []
    small.run("alice", Deny, "carol")
    assert small.run("erin", Join) == [Requested(key_of("erin"))]


def test_invite_works_despite_too_many_requests(small: SmallGroup) -> None:
    for name in ("carol", "dave"):
        small.run(name, Join)
    invite(small)
    assert small.run("erin", Join, TOKEN) != []


def test_number_of_open_invites_is_limited(small: SmallGroup) -> None:
    for token in (TOKEN, OTHER):
        invite(small, token)
    third = digest_of(b"third")
    assert small.refused("alice", Invite, third, HOUR) == Code.GROUP_FULL
    small.run("carol", Join, TOKEN)
    assert small.run("alice", Invite, third, HOUR) != []


def test_expired_invites_do_not_count(small: SmallGroup) -> None:
    for token in (TOKEN, OTHER):
        invite(small, token)
    small.now = NOON + HOUR
    small.run("alice", Invite, digest_of(b"third"), HOUR)
    small.now = NOON + HOUR + 1
    small.run("alice", Invite, digest_of(b"fourth"), HOUR)
    assert list(small.group.invites) == [digest_of(b"third"), digest_of(b"fourth")]


def test_repeated_command_is_recognised_in_full_group(small: SmallGroup) -> None:
    for name in ("carol", "dave"):
        small.run(name, Join)
    assert small.again() == []
    small.run("alice", Approve, "carol")
    assert small.again() == []

"""Bans hold for the keys of the banned person, whatever name comes with them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.compaction import KEYS_OF_A_BAN
from tchat.core.group.membership import (
    Approve,
    Ban,
    Banned,
    Denied,
    Invite,
    Join,
    Joined,
    Kick,
    Leave,
    Requested,
    Unban,
)
from tchat.core.group.rules import apply
from tchat.core.group.settings import PolicySet, SetPolicy
from tchat.core.group.snapshots import freeze_whole, thaw_whole
from tchat.errors import Code, Refused
from tests.core.script import Script, key_of

if TYPE_CHECKING:
    from tchat.core.group.feature import Body

TOKEN = bytes(16)
DIGEST = hashlib.sha256(TOKEN).digest()


def join_as(script: Script, who: str, key: bytes, *about: object) -> list[Body]:
    """Ask to join under a name, with a key that may be another person's."""
    author, command = script.asked(who, Join, *about)
    return [event.body for event in script.give(replace(author, key=key), command)]


def refused_as(script: Script, who: str, key: bytes, *about: object) -> str:
    """Return the sentence with which a join is refused because of a ban."""
    with pytest.raises(Refused) as caught:
        join_as(script, who, key, *about)
    assert caught.value.code == Code.BANNED
    return caught.value.sentence


def test_ban_refuses_the_key_under_other_names(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    assert refused_as(crew, "robert", key_of("bob")) == (
        "You have the key of bob, who was banned from this group; only its admin can lift the ban."
    )
    assert "You were banned" in refused_as(crew, "bob", key_of("another"))
    assert join_as(crew, "robert", key_of("robert")) == [Requested(key_of("robert"))]


def test_banned_key_cannot_use_invite_or_policy(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    crew.run("alice", Invite, DIGEST, 1000)
    refused_as(crew, "robert", key_of("bob"), TOKEN)
    crew.run("alice", SetPolicy, "open")
    refused_as(crew, "robert", key_of("bob"))
    assert join_as(crew, "carl", key_of("carl"), TOKEN) == [Joined("alice", DIGEST, key_of("carl"))]


def test_lifting_the_ban_frees_the_key(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    crew.run("alice", Unban, "bob")
    assert join_as(crew, "robert", key_of("bob")) == [Requested(key_of("bob"))]
    assert crew.group.banned_keys == {}


def test_kick_bans_no_key(crew: Script) -> None:
    crew.run("alice", Kick, "bob")
    assert join_as(crew, "robert", key_of("bob")) == [Requested(key_of("bob"))]


def test_keys_of_earlier_memberships_are_banned(crew: Script) -> None:
    crew.run("bob", Leave)
    join_as(crew, "bob", key_of("laptop"))
    crew.run("alice", Approve, "bob")
    crew.run("alice", Ban, "bob")
    for key in (key_of("bob"), key_of("laptop")):
        refused_as(crew, "robert", key)


def test_key_of_a_pending_request_is_banned(crew: Script) -> None:
    join_as(crew, "mallory", key_of("phone"))
    crew.run("alice", Ban, "mallory")
    refused_as(crew, "eve", key_of("phone"))


def test_key_of_two_members_is_banned_with_either(crew: Script) -> None:
    """The group keeps one name for each key, but the key of each member."""
    join_as(crew, "robert", key_of("bob"))
    crew.run("alice", Approve, "robert")
    crew.run("alice", Ban, "bob")
    assert "robert" in crew.members
    crew.run("robert", Leave)
    refused_as(crew, "rob", key_of("bob"))
    crew.run("alice", Ban, "robert")
    crew.run("alice", Unban, "bob")
    assert "key of robert" in refused_as(crew, "rob", key_of("bob"))


def test_key_of_the_admin_is_never_banned(crew: Script) -> None:
    """A bot may use the admin's key under another name."""
    join_as(crew, "alicebot", key_of("alice"))
    crew.run("alice", Approve, "alicebot")
    crew.run("alice", Ban, "alicebot")
    assert crew.group.banned_keys == {"alicebot": ()}


def test_ban_denies_requests_with_the_same_key(crew: Script) -> None:
    join_as(crew, "robert", key_of("bob"))
    crew.run("dave", Join)
    assert crew.run("alice", Ban, "bob") == [Banned("bob"), Denied("robert")]
    assert crew.waiting == ["dave"]


def test_request_with_a_banned_key_is_not_approved(crew: Script) -> None:
    """Such a request can only be from before bans held for keys."""
    join_as(crew, "robert", key_of("bob"))
    [banned, _] = crew.decided(*crew.asked("alice", Ban, "bob"))
    apply(crew.group, banned)
    assert crew.refused("alice", Approve, "robert") == Code.BANNED
    assert crew.sentence == "robert has the key of bob, who is banned; lift the ban first."
    assert crew.run("alice", SetPolicy, "open") == [PolicySet("open")]


def test_banned_keys_survive_a_restart(crew: Script) -> None:
    crew.run("alice", Ban, "bob")
    crew.group = thaw_whole(freeze_whole(crew.group), crew.group.seq)
    refused_as(crew, "robert", key_of("bob"))
    assert crew.replayed() == crew.group


def test_ban_holds_for_a_limited_number_of_keys(crew: Script) -> None:
    crew.run("alice", SetPolicy, "open")
    for number in range(KEYS_OF_A_BAN + 1):
        crew.run("bob", Leave)
        join_as(crew, "bob", key_of(f"key {number}"))
    crew.run("alice", Ban, "bob")
    assert len(crew.group.banned_keys["bob"]) == KEYS_OF_A_BAN
    refused_as(crew, "robert", key_of(f"key {KEYS_OF_A_BAN}"))
    assert join_as(crew, "robert", key_of("bob")) != []

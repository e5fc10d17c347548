"""Notices: welcome, changes of membership, digest of missed messages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tchat.client.replica import Replica
from tchat.core.group.feature import Event
from tchat.core.group.files import FileShared
from tchat.core.group.membership import Approved, Created, Joined, Left, Requested
from tchat.core.group.messages import Posted
from tchat.core.protocol.frames import Attached, MembershipChange
from tchat.ui.chat.notices import digest, standing_changed, standing_found, welcome

if TYPE_CHECKING:
    from tchat.core.group.feature import Body
    from tchat.core.protocol.frames import Standing


def replica_of(*story: tuple[str, Body]) -> Replica:
    """Return the replica of a member, after these events of (actor, body)."""
    replica = Replica("ops")
    replica.apply_attached(Attached(1, "ops", "member", len(story)))
    for seq, (actor, body) in enumerate(story, start=1):
        replica.apply_event(Event("ops", seq, 1000, actor, b"12345678", seq, body))
    return replica


ALONE: list[tuple[str, Body]] = [("alice", Created())]
TWO: list[tuple[str, Body]] = [*ALONE, ("bob", Requested()), ("alice", Approved("bob"))]
ASKED: list[tuple[str, Body]] = [*TWO, ("carol", Requested())]


@pytest.mark.parametrize(
    ("story", "me", "others"),
    [
        (ALONE, "alice", "; nobody else is here yet."),
        (TWO, "alice", " with 1 other member."),
        (ASKED, "ALICE", " with 1 other member. 1 person asks to join: /requests lists them."),
        (ASKED, "bob", " with 1 other member."),
    ],
)
def test_a_welcome_says_who_is_there(story: list[tuple[str, Body]], me: str, others: str) -> None:
    greeting = f"You are in #ops{others} /help lists the commands."
    assert welcome(replica_of(*story), me) == greeting


@pytest.mark.parametrize(
    ("answer", "before", "sentence"),
    [
        (Attached(1, "ops", "member"), None, ""),
        (Attached(1, "ops", "member"), "waiting", ""),
        (
            Attached(1, "ops", "waiting", admin="alice"),
            None,
            "Waiting for alice to approve you. /leave withdraws your request.",
        ),
        (
            Attached(1, "ops", "waiting"),
            None,
            "Waiting for the admin to approve you. /leave withdraws your request.",
        ),
        (
            Attached(1, "ops", "outsider", kicked=True),
            "member",
            "You were kicked from this group. /join asks to join again.",
        ),
        (
            Attached(1, "ops", "outsider"),
            "waiting",
            "Your request was not approved. /join asks again, /part closes this window.",
        ),
        (
            Attached(1, "ops", "outsider"),
            "member",
            "You are no longer a member. /join asks to join again, /part closes this window.",
        ),
        (Attached(1, "ops", "outsider"), None, ""),
    ],
)
def test_standing_after_attach_reads_as_a_sentence(
    answer: Attached, before: Standing | None, sentence: str
) -> None:
    replica = Replica("ops")
    replica.apply_attached(answer)
    assert standing_found(replica, before) == sentence


@pytest.mark.parametrize(
    ("news", "sentence"),
    [
        (MembershipChange("ops", "outsider", "denied", "alice"), "alice denied your request."),
        (
            MembershipChange("ops", "outsider", "kicked", "alice"),
            "alice kicked you from this group.",
        ),
        (
            MembershipChange("ops", "outsider", "left", "bob"),
            "You left this group from another terminal.",
        ),
        (
            MembershipChange("ops", "outsider", "closed", "alice"),
            "The last member, alice, left; the group was closed.",
        ),
    ],
)
def test_a_membership_change_reads_as_a_sentence(news: MembershipChange, sentence: str) -> None:
    step = "/join asks to join again, /part closes this window."
    assert standing_changed(news, on_purpose=False) == f"{sentence} {step}"


NINE = int(time.mktime((2026, 11, 24, 18, 4, 0, 0, 0, -1))) * 1000


@pytest.mark.parametrize(
    ("missed", "direct", "summary"),
    [
        ([Posted("hi")], False, "1 message"),
        ([Posted("hi")] * 143, False, "143 messages"),
        ([Posted("hi"), Posted("bob?"), Posted("Bob!")], False, "3 messages, 2 mention you"),
        ([Posted("bob?")], False, "1 message, 1 mentions you"),
        ([Posted("bob?")], True, "1 message"),
        ([Posted("a"), FileShared(1, "f", 1, b"")], False, "1 message, 1 file"),
        ([FileShared(1, "f", 1, b"")] * 2, False, "2 files"),
        ([Joined(), Posted("a")], False, "1 message"),
    ],
)
def test_the_digest_counts_missed_messages(missed: list[Body], direct: bool, summary: str) -> None:
    events = [Event("ops", n, NINE, "alice", bytes(8), 1, body) for n, body in enumerate(missed)]
    assert digest(events, "bob", direct=direct) == f"since Tue 18:04: {summary}"


@pytest.mark.parametrize("missed", [[], [Joined(), Left()]])
def test_without_messages_there_is_no_digest(missed: list[Body]) -> None:
    events = [Event("ops", n, NINE, "alice", bytes(8), 1, body) for n, body in enumerate(missed)]
    assert digest(events, "bob", direct=False) is None


def test_leaving_on_purpose_shows_no_notice() -> None:
    left = MembershipChange("ops", "outsider", "left", "bob")
    assert standing_changed(left, on_purpose=True) == ""


def test_a_ban_does_not_suggest_join() -> None:
    banned = MembershipChange("ops", "outsider", "banned", "alice")
    sentence = "alice banned you from this group. Only its admin can lift the ban."
    assert standing_changed(banned, on_purpose=False) == sentence

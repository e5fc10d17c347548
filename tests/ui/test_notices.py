"""Notices: welcome, changes of membership, digest of missed messages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import pytest

from tchat.client.replica import Replica
from tchat.core.group.feature import Event
from tchat.core.group.membership import Approved, Created, Requested
from tchat.core.group.state import OPERATOR
from tchat.core.protocol.frames import Attached, MembershipChange
from tchat.ui.chat.notices import digest, standing_changed, standing_found, welcome
from tchat.ui.chat.unread import Counts

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
    ("story", "asking", "others"),
    [
        (ALONE, 0, "; nobody else is here yet."),
        (TWO, 0, " with 1 other member."),
        (ASKED, 1, " with 1 other member. 1 person asks to join: /requests lists them."),
        (ASKED, 12, " with 1 other member. 12 people ask to join: /requests lists them."),
    ],
)
def test_a_welcome_says_who_is_there(
    story: list[tuple[str, Body]], asking: int, others: str
) -> None:
    greeting = f"You are in #ops{others} /help lists the commands."
    assert welcome(replica_of(*story), asking) == greeting


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
            Attached(1, "ops", "outsider", kicked=True, banned=True),
            "member",
            "You were banned from this group; only its admin can lift the ban.",
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
        (
            MembershipChange("ops", "outsider", "kicked", "alice"),
            "alice kicked you from this group.",
        ),
        (
            MembershipChange("ops", "outsider", "left", "bob"),
            "You left this group from another terminal.",
        ),
    ],
)
def test_a_membership_change_reads_as_a_sentence(news: MembershipChange, sentence: str) -> None:
    step = "/join asks to join again, /part closes this window."
    assert standing_changed(news, "bob", on_purpose=False) == f"{sentence} {step}"


def test_a_denial_says_when_to_ask_again() -> None:
    news = MembershipChange("ops", "outsider", "denied", "alice")
    assert standing_changed(news, "bob", on_purpose=False) == (
        "alice denied your request. You can ask again in an hour with /join; an invite lets you in"
        " before. /part closes this window."
    )


NINE = int(time.mktime((2026, 11, 24, 18, 4, 0, 0, 0, -1))) * 1000


@pytest.mark.parametrize(
    ("counts", "direct", "summary"),
    [
        (Counts(1, 0, 0, NINE), False, "1 message"),
        (Counts(143, 0, 0, NINE), False, "143 messages"),
        (Counts(3, 2, 0, NINE), False, "3 messages, 2 mentions of you"),
        (Counts(1, 1, 0, NINE), False, "1 message, 1 mention of you"),
        (Counts(1, 1, 0, NINE), True, "1 message"),
        (Counts(1, 0, 1, NINE), False, "1 message, 1 file"),
        (Counts(0, 0, 2, NINE), False, "2 files"),
    ],
)
def test_the_digest_says_what_was_missed(counts: Counts, direct: bool, summary: str) -> None:
    assert digest(counts, direct=direct) == f"since Tue 18:04: {summary}"


@pytest.mark.parametrize("reason", ["left", "closed"])
def test_leaving_on_purpose_shows_no_notice(reason: Literal["left", "closed"]) -> None:
    left = MembershipChange("ops", "outsider", reason, "bob")
    assert standing_changed(left, "bob", on_purpose=True) == ""


def test_group_closed_by_the_operator_says_so() -> None:
    news = MembershipChange("ops", "outsider", "closed", OPERATOR)
    assert standing_changed(news, "bob", on_purpose=False).startswith(
        "The server's operator closed"
    )


@pytest.mark.parametrize(
    ("by", "who"),
    [("alice", "alice left,"), ("Bob", "You left from another terminal; you were")],
)
def test_closed_group_can_only_be_founded_again(by: str, who: str) -> None:
    sentence = standing_changed(
        MembershipChange("ops", "outsider", "closed", by), "bob", on_purpose=False
    )
    assert sentence == (
        f"{who} the last member, so the group was closed and its messages are deleted."
        " /join founds it again, /part closes this window."
    )


def test_a_ban_does_not_suggest_join() -> None:
    banned = MembershipChange("ops", "outsider", "banned", "alice")
    sentence = "alice banned you from this group; only its admin can lift the ban."
    assert standing_changed(banned, "bob", on_purpose=False) == sentence


def test_a_lifted_ban_suggests_join() -> None:
    unbanned = MembershipChange("ops", "outsider", "unbanned", "alice")
    sentence = "alice lifted your ban. /join asks to join again."
    assert standing_changed(unbanned, "bob", on_purpose=False) == sentence

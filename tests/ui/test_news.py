"""What people are told about where they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.client.replica import Replica
from tchat.core.events import Approved, Created, Event, Requested
from tchat.core.frames import Attached, Membership
from tchat.ui.news import standing_changed, standing_found, welcome

if TYPE_CHECKING:
    from tchat.core.events import Body
    from tchat.core.frames import Standing


def replica_of(*story: tuple[str, Body]) -> Replica:
    """Return a group that one of its members follows."""
    replica = Replica("ops")
    replica.attached(Attached(1, "ops", "member", len(story)))
    for seq, (actor, body) in enumerate(story, start=1):
        replica.take(Event("ops", seq, 1000, actor, b"12345678", seq, body))
    return replica


ALONE: list[tuple[str, Body]] = [("alice", Created())]
TWO: list[tuple[str, Body]] = [*ALONE, ("bob", Requested()), ("alice", Approved("bob"))]
ASKED: list[tuple[str, Body]] = [*TWO, ("carol", Requested())]


@pytest.mark.parametrize(
    ("story", "me", "others"),
    [
        (ALONE, "alice", "you alone"),
        (TWO, "alice", "2 members"),
        (ASKED, "ALICE", "2 members; 1 waiting for approval, /1 lists them"),
        (ASKED, "bob", "2 members"),
    ],
)
def test_a_welcome_says_who_is_there(story: list[tuple[str, Body]], me: str, others: str) -> None:
    assert welcome(replica_of(*story), me) == f"in ops with {others}; /help lists the commands"


@pytest.mark.parametrize(
    ("answer", "before", "sentence"),
    [
        (Attached(1, "ops", "member"), None, ""),
        (Attached(1, "ops", "member"), "waiting", ""),
        (
            Attached(1, "ops", "waiting", admin="alice"),
            None,
            "waiting for alice to approve you; /3 leaves",
        ),
        (Attached(1, "ops", "waiting"), None, "waiting for the admin to approve you; /3 leaves"),
        (
            Attached(1, "ops", "outsider", kicked=True),
            "member",
            "you were kicked from this group; /join asks to come back",
        ),
        (
            Attached(1, "ops", "outsider"),
            "waiting",
            "your request was not approved; /join asks again, /3 leaves",
        ),
        (
            Attached(1, "ops", "outsider"),
            "member",
            "you are not a member any more; /join asks to be one, /3 leaves",
        ),
        (Attached(1, "ops", "outsider"), None, ""),
    ],
)
def test_what_was_found_on_attaching_reads_as_a_sentence(
    answer: Attached, before: Standing | None, sentence: str
) -> None:
    replica = Replica("ops")
    replica.attached(answer)
    assert standing_found(replica, before) == sentence


@pytest.mark.parametrize(
    ("news", "sentence"),
    [
        (Membership("ops", "outsider", "denied", "alice"), "alice denied your request"),
        (Membership("ops", "outsider", "kicked", "alice"), "alice kicked you out of the group"),
        (Membership("ops", "outsider", "left", "bob"), "you left the group from another terminal"),
        (
            Membership("ops", "outsider", "closed", "alice"),
            "alice, the last member, left, and the group is closed",
        ),
    ],
)
def test_what_somebody_did_to_ones_standing_reads_as_a_sentence(
    news: Membership, sentence: str
) -> None:
    assert standing_changed(news, on_purpose=False) == f"{sentence}; /join asks again, /3 leaves"


def test_one_who_left_on_purpose_is_not_told_how_to_come_back() -> None:
    left = Membership("ops", "outsider", "left", "bob")
    assert standing_changed(left, on_purpose=True) == "you left the group"

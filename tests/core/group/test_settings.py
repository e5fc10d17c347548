"""Settings of a group: its topic, and its join policy."""

from __future__ import annotations

import pytest

from tchat.core.group.feature import GroupLimits
from tchat.core.group.membership import (
    Approved,
    Ban,
    Join,
    Joined,
    Leave,
    Requested,
)
from tchat.core.group.settings import TOPIC_LIMIT, PolicySet, SetPolicy, SetTopic, TopicSet
from tchat.core.group.state import Author
from tchat.errors import Code
from tests.core.script import Script, key_of

CLIENT = b"12345678"


class SmallGroup(Script):
    """A group of alice and bob, with room for one more member."""

    limits = GroupLimits(members=3)

    def __init__(self) -> None:
        super().__init__("small")
        self.joined("alice", "bob")


@pytest.fixture
def small() -> SmallGroup:
    return SmallGroup()


def test_join_policy_is_approval_by_default(crew: Script) -> None:
    policies = [crew.group.policy]
    for policy in ("open", "approval"):
        crew.run("alice", SetPolicy, policy)
        policies.append(crew.group.policy)
    assert policies == ["approval", "open", "approval"]


def test_open_group_admits_at_once(crew: Script) -> None:
    assert crew.run("alice", SetPolicy, "open") == [PolicySet("open")]
    assert crew.run("dave", Join) == [Joined(key=key_of("dave"))]
    assert crew.members == ["alice", "bob", "carol", "dave"]
    assert crew.group.keys[key_of("dave")] == "dave"
    assert crew.run("dave", Join) == []


def test_opening_admits_pending_requests_in_order(crew: Script) -> None:
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


def test_closing_an_open_group_keeps_its_members(
    crew: Script,
) -> None:
    crew.run("alice", SetPolicy, "open")
    crew.run("dave", Join)
    assert crew.run("alice", SetPolicy, "approval") == [PolicySet("approval")]
    assert crew.run("erin", Join) == [Requested(key_of("erin"))]
    assert crew.members[-1] == "dave"


@pytest.mark.parametrize("policy", ["open", "approval"])
def test_same_policy_again_changes_nothing(crew: Script, policy: str) -> None:
    crew.run("alice", SetPolicy, policy)
    crew.run("dave", Join)
    assert crew.run("alice", SetPolicy, policy) == []


def test_admin_sets_and_removes_the_topic(crew: Script) -> None:
    assert crew.run("alice", SetTopic, "What runs?") == [TopicSet("What runs?")]
    assert crew.group.topic == "What runs?"
    assert crew.run("alice", SetTopic, "What runs?") == []
    assert crew.run("alice", SetTopic, "") == [TopicSet("")]
    assert crew.group.topic == ""


@pytest.mark.parametrize("letter", ["a", "漢", "👋"])
def test_topic_length_is_limited(crew: Script, letter: str) -> None:
    longest = letter * TOPIC_LIMIT
    assert crew.run("alice", SetTopic, longest) == [TopicSet(longest)]
    assert crew.refused("alice", SetTopic, longest + letter) == Code.TEXT_TOO_LONG


def test_open_group_admits_only_up_to_its_limit(small: SmallGroup) -> None:
    small.run("alice", SetPolicy, "open")
    small.run("carol", Join)
    assert small.refused("dave", Join) == Code.GROUP_FULL
    assert small.waiting == []
    small.run("alice", Ban, "bob")
    assert small.run("dave", Join) == [Joined(key=key_of("dave"))]


def test_opening_admits_only_up_to_the_limit(small: SmallGroup) -> None:
    for name in ("carol", "dave"):
        small.run(name, Join)
    assert small.run("alice", SetPolicy, "open") == [PolicySet("open"), Approved("carol")]
    assert small.waiting == ["dave"]
    assert small.refused("dave", Join) == Code.GROUP_FULL
    small.run("carol", Leave)
    assert small.run("dave", Join) == [Joined(key=key_of("dave"))]
    assert small.waiting == []


def test_group_above_its_limit_can_still_open(
    small: SmallGroup,
) -> None:
    for name in ("carol", "dave"):
        small.run(name, Join)
    small.limits = GroupLimits(members=1)
    assert small.run("alice", SetPolicy, "open") == [PolicySet("open")]
    assert small.waiting == ["carol", "dave"]


def test_open_join_updates_the_name_of_a_key(crew: Script) -> None:
    crew.run("alice", SetPolicy, "open")
    crew.give(Author("robert", CLIENT, key_of("bob")), Join(1, 1, "crew"))
    assert crew.group.keys[key_of("bob")] == "robert"

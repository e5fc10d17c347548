"""Pin: the admin pins a message, which every member sees until it is unpinned or deleted."""

from __future__ import annotations

import pytest

from tchat.core.group.membership import Join, Leave
from tchat.core.group.messages import Delete, Edit, Pin, Pinned, Post, Unpin, Unpinned
from tchat.core.group.settings import SetTopic
from tchat.errors import Code
from tests.core.script import Script


def posted(crew: Script, who: str = "bob", text: str = "read this") -> int:
    """Post a message; return its seq."""
    [event] = crew.events(who, Post, text)
    return event.seq


def test_admin_pins_and_unpins_a_message(crew: Script) -> None:
    message = posted(crew)
    assert crew.run("alice", Pin, message) == [Pinned(message)]
    assert crew.group.pinned == message
    assert crew.run("alice", Unpin) == [Unpinned()]
    assert crew.group.pinned is None


def test_another_pin_replaces_the_first(crew: Script) -> None:
    first, second = posted(crew), posted(crew, "alice")
    crew.run("alice", Pin, first)
    crew.run("alice", Pin, second)
    assert crew.group.pinned == second
    assert crew.replayed() == crew.group


def test_pinning_it_again_changes_nothing(crew: Script) -> None:
    message = posted(crew)
    crew.run("alice", Pin, message)
    assert crew.run("alice", Pin, message) == []


def test_unpinning_nothing_is_refused(crew: Script) -> None:
    assert crew.refused("alice", Unpin) == Code.NO_SUCH_MESSAGE
    assert crew.sentence == "No message is pinned."


def test_deleting_the_message_unpins_it(crew: Script) -> None:
    message, other = posted(crew), posted(crew)
    crew.run("alice", Pin, message)
    crew.run("bob", Delete, other)
    assert crew.group.pinned == message
    crew.run("bob", Delete, message)
    assert not crew.group.pinned
    assert crew.replayed() == crew.group


def test_an_edited_message_stays_pinned(crew: Script) -> None:
    message = posted(crew)
    crew.run("alice", Pin, message)
    crew.run("bob", Edit, message, "read that")
    assert crew.group.pinned == message


@pytest.mark.parametrize("command", [Pin, Unpin])
def test_only_the_admin_may_pin(crew: Script, command: type[Pin | Unpin]) -> None:
    message = posted(crew)
    crew.run("alice", Pin, message)
    about = (message,) if command is Pin else ()
    assert crew.refused("bob", command, *about) == Code.NOT_ADMIN
    assert crew.refused("mallory", command, *about) == Code.NOT_MEMBER


def test_only_messages_can_be_pinned(crew: Script) -> None:
    [topic] = crew.events("alice", SetTopic, "pins")
    deleted = posted(crew)
    crew.run("bob", Delete, deleted)
    for target in (topic.seq, deleted, 0, 10_000):
        assert crew.refused("alice", Pin, target) == Code.NO_SUCH_MESSAGE


def test_a_direct_conversation_has_no_pins() -> None:
    pair = Script("@alice,bob")
    message = posted(pair)
    assert pair.refused("alice", Pin, message) == Code.DIRECT


def test_refounded_group_has_no_pin(crew: Script) -> None:
    message = posted(crew)
    crew.run("alice", Pin, message)
    for name in list(crew.members):
        crew.run(name, Leave)
    crew.run("bob", Join)
    assert crew.group.pinned is None
    assert crew.refused("bob", Pin, message) == Code.NO_SUCH_MESSAGE

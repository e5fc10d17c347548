"""`decide` and `apply`: numbers, times, refusals, and deduplication of commands."""

from __future__ import annotations

import pytest

from tchat.core.group.feature import Command, Event, Unknown
from tchat.core.group.membership import (
    AdminTransferred,
    Approve,
    Approved,
    Denied,
    Deny,
    Join,
    Kick,
    Kicked,
    Leave,
    Left,
    Requested,
    TransferAdmin,
)
from tchat.core.group.messages import Post, Posted
from tchat.core.group.rules import apply, decide
from tchat.core.group.state import WINDOW, Author, Group
from tchat.core.text import clean_line
from tchat.errors import Refused
from tests.core.script import NOON, Script

DIGEST = bytes(range(32))


# ------------------------------------------------------------------ refusals


def test_refusal_says_who_can_do_it(crew: Script) -> None:
    crew.run("dave", Join)
    crew.refused("dave", Post, "hello")
    assert crew.sentence == "You are not a member yet: alice has to approve you."
    crew.refused("erin", Post, "hello")
    assert crew.sentence == "You are not a member of this group."
    crew.refused("bob", Kick, "carol")
    assert crew.sentence == "Only the admin, alice, may do this."


@pytest.mark.parametrize("what", [Approve, Deny, Kick, TransferAdmin])
@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "x" * 10_000, "\u202egpj", ""])
def test_refusal_never_repeats_a_harmful_name(crew: Script, what: type[Command], name: str) -> None:
    crew.refused("alice", what, name)
    assert crew.sentence == clean_line(crew.sentence)
    assert len(crew.sentence) < 120


@pytest.mark.parametrize("what", [Approve, Deny, Kick, TransferAdmin])
def test_refusal_repeats_a_harmless_name(crew: Script, what: type[Command]) -> None:
    crew.refused("alice", what, "Erin")
    assert crew.sentence.startswith("Erin ")


# ------------------------------------------------------------------ time and numbers


def test_events_are_numbered_without_gaps(crew: Script) -> None:
    [posted] = crew.events("bob", Post, "hello")
    handed_over, left = crew.events("alice", Leave)
    assert [handed_over.seq, left.seq] == [posted.seq + 1, posted.seq + 2]


def test_refusal_uses_no_seq(crew: Script) -> None:
    before = crew.group.seq
    crew.refused("bob", Kick, "carol")
    assert [event.seq for event in crew.events("bob", Post, "hello")] == [before + 1]


def test_events_carry_the_time(ops: Script) -> None:
    assert [event.at for event in ops.events("alice", Join)] == [NOON]


def test_event_times_never_decrease(crew: Script) -> None:
    crew.now = NOON - 1000
    assert [event.at for event in crew.events("bob", Post, "late")] == [NOON]
    crew.now = NOON + 1
    assert [event.at for event in crew.events("bob", Post, "later")] == [NOON + 1]


def test_events_name_their_request(crew: Script) -> None:
    handed_over, left = crew.events("alice", Leave)
    author, command = crew.last
    for event in (handed_over, left):
        assert (event.actor, event.client, event.n) == ("alice", author.client, command.n)


# ------------------------------------------------------------------ deduplication


def test_repeated_command_is_idempotent(crew: Script) -> None:
    assert crew.run("bob", Post, "hello") == [Posted("hello")]
    assert crew.again() == []


def test_repeated_older_command_is_idempotent(crew: Script) -> None:
    crew.run("bob", Post, "one")
    older = crew.last
    crew.run("bob", Post, "two")
    assert crew.give(*older) == []


def test_repeated_command_is_recognised_after_a_kick(crew: Script) -> None:
    crew.run("bob", Post, "farewell")
    posted = crew.last
    crew.run("alice", Kick, "bob")
    assert crew.give(*posted) == []


def test_devices_count_separately(crew: Script) -> None:
    assert crew.run("bob", Post, "one", device="phone") == [Posted("one")]
    assert crew.run("bob", Post, "one", device="desk") == [Posted("one")]


def test_client_id_counts_for_its_person_only(crew: Script) -> None:
    crew.run("bob", Post, "mine")
    author, command = crew.last
    assert crew.give(Author("carol", author.client), command) != []


def test_repeated_command_is_recognised_in_any_spelling(crew: Script) -> None:
    crew.run("bob", Post, "hello")
    author, command = crew.last
    assert crew.give(Author("BOB", author.client), command) == []


def test_numbers_may_be_skipped(crew: Script) -> None:
    crew.run("bob", Post, "one")
    author, _ = crew.last
    assert crew.give(author, Post(1, 100, "crew", "two")) != []
    assert crew.group.counted(author) == 100


def test_skipped_number_is_accepted_once(crew: Script) -> None:
    crew.run("bob", Post, "one")
    author, _ = crew.last
    crew.give(author, Post(1, 100, "crew", "two"))
    assert crew.give(author, Post(1, 99, "crew", "late")) != []
    assert crew.give(author, Post(1, 99, "crew", "late")) == []
    assert crew.give(author, Post(1, 100, "crew", "two")) == []
    assert crew.group.counted(author) == 100


def test_number_below_the_window_counts_as_done(crew: Script) -> None:
    author, _ = crew.asked("bob", Post, "one")
    crew.give(author, Post(1, 5000, "crew", "one"))
    assert crew.give(author, Post(1, 5000 - WINDOW, "crew", "too late")) == []
    assert crew.give(author, Post(1, 5000 - WINDOW + 1, "crew", "just in time")) != []


def test_large_numbers_need_little_space(crew: Script) -> None:
    author, _ = crew.asked("bob", Post, "one")
    for n in (7, 8, 2**62):
        assert crew.give(author, Post(1, n, "crew", "hello")) != []
        assert crew.give(author, Post(1, n, "crew", "hello")) == []
    assert crew.group.counts["bob", author.client] == (2**62, 1)


def test_refused_command_may_be_retried_later(crew: Script) -> None:
    author, kick = crew.asked("bob", Kick, "carol")
    with pytest.raises(Refused):
        crew.give(author, kick)
    crew.run("bob", Post, "done meanwhile")
    crew.run("alice", TransferAdmin, "bob")
    assert crew.give(author, kick) != []


def test_new_group_counts_from_zero(ops: Script) -> None:
    assert (ops.group.seq, ops.group.at, ops.group.floor) == (0, 0, 0)
    assert ops.group.counted(Author("alice", b"12345678")) == 0


def test_repeated_founding_does_not_found_again(ops: Script) -> None:
    ops.run("alice", Join)
    founding = ops.last
    ops.run("alice", Leave)
    assert ops.give(*founding) == []


def test_command_numbers_survive_a_refounding(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("alice", Post, "hello")
    posted = ops.last
    ops.run("alice", Leave)
    ops.run("alice", Join)
    assert ops.give(*posted) == []


def test_repeated_leave_of_the_admin_is_idempotent(crew: Script) -> None:
    crew.run("alice", Leave)
    assert crew.again() == []
    assert crew.group.admin_name == "bob"


# ------------------------------------------------------------------ events of unknown kinds


def test_unknown_event_only_advances_the_counters(crew: Script) -> None:
    crew.run("bob", Post, "hello")
    author, command = crew.last
    expected = crew.group.copy()
    expected.seq, expected.at = crew.group.seq + 1, NOON + 5
    expected.count("bob", author.client, command.n + 1)
    apply(
        crew.group,
        Event("crew", expected.seq, NOON + 5, "bob", author.client, command.n + 1, Unknown("sang")),
    )
    assert crew.group == expected


def test_membership_events_apply_to_any_state() -> None:
    bodies = (
        Approved("x"),
        Denied("x"),
        Left(),
        Kicked("x"),
        AdminTransferred("x"),
        Requested(),
    )
    for body in bodies:
        group = Group()
        apply(group, Event("ops", 7, NOON, "alice", b"12345678", 1, body))
        assert group.seq == 7


def test_command_without_a_rule_is_a_bug(crew: Script) -> None:
    with pytest.raises(NotImplementedError):
        decide(crew.group, Author("bob", b"12345678"), Command(1, 1, "crew"), NOON)

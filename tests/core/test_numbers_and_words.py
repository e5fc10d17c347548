"""What is posted and shared, what a refusal says, and that each command is done once."""

from __future__ import annotations

import pytest

from tchat.core.group.feature import Command, Event, Unknown
from tchat.core.group.files import FileRemoved, FileShared, RemoveFile, Share
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
from tchat.core.group.state import WINDOW, Author, File, Group
from tchat.core.text import TEXT_LIMIT, clean_line
from tchat.errors import Code, Refused
from tests.core.script import NOON, Script

DIGEST = bytes(range(32))


# ------------------------------------------------------------------ posting and sharing


def test_members_post(crew: Script) -> None:
    assert crew.run("bob", Post, "hello everyone") == [Posted("hello everyone")]


def test_outsiders_and_those_who_wait_cannot_post(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.refused("dave", Post, "hello") == Code.NOT_MEMBER
    assert crew.refused("erin", Post, "hello") == Code.NOT_MEMBER


@pytest.mark.parametrize("blank", ["", " ", "\n", " \n\t ", "\u00a0\u2003"])
def test_a_message_needs_something_in_it(crew: Script, blank: str) -> None:
    assert crew.refused("bob", Post, blank) == Code.EMPTY_TEXT


@pytest.mark.parametrize("letter", ["a", "é", "漢", "👋"])
def test_a_message_holds_16_kib_of_utf_8_and_not_a_letter_more(crew: Script, letter: str) -> None:
    longest = letter * (TEXT_LIMIT // len(letter.encode()))
    assert crew.run("bob", Post, longest) == [Posted(longest)]
    assert crew.refused("bob", Post, longest + letter) == Code.TEXT_TOO_LONG


def test_the_rules_take_a_message_as_it_is(crew: Script) -> None:
    text = "  \x1b[31m‮ \n\n"
    assert crew.run("bob", Post, text) == [Posted(text)]


def test_files_are_numbered_as_they_come(crew: Script) -> None:
    assert crew.run("bob", Share, "a.txt", 1, DIGEST) == [FileShared(1, "a.txt", 1, DIGEST)]
    assert crew.run("carol", Share, "a.txt", 1, DIGEST) == [FileShared(2, "a.txt", 1, DIGEST)]
    assert [file.number for file in crew.group.files.values()] == [1, 2]


def test_outsiders_and_those_who_wait_cannot_share(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.refused("dave", Share, "a.txt", 1, DIGEST) == Code.NOT_MEMBER
    assert crew.refused("erin", Share, "a.txt", 1, DIGEST) == Code.NOT_MEMBER


@pytest.mark.parametrize("digest", [b"", DIGEST[:-1], DIGEST + b"\x00"])
def test_a_file_is_shared_by_its_digest(crew: Script, digest: bytes) -> None:
    assert crew.refused("bob", Share, "a.txt", 1, digest) == Code.BAD_FILE


def test_a_file_is_shared_by_a_name(crew: Script) -> None:
    assert crew.refused("bob", Share, "", 1, DIGEST) == Code.BAD_FILE


def test_the_shelf_says_who_shared_a_file_and_when(crew: Script) -> None:
    crew.run("Bob", Share, "a.txt", 7, DIGEST)
    assert crew.group.files == {1: File(1, "a.txt", 7, DIGEST, "Bob", NOON)}


@pytest.mark.parametrize("who", ["bob", "BOB", "alice"])
def test_a_file_is_removed_by_who_shared_it_or_the_admin(crew: Script, who: str) -> None:
    crew.run("bob", Share, "a.txt", 1, DIGEST)
    assert crew.run(who, RemoveFile, 1) == [FileRemoved(1)]
    assert crew.group.files == {}
    assert crew.refused(who, RemoveFile, 1) == Code.NO_SUCH_FILE


def test_nobody_else_removes_a_file(crew: Script) -> None:
    crew.run("bob", Share, "a.txt", 1, DIGEST)
    crew.run("dave", Join)
    assert crew.refused("carol", RemoveFile, 1) == Code.NOT_ADMIN
    assert "bob" in crew.sentence
    assert crew.refused("dave", RemoveFile, 1) == Code.NOT_MEMBER
    assert crew.refused("erin", RemoveFile, 1) == Code.NOT_MEMBER


def test_one_who_has_left_cannot_remove_what_he_shared(crew: Script) -> None:
    crew.run("bob", Share, "a.txt", 1, DIGEST)
    crew.run("bob", Leave)
    assert crew.refused("bob", RemoveFile, 1) == Code.NOT_MEMBER
    assert crew.run("alice", RemoveFile, 1) == [FileRemoved(1)]


@pytest.mark.parametrize("number", [0, 2, 2**62])
def test_a_file_that_is_not_there_cannot_be_removed(crew: Script, number: int) -> None:
    crew.run("bob", Share, "a.txt", 1, DIGEST)
    assert crew.refused("alice", RemoveFile, number) == Code.NO_SUCH_FILE


def test_the_number_of_a_file_that_was_removed_is_not_given_again(crew: Script) -> None:
    crew.run("bob", Share, "a.txt", 1, DIGEST)
    crew.run("bob", RemoveFile, 1)
    assert crew.run("bob", Share, "b.txt", 1, DIGEST) == [FileShared(2, "b.txt", 1, DIGEST)]
    assert crew.replayed() == crew.group


def test_a_removal_that_comes_twice_is_done_once(crew: Script) -> None:
    crew.run("bob", Share, "a.txt", 1, DIGEST)
    crew.run("bob", RemoveFile, 1)
    assert crew.again() == []


# ------------------------------------------------------------------ what a refusal says


def test_a_refusal_says_what_to_do_and_who_can(crew: Script) -> None:
    crew.run("dave", Join)
    crew.refused("dave", Post, "hello")
    assert crew.sentence == "You are not a member yet: alice has to approve you."
    crew.refused("erin", Post, "hello")
    assert crew.sentence == "You are not a member of this group."
    crew.refused("bob", Kick, "carol")
    assert crew.sentence == "Only the admin, alice, may do this."


@pytest.mark.parametrize("what", [Approve, Deny, Kick, TransferAdmin])
@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "x" * 10_000, "\u202egpj", ""])
def test_a_refusal_repeats_no_name_that_could_do_harm(
    crew: Script, what: type[Command], name: str
) -> None:
    crew.refused("alice", what, name)
    assert crew.sentence == clean_line(crew.sentence)
    assert len(crew.sentence) < 120


@pytest.mark.parametrize("what", [Approve, Deny, Kick, TransferAdmin])
def test_a_refusal_repeats_a_name_of_somebody_else_as_it_was_typed(
    crew: Script, what: type[Command]
) -> None:
    crew.refused("alice", what, "Erin")
    assert crew.sentence.startswith("Erin ")


# ------------------------------------------------------------------ time and numbers


def test_events_are_numbered_without_gaps(crew: Script) -> None:
    [posted] = crew.events("bob", Post, "hello")
    handed_over, left = crew.events("alice", Leave)
    assert [handed_over.seq, left.seq] == [posted.seq + 1, posted.seq + 2]


def test_a_refusal_takes_no_number(crew: Script) -> None:
    before = crew.group.seq
    crew.refused("bob", Kick, "carol")
    assert [event.seq for event in crew.events("bob", Post, "hello")] == [before + 1]


def test_events_carry_the_time(ops: Script) -> None:
    assert [event.at for event in ops.events("alice", Join)] == [NOON]


def test_a_clock_that_goes_back_does_not_take_the_log_with_it(crew: Script) -> None:
    crew.now = NOON - 1000
    assert [event.at for event in crew.events("bob", Post, "late")] == [NOON]
    crew.now = NOON + 1
    assert [event.at for event in crew.events("bob", Post, "later")] == [NOON + 1]


def test_an_event_names_the_request_behind_it(crew: Script) -> None:
    handed_over, left = crew.events("alice", Leave)
    author, command = crew.last
    for event in (handed_over, left):
        assert (event.actor, event.client, event.n) == ("alice", author.client, command.n)


# ------------------------------------------------------------------ exactly once


def test_a_command_that_comes_again_is_not_done_again(crew: Script) -> None:
    assert crew.run("bob", Post, "hello") == [Posted("hello")]
    assert crew.again() == []


def test_an_older_command_that_comes_again_is_not_done_again(crew: Script) -> None:
    crew.run("bob", Post, "one")
    older = crew.last
    crew.run("bob", Post, "two")
    assert crew.give(*older) == []


def test_what_would_be_refused_now_is_still_recognised(crew: Script) -> None:
    crew.run("bob", Post, "farewell")
    said = crew.last
    crew.run("alice", Kick, "bob")
    assert crew.give(*said) == []


def test_every_device_counts_for_itself(crew: Script) -> None:
    assert crew.run("bob", Post, "one", device="phone") == [Posted("one")]
    assert crew.run("bob", Post, "one", device="desk") == [Posted("one")]


def test_a_client_id_counts_for_its_person_only(crew: Script) -> None:
    crew.run("bob", Post, "mine")
    author, command = crew.last
    assert crew.give(Author("carol", author.client), command) != []


def test_a_person_is_recognised_in_any_spelling(crew: Script) -> None:
    crew.run("bob", Post, "hello")
    author, command = crew.last
    assert crew.give(Author("BOB", author.client), command) == []


def test_numbers_may_be_left_out(crew: Script) -> None:
    crew.run("bob", Post, "one")
    author, _ = crew.last
    assert crew.give(author, Post(1, 100, "crew", "two")) != []
    assert crew.group.counted(author) == 100


def test_a_number_that_was_left_out_may_still_come_once(crew: Script) -> None:
    crew.run("bob", Post, "one")
    author, _ = crew.last
    crew.give(author, Post(1, 100, "crew", "two"))
    assert crew.give(author, Post(1, 99, "crew", "late")) != []
    assert crew.give(author, Post(1, 99, "crew", "late")) == []
    assert crew.give(author, Post(1, 100, "crew", "two")) == []
    assert crew.group.counted(author) == 100


def test_a_number_below_the_window_counts_as_done(crew: Script) -> None:
    author, _ = crew.asked("bob", Post, "one")
    crew.give(author, Post(1, 5000, "crew", "one"))
    assert crew.give(author, Post(1, 5000 - WINDOW, "crew", "too late")) == []
    assert crew.give(author, Post(1, 5000 - WINDOW + 1, "crew", "just in time")) != []


def test_a_number_of_any_size_is_counted_in_little_space(crew: Script) -> None:
    author, _ = crew.asked("bob", Post, "one")
    for n in (7, 8, 2**62):
        assert crew.give(author, Post(1, n, "crew", "hello")) != []
        assert crew.give(author, Post(1, n, "crew", "hello")) == []
    assert crew.group.counts["bob", author.client] == (2**62, 1)


def test_what_was_refused_may_come_again_when_later_ones_were_done(crew: Script) -> None:
    author, kick = crew.asked("bob", Kick, "carol")
    with pytest.raises(Refused):
        crew.give(author, kick)
    crew.run("bob", Post, "done meanwhile")
    crew.run("alice", TransferAdmin, "bob")
    assert crew.give(author, kick) != []


def test_a_group_counts_from_nothing(ops: Script) -> None:
    assert (ops.group.seq, ops.group.at, ops.group.floor) == (0, 0, 0)
    assert ops.group.counted(Author("alice", b"12345678")) == 0


def test_the_request_that_founded_a_group_does_not_found_it_again(ops: Script) -> None:
    ops.run("alice", Join)
    founding = ops.last
    ops.run("alice", Leave)
    assert ops.give(*founding) == []


def test_counts_go_on_when_the_group_is_founded_anew(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("alice", Post, "hello")
    said = ops.last
    ops.run("alice", Leave)
    ops.run("alice", Join)
    assert ops.give(*said) == []


def test_leaving_with_two_events_is_done_once(crew: Script) -> None:
    crew.run("alice", Leave)
    assert crew.again() == []
    assert crew.group.admin_name == "bob"


# ------------------------------------------------------------------ events from the future


def test_an_event_of_an_unknown_kind_counts_and_changes_nothing(crew: Script) -> None:
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


def test_any_event_can_be_applied_to_any_state() -> None:
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


def test_a_command_without_a_rule_is_a_bug_and_not_a_refusal(crew: Script) -> None:
    with pytest.raises(NotImplementedError):
        decide(crew.group, Author("bob", b"12345678"), Command(1, 1, "crew"), NOON)

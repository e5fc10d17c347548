"""The rules of a group, told as stories."""

from __future__ import annotations

import pytest

from tchat.core.commands import (
    Approve,
    Command,
    Deny,
    Join,
    Kick,
    Leave,
    Post,
    Share,
    TransferAdmin,
)
from tchat.core.events import (
    AdminTransferred,
    Approved,
    Created,
    Denied,
    Event,
    FileShared,
    Kicked,
    Left,
    Posted,
    Requested,
    Unknown,
    Withdrawn,
)
from tchat.core.group import decide
from tchat.core.state import WINDOW, Author, Group
from tchat.core.text import TEXT_LIMIT, clean_line
from tchat.errors import Code, Refused
from tests.core.script import NOON, Script, key_of

DIGEST = bytes(range(32))


@pytest.fixture
def ops() -> Script:
    """Return a group that nobody has founded."""
    return Script("ops")


@pytest.fixture
def crew() -> Script:
    """Return a group of alice, its admin, then bob, then carol."""
    crew = Script("crew")
    crew.joined("alice", "bob", "carol")
    return crew


# ------------------------------------------------------------------ founding and joining


def test_joining_a_group_that_is_not_there_founds_it(ops: Script) -> None:
    assert ops.run("alice", Join) == [Created(key_of("alice"))]
    assert ops.members == ["alice"]
    assert ops.group.admin_name == "alice"
    assert ops.group.name == "ops"


def test_joining_a_group_that_is_there_is_a_request(ops: Script) -> None:
    ops.run("alice", Join)
    assert ops.run("bob", Join) == [Requested(key_of("bob"))]
    assert ops.group.standing("bob") == "waiting"
    assert ops.members == ["alice"]


def test_whoever_asks_twice_waits_once(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    assert ops.run("bob", Join) == []
    assert ops.waiting == ["bob"]


def test_a_member_who_joins_changes_nothing(crew: Script) -> None:
    assert crew.run("bob", Join) == []
    assert crew.group.standing("bob") == "member"


def test_the_admin_lets_people_in(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    assert ops.run("alice", Approve, "bob") == [Approved("bob")]
    assert ops.members == ["alice", "bob"]
    assert ops.waiting == []


def test_the_admin_turns_people_down(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    assert ops.run("alice", Deny, "bob") == [Denied("bob")]
    assert ops.group.standing("bob") == "outsider"


def test_whoever_was_turned_down_may_ask_again(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    ops.run("alice", Deny, "bob")
    assert ops.run("bob", Join) == [Requested(key_of("bob"))]


@pytest.mark.parametrize("answer", [Approve, Deny])
def test_only_the_admin_answers_requests(crew: Script, answer: type[Command]) -> None:
    crew.run("dave", Join)
    assert crew.refused("bob", answer, "dave") == Code.NOT_ADMIN
    assert crew.refused("dave", answer, "dave") == Code.NOT_MEMBER
    assert crew.refused("erin", answer, "dave") == Code.NOT_MEMBER


@pytest.mark.parametrize("answer", [Approve, Deny])
def test_a_request_that_nobody_made_cannot_be_answered(crew: Script, answer: type[Command]) -> None:
    assert crew.refused("alice", answer, "dave") == Code.NO_SUCH_REQUEST
    assert crew.refused("alice", answer, "not a name") == Code.NO_SUCH_REQUEST
    assert crew.refused("alice", answer, "bob") == Code.ALREADY_MEMBER


def test_a_request_is_answered_once(crew: Script) -> None:
    crew.run("dave", Join)
    crew.run("alice", Deny, "dave")
    assert crew.refused("alice", Approve, "dave") == Code.NO_SUCH_REQUEST


def test_a_request_can_be_taken_back(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.run("dave", Leave) == [Withdrawn()]
    assert crew.group.standing("dave") == "outsider"
    assert crew.refused("alice", Approve, "dave") == Code.NO_SUCH_REQUEST


def test_requests_are_listed_in_the_order_in_which_they_came(crew: Script) -> None:
    for name in ("zoe", "dave", "mia"):
        crew.run(name, Join)
    assert crew.waiting == ["zoe", "dave", "mia"]


# ------------------------------------------------------------------ kicking


def test_the_admin_kicks_members(crew: Script) -> None:
    assert crew.run("alice", Kick, "bob") == [Kicked("bob")]
    assert crew.members == ["alice", "carol"]
    assert list(crew.group.kicked) == ["bob"]


def test_only_the_admin_kicks(crew: Script) -> None:
    assert crew.refused("bob", Kick, "carol") == Code.NOT_ADMIN
    assert crew.refused("bob", Kick, "alice") == Code.NOT_ADMIN
    assert crew.refused("dave", Kick, "carol") == Code.NOT_MEMBER


def test_nobody_kicks_oneself(crew: Script) -> None:
    assert crew.refused("alice", Kick, "alice") == Code.YOURSELF
    assert crew.refused("alice", Kick, "ALICE") == Code.YOURSELF


def test_only_members_can_be_kicked(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.refused("alice", Kick, "dave") == Code.NO_SUCH_MEMBER
    assert crew.refused("alice", Kick, "erin") == Code.NO_SUCH_MEMBER


def test_whoever_cannot_be_kicked_yet_can_be_refused(crew: Script) -> None:
    crew.run("dave", Join)
    crew.refused("alice", Kick, "dave")
    assert "/deny" in crew.sentence
    crew.refused("alice", Kick, "erin")
    assert "/deny" not in crew.sentence


def test_whoever_was_kicked_is_out(crew: Script) -> None:
    crew.run("alice", Kick, "bob")
    assert crew.refused("bob", Post, "but why?") == Code.NOT_MEMBER
    assert crew.refused("bob", Leave) == Code.NOT_MEMBER
    assert crew.refused("alice", Kick, "bob") == Code.NO_SUCH_MEMBER


def test_whoever_was_kicked_may_ask_and_be_let_in_again(crew: Script) -> None:
    crew.run("alice", Kick, "bob")
    assert crew.run("bob", Join) == [Requested(key_of("bob"))]
    crew.run("alice", Approve, "bob")
    assert crew.members == ["alice", "carol", "bob"]
    assert crew.group.kicked == {}


# ------------------------------------------------------------------ the admin


def test_the_admin_makes_another_member_the_admin(crew: Script) -> None:
    assert crew.run("alice", TransferAdmin, "bob") == [AdminTransferred("bob")]
    assert crew.group.admin_name == "bob"
    assert crew.members == ["alice", "bob", "carol"]


def test_a_former_admin_is_a_member_like_others(crew: Script) -> None:
    crew.run("alice", TransferAdmin, "bob")
    assert crew.refused("alice", Kick, "carol") == Code.NOT_ADMIN
    assert crew.run("bob", Kick, "alice") == [Kicked("alice")]


def test_only_the_admin_passes_adminship_on(crew: Script) -> None:
    assert crew.refused("bob", TransferAdmin, "bob") == Code.NOT_ADMIN
    assert crew.refused("dave", TransferAdmin, "dave") == Code.NOT_MEMBER


def test_adminship_goes_to_members_only(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.refused("alice", TransferAdmin, "dave") == Code.NO_SUCH_MEMBER
    assert crew.refused("alice", TransferAdmin, "erin") == Code.NO_SUCH_MEMBER


def test_the_admin_cannot_be_made_the_admin(crew: Script) -> None:
    assert crew.refused("alice", TransferAdmin, "alice") == Code.YOURSELF


def test_an_admin_who_leaves_is_followed_by_the_longest_standing_member(crew: Script) -> None:
    assert crew.run("alice", Leave) == [AdminTransferred("bob"), Left()]
    assert crew.group.admin_name == "bob"
    assert crew.members == ["bob", "carol"]


def test_a_member_who_came_back_stands_behind_those_who_stayed(crew: Script) -> None:
    crew.run("bob", Leave)
    crew.run("bob", Join)
    crew.run("alice", Approve, "bob")
    crew.run("alice", Leave)
    assert crew.group.admin_name == "carol"


def test_whoever_founded_the_group_is_still_the_longest_standing(crew: Script) -> None:
    crew.run("alice", TransferAdmin, "carol")
    crew.run("carol", Leave)
    assert crew.group.admin_name == "alice"


def test_a_member_leaves(crew: Script) -> None:
    assert crew.run("bob", Leave) == [Left()]
    assert crew.members == ["alice", "carol"]
    assert crew.group.admin_name == "alice"


def test_only_those_who_are_in_can_leave(crew: Script) -> None:
    assert crew.refused("dave", Leave) == Code.NOT_MEMBER


# ------------------------------------------------------------------ closing and refounding


def test_the_last_one_out_closes_the_group(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("bob", Join)
    assert ops.run("alice", Leave) == [Left()]
    assert (ops.members, ops.waiting, ops.group.admin) == ([], [], None)
    assert ops.group.admin_name == ""


def test_in_a_closed_group_nothing_can_be_done_but_to_found_it_anew(ops: Script) -> None:
    ops.joined("alice")
    ops.run("alice", Leave)
    assert ops.refused("alice", Leave) == Code.NOT_MEMBER
    assert ops.refused("alice", Post, "hello?") == Code.NOT_MEMBER
    assert ops.refused("alice", Approve, "bob") == Code.NOT_MEMBER
    assert ops.run("bob", Join) == [Created(key_of("bob"))]


def test_a_group_founded_anew_begins_a_new_life(crew: Script) -> None:
    crew.run("alice", Share, "plan.txt", 10, DIGEST)
    crew.run("alice", Kick, "carol")
    crew.run("bob", Leave)
    crew.run("alice", Leave)
    closed_at = crew.group.seq
    [founded] = crew.events("dave", Join)
    assert founded.seq == closed_at + 1
    assert crew.group.floor == founded.seq
    assert crew.members == ["dave"]
    assert crew.group.admin_name == "dave"
    assert (crew.group.files, crew.group.kicked) == ({}, {})


def test_the_first_life_begins_with_the_first_event(ops: Script) -> None:
    ops.run("alice", Join)
    assert ops.group.floor == 1


def test_file_numbers_start_again_in_a_new_life(ops: Script) -> None:
    ops.joined("alice")
    ops.run("alice", Share, "plan.txt", 10, DIGEST)
    ops.run("alice", Leave)
    ops.run("bob", Join)
    assert ops.run("bob", Share, "song.ogg", 5, DIGEST) == [FileShared(1, "song.ogg", 5, DIGEST)]


def test_whoever_was_kicked_in_an_earlier_life_is_just_an_outsider_now(crew: Script) -> None:
    crew.run("alice", Kick, "bob")
    crew.run("carol", Leave)
    crew.run("alice", Leave)
    crew.run("bob", Join)
    assert crew.group.admin_name == "bob"
    assert crew.group.kicked == {}


def test_a_group_is_spelled_as_its_last_founder_wrote_it() -> None:
    ops = Script("Ops")
    ops.joined("alice")
    ops.name = "OPS"
    assert [event.group for event in ops.events("alice", Post, "hello")] == ["Ops"]
    ops.run("alice", Leave)
    assert [event.group for event in ops.events("bob", Join)] == ["OPS"]
    assert ops.group.name == "OPS"


# ------------------------------------------------------------------ names


@pytest.mark.parametrize("spelling", ["ALICE", "Alice", "ａｌｉｃｅ", "AlIcE"])  # noqa: RUF001
def test_a_name_is_the_same_in_any_spelling(spelling: str) -> None:
    ops = Script()
    ops.joined("alice", "bob")
    assert ops.group.is_admin(spelling)
    assert ops.group.standing(spelling) == "member"
    assert ops.refused("alice", Kick, spelling) == Code.YOURSELF
    assert ops.run(spelling, Kick, "bob") == [Kicked("bob")]


def test_folding_knows_more_than_lower_case() -> None:
    ops = Script()
    ops.joined("alice", "Straße")
    assert ops.run("alice", Kick, "STRASSE") == [Kicked("Straße")]


def test_people_are_shown_as_they_wrote_their_names_first(ops: Script) -> None:
    ops.run("alice", Join)
    ops.run("BoB", Join)
    assert ops.run("alice", Approve, "bob") == [Approved("BoB")]
    assert ops.members == ["alice", "BoB"]
    assert ops.run("alice", TransferAdmin, "BOB") == [AdminTransferred("BoB")]
    assert ops.group.admin_name == "BoB"


def test_one_person_in_two_spellings_is_one_member(ops: Script) -> None:
    ops.run("alice", Join)
    assert ops.run("ALICE", Join) == []
    ops.run("bob", Join)
    assert ops.run("Bob", Join) == []
    assert (ops.members, ops.waiting) == (["alice"], ["bob"])


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


# ------------------------------------------------------------------ what a refusal says


def test_a_refusal_says_what_to_do_and_who_can(crew: Script) -> None:
    crew.run("dave", Join)
    crew.refused("dave", Post, "hello")
    assert crew.sentence == "You are not a member yet: alice has to approve you."
    crew.refused("erin", Post, "hello")
    assert crew.sentence == "You are not a member of this group; /join asks to be one."
    crew.refused("bob", Kick, "carol")
    assert crew.sentence == "Only the admin may do this, and that is alice."


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
    expected._count(("bob", author.client), command.n + 1)
    crew.group.apply(
        Event("crew", expected.seq, NOON + 5, "bob", author.client, command.n + 1, Unknown("sang"))
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
        group.apply(Event("ops", 7, NOON, "alice", b"12345678", 1, body))
        assert group.seq == 7


def test_a_command_without_a_rule_is_a_bug_and_not_a_refusal(crew: Script) -> None:
    with pytest.raises(TypeError, match="no rule for Command"):
        decide(crew.group, Author("bob", b"12345678"), Command(1, 1, "crew"), NOON)

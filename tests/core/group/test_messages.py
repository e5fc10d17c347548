"""Messages: post, reply, edit, delete, and erasing deleted text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.core.group.feature import Body, Command, Event
from tchat.core.group.features import decode_event, encode_event, erase_event
from tchat.core.group.files import Share
from tchat.core.group.membership import (
    Approve,
    Join,
    Leave,
    TransferAdmin,
)
from tchat.core.group.messages import (
    MOST_EDITS,
    Delete,
    Deleted,
    Edit,
    Edited,
    Erased,
    Post,
    Posted,
)
from tchat.core.group.rules import apply
from tchat.core.group.settings import SetTopic
from tchat.core.group.state import Group
from tchat.core.protocol.framing import PREFIX
from tchat.core.text import TEXT_LIMIT
from tchat.errors import Code, ProtocolError
from tests.core.examples import EVENTS
from tests.core.script import NOON, Script, replay

CLIENT = b"12345678"

naturals = st.integers(0, 2**63 - 1)

changes = pytest.mark.parametrize(("what", "about"), [(Edit, ("no",)), (Delete, ())])


def edits_in(script: Script) -> dict[int, tuple[int, ...]]:
    """Return the seqs of the edits of each message."""
    return {message: edits.seqs for message, edits in script.group.edits.items()}


def post(crew: Script, who: str = "bob", text: str = "hello") -> int:
    """Post a message; return its seq."""
    [posted] = crew.events(who, Post, text)
    return posted.seq


def anew(crew: Script) -> None:
    """Let everybody leave, and bob found the group again."""
    for name in list(crew.members):
        crew.run(name, Leave)
    crew.run("bob", Join)


# ------------------------------------------------------------------ reply


def test_reply_names_its_message(crew: Script) -> None:
    first = post(crew)
    assert crew.run("carol", Post, "hello, bob", first) == [Posted("hello, bob", first)]


def test_reply_to_a_deleted_message_is_kept(crew: Script) -> None:
    first = post(crew)
    crew.run("bob", Delete, first)
    assert crew.run("carol", Post, "hello, bob", first) == [Posted("hello, bob", first)]


@pytest.mark.parametrize("ahead", [1, 2, 2**62])
def test_reply_must_be_to_an_earlier_event(crew: Script, ahead: int) -> None:
    post(crew)
    beyond = crew.group.seq + ahead
    assert crew.refused("carol", Post, "hello, bob", beyond) == Code.NO_SUCH_MESSAGE
    assert crew.refused("carol", Post, "hello, bob", 0) == Code.NO_SUCH_MESSAGE


def test_reply_to_message_before_refounding_is_refused(crew: Script) -> None:
    first = post(crew)
    anew(crew)
    assert crew.refused("bob", Post, "where were we?", first) == Code.NO_SUCH_MESSAGE
    assert crew.run("bob", Post, "hello", crew.group.floor) != []


# ------------------------------------------------------------------ edit


def test_author_edits_a_message(crew: Script) -> None:
    first = post(crew)
    assert crew.run("bob", Edit, first, "Hello!") == [Edited(first, "Hello!")]


@pytest.mark.parametrize("who", ["BOB", "Bob", "ｂｏｂ"])  # noqa: RUF001
def test_author_is_recognised_in_any_spelling(crew: Script, who: str) -> None:
    first = post(crew)
    assert crew.run(who, Edit, first, "Hello!") == [Edited(first, "Hello!")]
    assert crew.run(who, Delete, first) == [Deleted(first)]


@pytest.mark.parametrize("who", ["alice", "carol"])
def test_only_the_author_edits_a_message(crew: Script, who: str) -> None:
    first = post(crew)
    assert crew.refused(who, Edit, first, "I am a fool") == Code.NOT_AUTHOR
    assert crew.sentence == "Only bob may edit this message."


def test_number_of_edits_is_limited(crew: Script) -> None:
    seq = post(crew)
    for number in range(MOST_EDITS):
        crew.run("bob", Edit, seq, f"hello {number}")
    assert crew.refused("bob", Edit, seq, "hello again") == Code.EDITED_OFTEN


def test_group_knows_all_edits_of_a_message(crew: Script) -> None:
    first, other = post(crew), post(crew)
    [once] = crew.events("bob", Edit, first, "Hello!")
    [meanwhile] = crew.events("bob", Edit, other, "What?")
    [twice] = crew.events("bob", Edit, first, "Hello everybody!")
    assert edits_in(crew) == {first: (once.seq, twice.seq), other: (meanwhile.seq,)}
    assert crew.replayed() == crew.group


@pytest.mark.parametrize(
    ("text", "code"),
    [(" \n", Code.EMPTY_TEXT), ("", Code.EMPTY_TEXT), ("a" * (TEXT_LIMIT + 1), Code.TEXT_TOO_LONG)],
)
def test_edited_text_must_be_postable(crew: Script, text: str, code: Code) -> None:
    assert crew.refused("bob", Edit, post(crew), text) == code


# ------------------------------------------------------------------ delete


@pytest.mark.parametrize("who", ["bob", "alice"])
def test_author_or_admin_deletes_a_message(crew: Script, who: str) -> None:
    first = post(crew)
    assert crew.run(who, Delete, first) == [Deleted(first)]


def test_other_members_cannot_delete_a_message(crew: Script) -> None:
    first = post(crew)
    assert crew.refused("carol", Delete, first) == Code.NOT_AUTHOR
    assert crew.sentence == "Only bob or the admin may delete this message."
    crew.run("alice", TransferAdmin, "bob")
    assert crew.refused("alice", Delete, first) == Code.NOT_AUTHOR


def test_deleted_text_and_its_edits_leave_the_log(crew: Script) -> None:
    [posted] = crew.events("bob", Post, "the password is swordfish")
    crew.run("bob", Edit, posted.seq, "the password is SWORDFISH!")
    crew.run("bob", Delete, posted.seq)
    assert b"swordfish" not in b"".join(crew.log).lower()
    assert crew.event(posted.seq) == replace(posted, body=Erased())


def test_deleted_message_has_no_edits(crew: Script) -> None:
    first, other = post(crew), post(crew)
    crew.run("bob", Edit, first, "Hello!")
    [kept] = crew.events("bob", Edit, other, "What?")
    crew.run("bob", Delete, first)
    assert edits_in(crew) == {other: (kept.seq,)}


@changes
def test_deleted_message_cannot_be_changed(
    crew: Script, what: type[Command], about: tuple[str, ...]
) -> None:
    first = post(crew)
    crew.run("bob", Delete, first)
    assert crew.refused("bob", what, first, *about) == Code.NO_SUCH_MESSAGE


# ------------------------------------------------------------------ edit and delete


@changes
def test_only_members_edit_and_delete(
    crew: Script, what: type[Command], about: tuple[str, ...]
) -> None:
    first = post(crew)
    crew.run("bob", Leave)
    assert crew.refused("bob", what, first, *about) == Code.NOT_MEMBER
    crew.run("bob", Join)
    assert crew.refused("bob", what, first, *about) == Code.NOT_APPROVED


@changes
def test_returning_author_may_edit_and_delete(
    crew: Script, what: type[Command], about: tuple[str, ...]
) -> None:
    first = post(crew, "alice")
    crew.run("alice", Leave)
    crew.run("alice", Join)
    crew.run("bob", Approve, "alice")
    assert crew.run("alice", what, first, *about) != []


@changes
def test_only_messages_can_be_edited_or_deleted(
    crew: Script, what: type[Command], about: tuple[str, ...]
) -> None:
    first = post(crew, "alice")
    [edit] = crew.events("alice", Edit, first, "Hello!")
    [file] = crew.events("alice", Share, "a.txt", 1, bytes(32))
    [topic] = crew.events("alice", SetTopic, "this and that")
    for seq in (0, 1, edit.seq, file.seq, topic.seq, topic.seq + 1, 2**62):
        assert crew.refused("alice", what, seq, *about) == Code.NO_SUCH_MESSAGE


@changes
def test_messages_before_a_refounding_cannot_be_changed(
    crew: Script, what: type[Command], about: tuple[str, ...]
) -> None:
    first = post(crew)
    anew(crew)
    assert crew.group.is_admin("bob")
    assert crew.refused("bob", what, first, *about) == Code.NO_SUCH_MESSAGE


def test_refounding_forgets_edits(crew: Script) -> None:
    crew.run("bob", Edit, post(crew), "Hello!")
    anew(crew)
    assert crew.group.edits == {}


@changes
def test_repeated_change_is_idempotent(
    crew: Script, what: type[Command], about: tuple[str, ...]
) -> None:
    crew.run("bob", what, post(crew), *about)
    assert crew.again() == []


def test_repeated_post_of_deleted_message_stays_deleted(crew: Script) -> None:
    first = post(crew)
    again = crew.last
    crew.run("bob", Delete, first)
    assert crew.give(*again) == []
    author, command = again
    assert crew.replayed().has_done(author, command.n)


targets = st.sampled_from([0, 1, 2]) | naturals


@given(st.lists(st.builds(Edited, targets, st.just("?")) | st.builds(Deleted, targets), max_size=8))
def test_edits_and_deletions_apply_to_any_state(bodies: list[Body]) -> None:
    group = Group()
    for seq, body in enumerate(bodies, start=1):
        apply(group, Event("ops", seq, NOON, "alice", CLIENT, seq, body))
        assert group.seq == seq
    assert group.members == {}


# ------------------------------------------------------------------ erasing

names = st.text(min_size=1, max_size=32)
headers = st.tuples(names, naturals, naturals, names, st.binary(min_size=8, max_size=8), naturals)
messages = st.builds(Posted, st.text(), st.none() | naturals) | st.builds(
    Edited, naturals, st.text()
)


@given(headers, messages)
def test_erased_event_keeps_only_its_header(
    header: tuple[str, int, int, str, bytes, int], body: Body
) -> None:
    frame = encode_event(Event(*header, body))
    erased = erase_event(frame[PREFIX:])
    assert decode_event(erased[PREFIX:]) == Event(*header, Erased())
    assert erased == encode_event(Event(*header, Erased()))


@given(headers, messages)
def test_erased_event_is_never_longer(
    header: tuple[str, int, int, str, bytes, int], body: Body
) -> None:
    frame = encode_event(Event(*header, body))
    assert len(erase_event(frame[PREFIX:])) < len(frame)


@given(headers, messages)
def test_erasing_twice_changes_nothing(
    header: tuple[str, int, int, str, bytes, int], body: Body
) -> None:
    erased = erase_event(encode_event(Event(*header, body))[PREFIX:])
    assert erase_event(erased[PREFIX:]) == erased


def test_only_events_can_be_erased() -> None:
    with pytest.raises(ProtocolError):
        erase_event(b"\xa1\x64type\x64ping")


def test_erased_events_still_count_their_numbers() -> None:
    for event in EVENTS:
        group, other = Group(), Group()
        apply(group, event)
        apply(other, decode_event(erase_event(encode_event(event)[PREFIX:])[PREFIX:]))
        assert (group.seq, group.at, group.counts) == (other.seq, other.at, other.counts)


def test_replay_after_deletions_leads_to_same_state(crew: Script) -> None:
    for text in ("one", "two", "three"):
        crew.run("bob", Edit, post(crew, text=text), text.upper())
    for seq in list(crew.group.edits):
        crew.run("alice", Delete, seq)
    assert crew.log != crew.written
    assert replay("crew", crew.log) == replay("crew", crew.written) == crew.group


# ------------------------------------------------------------------ post


def test_members_post(crew: Script) -> None:
    assert crew.run("bob", Post, "hello everyone") == [Posted("hello everyone")]


def test_outsiders_and_requesters_cannot_post(crew: Script) -> None:
    crew.run("dave", Join)
    assert crew.refused("dave", Post, "hello") == Code.NOT_APPROVED
    assert crew.refused("erin", Post, "hello") == Code.NOT_MEMBER


@pytest.mark.parametrize("blank", ["", " ", "\n", " \n\t ", "\u00a0\u2003"])
def test_blank_message_is_refused_by_rules(crew: Script, blank: str) -> None:
    assert crew.refused("bob", Post, blank) == Code.EMPTY_TEXT


@pytest.mark.parametrize("letter", ["a", "é", "漢", "👋"])
def test_message_length_is_limited_to_16_kib(crew: Script, letter: str) -> None:
    longest = letter * (TEXT_LIMIT // len(letter.encode()))
    assert crew.run("bob", Post, longest) == [Posted(longest)]
    assert crew.refused("bob", Post, longest + letter) == Code.TEXT_TOO_LONG


def test_rules_keep_a_message_unchanged(crew: Script) -> None:
    text = "  \x1b[31m‮ \n\n"
    assert crew.run("bob", Post, text) == [Posted(text)]

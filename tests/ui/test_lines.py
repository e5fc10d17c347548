"""Sentences for events, lines of messages, and the plain form of a line, which programs rely on."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tchat.client.files.queue import Progress
from tchat.core.fingerprints import fingerprint
from tchat.core.group.feature import Body, Event, Unknown
from tchat.core.group.files import FileRemoved, FileShared
from tchat.core.group.log_digest import stamp_of
from tchat.core.group.membership import (
    AdminTransferred,
    Approved,
    Banned,
    Created,
    Denied,
    Invited,
    Joined,
    Kicked,
    Left,
    Requested,
    Unbanned,
    Withdrawn,
)
from tchat.core.group.messages import Deleted, Edited, Erased, Posted
from tchat.core.group.settings import PolicySet, TopicSet
from tchat.core.text import size_text
from tchat.ui.chat.lines import (
    Line,
    changed_line,
    gathered,
    line_of,
    progress_text,
    quotation,
    time_text,
)
from tchat.ui.plain.formats import format_line

AT = int(time.mktime((2026, 11, 22, 9, 5, 0, 0, 0, -1))) * 1000

KEY = bytes(32)


def event(body: Body, actor: str = "alice") -> Event:
    return Event("ops", 1, AT, actor, b"12345678", 1, body)


def unstamped(line: Line | None) -> Line:
    """Return a line of the event above without its stamp."""
    assert line is not None
    assert line.stamp == stamp_of(event(Posted("")))
    return replace(line, stamp=None)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (Created(), "alice created ops"),
        (Approved("dave"), "dave joined, approved by alice"),
        (Joined("carol", bytes(32), KEY), "alice joined, invited by carol"),
        (Invited(bytes(32), AT), "alice made an invite"),
        (Invited(bytes(32), AT, "dave"), "alice made an invite for dave"),
        (Left(), "alice left the group"),
        (Kicked("dave"), "alice kicked dave"),
        (AdminTransferred("dave"), "alice made dave the admin"),
        (AdminTransferred("Bob"), "alice made Bob the admin: that is you"),
        (FileShared(3, "a.pdf", 1234, b""), "alice shared a.pdf (1.2 KB), file 3"),
        (FileRemoved(3), "alice removed file 3"),
        (Joined(None, None, KEY), "alice joined"),
        (Banned("dave"), "alice banned dave"),
        (Unbanned("dave"), "alice unbanned dave"),
        (PolicySet("open"), "alice: anyone may join now"),
        (PolicySet("approval"), "alice: joining now needs approval"),
        (TopicSet("all of it"), "alice set the topic: all of it"),
        (TopicSet(""), "alice removed the topic"),
        (Edited(3, "better\nso"), "alice edited a message: better↵so"),
        (Deleted(3), "alice deleted a message"),
    ],
)
def test_an_event_reads_as_a_sentence(body: Body, text: str) -> None:
    line = line_of(event(body), "bob", admin=False)
    assert line is not None
    assert replace(line, changes=0) == Line(AT, "notice", text, seq=1)


def test_many_changes_at_once_are_one_line() -> None:
    """After a few of their own; with time between them, each has its line."""

    def shown(apart: int, number: int = 8) -> list[str]:
        events = (
            Event("ops", seq, AT + seq * apart, "alice", b"12345678", 1, TopicSet(str(seq)))
            for seq in range(number)
        )
        lines = (line_of(one, "bob", admin=False) for one in events)
        return [line.text.removeprefix("alice ") for line in gathered(filter(None, lines))]

    apart = [f"set the topic: {seq}" for seq in range(1, 8)]
    assert shown(60_000)[1:] == apart
    assert shown(1000)[1:] == [*apart[:3], "4 changes, the last: alice set the topic: 7"]
    assert shown(1000, 5)[1:] == apart[:4]


def test_a_removed_file_is_named_if_known() -> None:
    line = line_of(event(FileRemoved(3)), "bob", admin=False, file="a\x1b.pdf")
    assert line == Line(AT, "notice", "alice removed file 3 (a␛.pdf)", seq=1)


@pytest.mark.parametrize("body", [Requested(), Requested(KEY), Denied("dave"), Withdrawn()])
def test_join_requests_are_shown_to_the_admin_only(body: Body) -> None:
    assert line_of(event(body, "dave"), "bob", admin=False) is None
    assert line_of(event(body, "dave"), "bob", admin=True) is not None


@pytest.mark.parametrize(
    ("body", "keys", "whose"),
    [
        (Requested(), {}, ""),
        (Requested(KEY), {}, f" (key {fingerprint(KEY)}, new here)"),
        (Requested(KEY), {bytes(31): "eve"}, f" (key {fingerprint(KEY)}, new here)"),
        (Requested(KEY), {KEY: "eve"}, f" (key {fingerprint(KEY)}, its owner was a member as eve)"),
    ],
)
def test_a_join_request_shows_whose_key_it_is(
    body: Body, keys: dict[bytes, str], whose: str
) -> None:
    line = line_of(event(body, "dave"), "bob", admin=True, keys=keys)
    assert line is not None
    assert line.text == f"dave asks to join{whose}: /approve dave or /deny dave"


def test_the_admin_sees_denied_and_withdrawn_requests() -> None:
    denied = line_of(event(Denied("dave")), "alice", admin=True)
    withdrawn = line_of(event(Withdrawn(), "dave"), "alice", admin=True)
    assert denied is not None
    assert withdrawn is not None
    assert denied.text == "alice denied dave"
    assert withdrawn.text == "dave no longer asks to join"


@pytest.mark.parametrize("body", [Joined("c\x1b[2J", KEY), Invited(KEY, AT, "d\u202ee")])
def test_names_in_events_are_sanitized(body: Body) -> None:
    line = line_of(event(body), "bob", admin=False)
    assert line is not None
    assert line.text.isprintable()


def test_unknown_events_are_not_shown() -> None:
    assert line_of(event(Unknown("reacted")), "bob", admin=True) is None


def test_a_message_is_sanitized() -> None:
    line = line_of(event(Posted("a\x1b[31mb\u202ec")), "bob", admin=False)
    assert unstamped(line) == Line(AT, "message", "a␛[31mbc", "alice", 1)


def test_me_is_shown_as_an_action() -> None:
    line = line_of(event(Posted("/me waves\x1b")), "bob", admin=False)
    assert unstamped(line) == Line(AT, "action", "waves␛", "alice", 1)


@pytest.mark.parametrize("text", ["/me", "/mean", " /me waves", "/ME waves"])
def test_only_exact_me_is_an_action(text: str) -> None:
    line = line_of(event(Posted(text)), "bob", admin=False)
    assert unstamped(line) == Line(AT, "message", text, "alice", 1)


def test_an_erased_message_keeps_an_empty_line() -> None:
    line = line_of(event(Erased()), "bob", admin=False)
    assert line == Line(AT, "message", "", "alice", 1, deleted=True)


# ------------------------------------------------------------------ edits, deletions, quotations


HELLO = Line(AT, "message", "hello", "alice", 3)


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (Edited(3, "hello, bob"), Line(AT, "message", "hello, bob", "alice", 3, mention=True)),
        (Edited(3, "/me waves"), Line(AT, "action", "waves", "alice", 3)),
    ],
)
def test_an_edit_changes_the_line(body: Edited, after: Line) -> None:
    assert changed_line(HELLO, body, "bob") == replace(after, edited=True)


def test_an_edit_can_remove_a_mention() -> None:
    mention = replace(HELLO, text="hello, bob", mention=True)
    assert not changed_line(mention, Edited(3, "hello"), "bob").mention
    assert not changed_line(HELLO, Edited(3, "I, alice"), "alice").mention


def test_a_deleted_message_stays_empty() -> None:
    before = Line(AT, "action", "waves at bob", "alice", 3, reply="bob: hi", mention=True)
    gone = changed_line(before, Deleted(3), "bob")
    assert gone == Line(AT, "message", "", "alice", 3, deleted=True)
    assert changed_line(gone, Edited(3, "back"), "bob") == gone


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("hello", "alice: hello"),
        ("two\nlines", "alice: two↵lines"),
        ("/me waves", "alice waves"),
        ("x" * 60, "alice: " + "x" * 60),
        ("x" * 61, "alice: " + "x" * 60 + "…"),
        ("\x1b[2J", "alice: ␛[2J"),
    ],
)
def test_a_quotation_is_short_and_one_line(text: str, quoted: str) -> None:
    assert quotation("alice", text) == quoted


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        (Line(AT, "message", "hi there", "alice"), "[09:05] <alice> hi there"),
        (Line(AT, "message", "two\nlines", "alice"), "[09:05] <alice> two↵lines"),
        (Line(AT, "notice", "bob joined"), "[09:05] -- bob joined"),
        (Line(AT, "error", "No."), "[09:05] ! No."),
        (Line(AT, "action", "waves\ntwice", "alice"), "[09:05] * alice waves↵twice"),
        (Line(AT, "message", "hi", "bob", 3, "alice: so?", edited=True), "[09:05] <bob> hi"),
    ],
)
def test_the_plain_form_is_one_line_each(line: Line, plain: str) -> None:
    assert format_line(line) == plain


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (999_960, "1.0 MB"), (1_234_567_890, "1.2 GB")],
)
def test_sizes_read_well(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (9.4, "0:09"), (130, "2:10"), (3599.6, "1:00:00"), (1e300, "99:59:59")],
)
def test_times_read_like_clocks(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


GB = 1_000_000_000


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (
            Progress(1, "up", "report.pdf", "moving", 504_000_000, 12 * GB // 10, 3.1e6, 130.0),
            "sending report.pdf: 42 % of 1.2 GB, 3.1 MB/s, 2:10 left",
        ),
        (Progress(1, "down", "a", "moving", 5, 10), "saving a: 50 % of 10 B"),
        (Progress(1, "up", "a", "moving", 0, 0), "sending a: 0 % of 0 B"),
        (Progress(1, "up", "a", "queued"), "a is queued"),
        (Progress(1, "up", "a", "checking"), "checking a"),
        (Progress(1, "down", "a", "checking", 5, 10), "checking a: 50 % of 10 B"),
    ],
)
def test_progress_reads_as_a_sentence(progress: Progress, text: str) -> None:
    assert progress_text(progress) == text

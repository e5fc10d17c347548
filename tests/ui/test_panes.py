"""The pane of messages and the pane of members: pictures of what is said, and who is there."""

from __future__ import annotations

import pytest

from tchat.ui.tui.model import Person, Position
from tests.hostile_text import HARMLESS
from tests.ui.pictures import DAY, MINUTE, NOON, model, pane, picture, said, screen, styles, told
from tests.ui.pictures import shown as rows_of

# ---------------------------------------------------------------------- messages


def test_each_line_has_its_time_its_author_and_its_text() -> None:
    made = model(said("hello", "alice"), said("hi", "bob"), told("bob shared report.pdf"))
    assert pane(made) == [
        "── Sunday 22 November 2026 ─────────────────────────────────",
        " 12:00 alice │ hello",
        " 12:00   bob │ hi",
        " 12:00    -- │ bob shared report.pdf",
    ]


def test_every_sort_of_line_can_be_told_apart_without_colours() -> None:
    made = model(
        said("joined", "bob"),
        said("joined", "bob", sort="action"),
        told("bob joined"),
        said("bob joined", "", sort="error"),
    )
    assert pane(made)[1:] == [
        " 12:00   bob │ joined",
        " 12:00     * │ bob joined",
        " 12:00    -- │ bob joined",
        " 12:00     ! │ bob joined",
    ]


def test_what_somebody_says_in_one_go_has_their_name_once() -> None:
    made = model(
        said("one"),
        said("two", at=NOON + 4 * MINUTE),
        said("much later", at=NOON + 9 * MINUTE),
        told("carol joined", at=NOON + 9 * MINUTE),
        said("welcome", at=NOON + 9 * MINUTE),
    )
    assert pane(made)[1:] == [
        " 12:00   bob │ one",
        " 12:04     · │ two",
        " 12:09   bob │ much later",
        " 12:09    -- │ carol joined",
        " 12:09   bob │ welcome",
    ]


def test_the_first_row_in_sight_says_who_speaks() -> None:
    made = model(said("one"), said("two " * 30), said("three"))
    assert pane(made, width=40, height=7) == [
        "        bob │ two two two two two two",
        "            │ two two two two two two",
        "            │ two two two two two two",
        "12:00     · │ three",
    ]


def test_a_long_text_is_indented_below_itself() -> None:
    made = model(said("word " * 18))
    assert pane(made)[1:] == [
        " 12:00   bob │ word word word word word word word word word",
        "             │ word word word word word word word word word",
    ]


def test_a_text_of_several_lines_stays_one() -> None:
    made = model(said("def f():\n    return 1\n\nsee?"))
    assert pane(made)[1:] == [
        " 12:00   bob │ def f():",
        "             │     return 1",
        "             │",
        "             │ see?",
    ]


def test_a_new_day_gets_a_line() -> None:
    made = model(said("old"), said("new", at=NOON + DAY))
    assert pane(made)[1:] == [
        " 12:00   bob │ old",
        "── Monday 23 November 2026 ─────────────────────────────────",
        " 12:00   bob │ new",
    ]


def test_a_line_marks_where_the_unseen_begins() -> None:
    made = model(said("seen", seq=7), told("from here"), said("not", seq=8))
    made.lines += [told("nothing else"), said("nor", seq=9)]
    made.new_from = 8
    assert pane(made)[1:] == [
        " 12:00   bob │ seen",
        " 12:00    -- │ from here",
        "── new ─────────────────────────────────────────────────────",
        " 12:00   bob │ not",
        " 12:00    -- │ nothing else",
        " 12:00   bob │ nor",
    ]


@pytest.mark.parametrize("new_from", [0, 9])
def test_nothing_is_marked_when_all_was_seen(new_from: int) -> None:
    made = model(said("one", seq=7), said("two", seq=8), new_from=new_from)
    assert "new" not in screen(made)


def test_an_answer_quotes_what_it_answers() -> None:
    made = model(said("12 MB", reply="alice: how large is it, and can I still get it somewhere?"))
    assert pane(made)[1:] == [
        " 12:00   bob │ ↳ alice: how large is it, and can I still g…",
        "             │ 12 MB",
    ]
    assert styles(made, "↳") == {"dim"}


def test_what_was_changed_or_deleted_says_so() -> None:
    changed = said("12 MB", edited=True), said("x" * 40, "carol", edited=True)
    made = model(*changed, said("", "alice", deleted=True, edited=True))
    assert pane(made)[1:] == [
        " 12:00   bob │ 12 MB (edited)",
        f" 12:00 carol │ {'x' * 40}",
        "             │ (edited)",
        " 12:00 alice │ message deleted",
    ]
    assert styles(made, "(edited)") == styles(made, "message deleted") == {"dim"}


def test_what_is_meant_for_me_is_marked() -> None:
    made = model(said("@alice look", mention=True), said("waves at alice", sort="action"))
    assert pane(made)[1:] == [" 12:00   bob » @alice look", " 12:00     * │ bob waves at alice"]
    assert styles(made, "look") == {"mention"}


def test_what_is_on_its_way_stands_behind_all_else_and_is_marked() -> None:
    made = model(said("hello"))
    made.pending = [said("going", "alice", fate="pending"), said("lost", "alice", fate="failed")]
    assert pane(made)[1:] == [
        " 12:00   bob │ hello",
        " 12:00 alice … going",
        " 12:00     · ✗ lost",
    ]
    assert styles(made, "going") == {"pending"}
    assert styles(made, "lost") == {"failed"}


def test_an_address_can_be_seen_even_where_it_is_broken() -> None:
    made = model(said("see https://example.org/a/rather/long/address?with=a&query=in#it, ok?"))
    assert pane(made, width=40)[1:] == [
        "12:00   bob │ see",
        "            │ https://example.org/a/rath",
        "            │ er/long/address?with=a&que",
        "            │ ry=in#it, ok?",
    ]
    assert styles(made, "https://", 40) == styles(made, "ry=in#it", 40) == {"url"}
    assert styles(made, ", ok?", 40) == {"text"}


@pytest.mark.parametrize("said_text", HARMLESS)
def test_every_script_begins_in_the_same_column(said_text: str) -> None:
    made = model(said(said_text.split("\n")[0]))
    assert pane(made)[1].startswith(" 12:00   bob │ ")


# ---------------------------------------------------------------------- columns


def test_the_column_of_names_is_as_wide_as_the_names() -> None:
    made = model(said("x", "al"), said("y", "christopher"))
    assert pane(made)[1:] == [" 12:00          al │ x", " 12:00 christopher │ y"]


def test_the_column_is_as_wide_as_the_members_need_who_have_said_nothing() -> None:
    made = model(said("x", "al"))
    made.people = [Person("christopher", admin=True, online=True)]
    assert pane(made)[1:] == [" 12:00          al │ x"]


def test_a_name_that_is_too_long_is_cut() -> None:
    made = model(said("x", "漢" * 32))
    assert pane(made)[1:] == [" 12:00  漢漢漢漢漢… │ x"]


def test_the_column_does_not_change_while_one_reads() -> None:
    lines = [said(f"m{n}", "bob" if n < 20 else "christopher") for n in range(40)]
    seen = [pane(model(*lines, position=Position(index))) for index in range(10, 40)]
    assert {row.index("│") for rows in seen for row in rows if "m" in row[18:]} == {19}


def test_a_narrow_screen_has_no_times() -> None:
    made = model(said("hello you"))
    assert pane(made, width=20) == ["── Sun 22 Nov 2026 ─", "  bob │ hello you"]


def test_without_panes_a_line_can_be_copied_whole() -> None:
    made = model(
        said("hello everyone, this is rather long and goes on", "bob"),
        said("for @alice", "carol", mention=True, reply="bob: hello"),
        said("waves", "carol", sort="action"),
        told("dave joined"),
        people=3,
        bare=True,
    )
    made.pending = [said("on my way", "alice", fate="pending")]
    assert pane(made, width=40, height=14)[1:] == [
        "bob: hello everyone, this is rather long",
        "and goes on",
        "↳ bob: hello",
        "» carol: for @alice",
        "* carol waves",
        "-- dave joined",
        "… alice: on my way",
    ]
    assert "★" not in screen(made)


# ---------------------------------------------------------------------- the past


@pytest.mark.parametrize(
    ("past", "row"),
    [("more", " PgUp: earlier messages"), ("loading", " fetching earlier messages…")],
)
def test_above_the_first_line_is_what_can_be_had(past: str, row: str) -> None:
    assert pane(model(said("hello"), past=past))[0] == row
    assert pane(model(past=past)) == [row]


def test_an_empty_group_says_that_it_is() -> None:
    assert pane(model()) == [" nothing has been said yet"]


# ---------------------------------------------------------------------- members


def test_members_are_marked_as_admin_online_away_and_offline() -> None:
    made = model(said("hello"), people=3)
    made.people.append(Person("dave", admin=False, online=True, away="lunch"))
    assert screen(made, height=8) == picture(
        """
        | #ops                                         admin alice · 3 of 4 online · TLS
        |                                                             │ ★ alice
        |                                                             │ ● bob
        |                                                             │ ○ carol
        |── Sunday 22 November 2026 ──────────────────────────────────┤ ◐ dave
        | 12:00   bob │ hello                                         │
        |────────────────────────────────────────────────────────────────────────────────
        |alice ▸
        """
    )


def test_an_admin_who_is_not_there_has_a_hollow_star() -> None:
    made = model(said("x"))
    made.people = [Person("alice", admin=True, online=False)]
    assert "☆ alice" in screen(made)


def test_more_members_than_rows_are_counted() -> None:
    rows = rows_of(model(said("x"), people=30), height=10)
    assert rows[7].endswith("│   and 24 more")


@pytest.mark.parametrize("change", [{"show_people": False}, {"direct": True}, {"bare": True}])
def test_members_are_not_shown_where_nobody_wants_them(change: dict[str, bool]) -> None:
    assert "★" not in screen(model(said("x"), people=3, **change))


def test_members_fold_away_where_it_is_narrow() -> None:
    made = model(said("x"), people=3)
    assert "★" not in screen(made, width=63)
    assert "★" in screen(made, width=64)

"""From a model to rows: everything that can be said about the screen without a terminal."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.client.transfers import Progress
from tchat.core.text import clean_line, clean_text
from tchat.ui.cells import cells
from tchat.ui.lines import Line, Sort
from tchat.ui.model import Model, Person
from tchat.ui.view import draw, name_style

NOON = int(time.mktime((2026, 11, 22, 12, 0, 0, 0, 0, -1))) * 1000
DAY = 24 * 60 * 60 * 1000


def said(text: str, who: str = "bob", at: int = NOON, **flags: bool) -> Line:
    return Line(at, "message", text, who, **flags)


def model(*lines: Line, people: int = 0) -> Model:
    made = Model("alice", "ops", list(lines), connection="", standing="member")
    names = ["alice", "bob", "carol", *(f"person{n}" for n in range(people))][:people]
    made.people = [Person(n, admin=n == "alice", online=n != "carol") for n in names]
    return made


def text(made: Model, width: int = 80, height: int = 12) -> list[str]:
    return ["".join(part for part, _ in row).rstrip() for row in draw(made, width, height).rows]


def test_the_newest_message_stands_above_the_status_and_the_input() -> None:
    rows = text(model(said("first"), said("second")))
    assert rows[-3].endswith("bob │ second")
    assert rows[-4].endswith("bob │ first")
    assert rows[-1] == "alice ▸"


def test_people_are_marked_as_admin_online_and_offline() -> None:
    rows = text(model(said("x"), people=3))
    assert [row.split("│")[-1].strip() for row in rows[1:4]] == ["★ alice", "● bob", "○ carol"]
    assert rows[0].endswith("admin alice · 2 of 3 online · TLS")


def test_people_fold_away_where_it_is_narrow() -> None:
    assert "★" not in "".join(text(model(said("x"), people=3), width=50))


def test_more_people_than_rows_are_counted() -> None:
    rows = text(model(said("x"), people=30), height=10)
    assert rows[7].endswith("and 24 more")


def test_a_new_day_gets_a_line() -> None:
    rows = text(model(said("old", at=NOON), said("new", at=NOON + DAY)))
    assert rows[-4].startswith("── Monday 23 November 2026 ──")


def test_a_line_marks_where_unread_begins() -> None:
    missed = [said("not seen", missed=True), said("nor this", missed=True)]
    rows = text(model(said("seen", history=True), *missed, said("live")))
    assert [row for row in rows if row.startswith("── new ──")] == [rows[-6]]


def test_nothing_is_marked_when_nothing_was_missed() -> None:
    rows = text(model(said("seen", history=True), said("live")))
    assert "new" not in "".join(rows)


def test_long_messages_are_wrapped_behind_their_author() -> None:
    rows = text(model(said("word " * 20)), width=60)
    assert rows[-5].startswith(" 12:00        bob │ word word")
    assert rows[-4].startswith("                  │ word")


def test_scrolling_stops_at_the_oldest_message() -> None:
    made = model(*(said(f"m{n}") for n in range(30)))
    made.scroll = 10_000
    rows = text(made)
    assert rows[1].startswith("── Sunday 22 November 2026")
    assert rows[2].endswith("m0")
    assert "older messages: End" in rows[-2]


def test_what_waits_is_in_the_status_line() -> None:
    made = model(said("x"))
    made.waiting, made.unanswered = 2, 3
    assert text(made)[-2].startswith("── 2 ask to join: /1 ── 3 on the way ──")


MOVING = Progress(1, "up", "report.pdf", "moving", 42, 100, 3.1e6, 130.0)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (80, "── ⇡ report.pdf ▰▰▰▰▱▱▱▱▱▱ 42% 3.1 MB/s 2:10 ─"),
        (40, "── ⇡ report.pdf 42% 3.1 MB/s 2:10 ─"),
        (30, "── ⇡ report.pdf 42% 2:10 ─"),
        (20, "─ ⇡ report.pdf 42% ─"),
    ],
)
def test_a_transfer_is_at_the_right_of_the_status_line(width: int, shown: str) -> None:
    made = model(said("x"))
    made.transfers = [MOVING]
    assert text(made, width)[-2].endswith(shown)


@pytest.mark.parametrize("way", ["up", "down"])
def test_an_arrow_says_which_way_it_goes(way: Literal["up", "down"]) -> None:
    made = model(said("x"))
    made.transfers = [replace(MOVING, way=way)]
    assert f" {'⇡' if way == 'up' else '⇣'} report.pdf " in text(made)[-2]


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (replace(MOVING, phase="queued"), "─ ⇡ report.pdf queued ─"),
        (replace(MOVING, phase="checking"), "─ ⇡ report.pdf checking 42% ─"),
        (replace(MOVING, phase="checking", done=0), "─ ⇡ report.pdf checking ─"),
        (replace(MOVING, left=None, rate=0.0), "─ ⇡ report.pdf ▰▰▰▰▱▱▱▱▱▱ 42% ─"),
        (replace(MOVING, done=100, left=0.0), "▰▰▰▰▰▰▰▰▰▰ 100% 3.1 MB/s 0:00 ─"),
    ],
)
def test_what_a_transfer_is_doing_is_said(progress: Progress, shown: str) -> None:
    made = model(said("x"))
    made.transfers = [progress]
    assert text(made)[-2].endswith(shown)


def test_of_several_transfers_the_furthest_is_shown_with_its_number() -> None:
    made = model(said("x"))
    queued = replace(MOVING, number=3, phase="queued", done=0)
    made.transfers = [replace(MOVING, done=7), replace(MOVING, number=2, name="b.iso"), queued]
    assert text(made)[-2].endswith("─ ⇡ 2 b.iso ▰▰▰▰▱▱▱▱▱▱ 42% 3.1 MB/s 2:10 +2 ─")


@pytest.mark.parametrize("width", range(20, 121))
@pytest.mark.parametrize("others", [0, 2])
def test_a_transfer_pushes_nothing_out(width: int, others: int) -> None:
    made = model(said("x"))
    made.waiting, made.unanswered = 1, 2
    without = text(made, width)[-2].rstrip("─")
    made.transfers = [replace(MOVING, name="数字" * 30)] * (others + 1)
    row = text(made, width)[-2]
    assert cells(row) in (width - 1, width)  # less a space at its end
    assert row.startswith(without)
    assert "42%" in row or width < 50


@pytest.mark.parametrize("width", [40, 44])
def test_who_asks_to_join_and_a_transfer_fit_a_narrow_screen(width: int) -> None:
    made = model(said("x"))
    made.waiting, made.transfers = 1, [MOVING]
    row = text(made, width)[-2]
    assert row.startswith("── 1 asks to join: /1 ─")
    assert "42%" in row


def test_a_lost_connection_is_in_the_title() -> None:
    made = model(said("x"))
    made.connection = "offline: nothing listens there"
    assert text(made)[0].endswith("offline: nothing listens there")


def test_a_question_takes_the_place_of_the_prompt() -> None:
    made = model()
    made.question = "kick whom?"
    assert text(made)[-1] == "kick whom? ▸"


def test_the_cursor_is_behind_what_was_typed_in_cells() -> None:
    made = model()
    made.edit.insert("你好")
    assert draw(made, 80, 12).cursor == (11, len("alice ▸ ") + 4)


def test_a_line_longer_than_the_screen_scrolls_to_the_cursor() -> None:
    made = model()
    made.edit.insert("x" * 200 + "end")
    picture = draw(made, 40, 10)
    assert "".join(part for part, _ in picture.rows[-1]).rstrip().endswith("end")
    assert picture.cursor[1] < 40


def test_a_name_has_the_same_colour_however_it_is_written() -> None:
    assert name_style("Alice") == name_style("alice")


@pytest.mark.parametrize("size", [(10, 3), (19, 10), (80, 3)])
def test_a_terminal_that_is_too_small_says_so(size: tuple[int, int]) -> None:
    assert text(model(said("x")), *size)[0].startswith("too small"[: size[0]])


lines = st.builds(
    Line,
    at=st.integers(0, 4_000_000_000_000),
    sort=st.sampled_from(["message", "notice", "error"]),
    text=st.text(max_size=200).map(clean_text),
    who=st.text(max_size=32).map(clean_line),
    history=st.booleans(),
    missed=st.booleans(),
)


transfers = st.builds(
    Progress,
    number=st.integers(1, 10_000),
    way=st.sampled_from(["up", "down"]),
    name=st.text(max_size=40).map(clean_line),
    phase=st.sampled_from(["queued", "checking", "moving"]),
    done=st.integers(0, 2**63 - 1),
    size=st.integers(0, 2**63 - 1),
    rate=st.floats(0, 1e15),
    left=st.none() | st.floats(0, 1e15),
)


@given(
    st.lists(lines, max_size=8),
    st.lists(transfers, max_size=4),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.text(max_size=80).map(clean_line),
    st.integers(1, 120),
    st.integers(1, 40),
    st.integers(0, 60),
)
def test_any_model_fills_any_screen_exactly(
    shown: list[Line],
    moving: list[Progress],
    waiting: tuple[int, int],
    typed: str,
    width: int,
    height: int,
    scroll: int,
) -> None:
    made = model(*shown, people=5)
    made.transfers = moving
    made.waiting, made.unanswered = waiting
    made.edit.insert(typed)
    made.scroll = scroll
    picture = draw(made, width, height)
    assert len(picture.rows) == height
    assert [sum(cells(part) for part, _ in row) for row in picture.rows] == [width] * height
    row, column = picture.cursor
    assert 0 <= row < height
    assert 0 <= column < width


def test_every_sort_of_line_can_be_told_apart_without_colours() -> None:
    sorts: list[Sort] = ["message", "notice", "error"]
    rows = text(model(*(Line(NOON, sort, "text", "bob") for sort in sorts)))
    assert [row.strip() for row in rows[-5:-2]] == [
        "12:00        bob │ text",
        "12:00 * text",
        "12:00 ! text",
    ]

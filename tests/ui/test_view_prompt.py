"""Where one types: as many rows as it takes, and the cursor in the right cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.ui.tui.view import draw
from tests.ui.editing import press
from tests.ui.pictures import changed, is_exact, model, shown, styles

if TYPE_CHECKING:
    from tchat.ui.tui.model import Model


def typing(before: str, after: str = "", **more: object) -> Model:
    made = changed(model(), **more)
    made.edit.set(before + after)
    for _ in range(len(after)):
        press(made.edit, "Left")
    return made


def test_the_cursor_is_behind_what_was_typed_in_cells() -> None:
    assert draw(typing("你好"), 80, 12).cursor == (11, len("alice ▸ ") + 4)
    assert draw(typing("e\u0301"), 80, 12).cursor == (11, len("alice ▸ ") + 1)


def test_a_line_longer_than_the_screen_goes_on_below_itself() -> None:
    made = typing("x" * 31 + "y" * 10)
    assert shown(made, 40, 10)[-2:] == [f"alice ▸ {'x' * 31}", f"        {'y' * 10}"]
    assert draw(made, 40, 10).cursor == (9, 18)


def test_the_cursor_has_a_place_behind_a_full_row() -> None:
    made = typing("x" * 31)
    assert shown(made, 40, 10)[-1] == f"alice ▸ {'x' * 31}"
    assert draw(made, 40, 10).cursor == (9, 39)


def test_the_cursor_stands_on_the_character_that_it_is_before() -> None:
    assert draw(typing("x" * 31, "y"), 40, 10).cursor == (9, 8)
    assert draw(typing("x" * 30, "漢"), 40, 10).cursor == (9, 8)
    assert draw(typing("x" * 30, "\n"), 40, 10).cursor == (8, 38)


def test_a_character_wider_than_a_row_is_broken() -> None:
    family = "\u200d".join("👩" * 10)
    made = typing("", family)
    press(made.edit, "Home")
    drawn = draw(made, 24, 12)
    assert is_exact(drawn, 24, 12)
    assert drawn.cursor == (10, 8)


def test_several_lines_are_indented_below_the_first() -> None:
    made = typing("one\ntwo\n", "three")
    assert shown(made)[-3:] == ["alice ▸ one", "        two", "        three"]
    assert draw(made, 80, 12).cursor == (11, 8)


@pytest.mark.parametrize(
    ("before", "rows"),
    [("", ["alice ▸ 0", "        1", "        2"]), ("0\n1\n2\n3\n", ["2", "3", "4"])],
)
def test_what_takes_more_than_a_third_of_the_screen_is_shown_around_the_cursor(
    before: str, rows: list[str]
) -> None:
    text = "".join(f"{n}\n" for n in range(9))
    made = typing(before, text.removeprefix(before))
    seen = shown(made, 40, 10)[-3:]
    assert [row[8:] for row in seen] == [row[-1] for row in rows]
    assert seen[0].startswith("alice ▸ ")


def test_controls_are_shown_as_signs() -> None:
    assert shown(typing("a\x1b[2J\u202eb"))[-1] == "alice ▸ a␛[2Jb"


def test_a_question_takes_the_place_of_the_prompt() -> None:
    made = typing("bob", question="kick whom?")
    assert shown(made)[-1] == "kick whom? ▸ bob"
    assert styles(made, "kick whom?") == {"question"}


def test_a_question_that_is_long_stands_above_the_answer() -> None:
    made = typing("n", question="Do you want to leave #ops, where nobody else is the admin?")
    assert shown(made, 40, 12)[-3:] == [
        "Do you want to leave #ops, where nobody",
        "else is the admin?",
        "▸ n",
    ]
    assert draw(made, 40, 12).cursor == (11, 3)


def test_a_search_shows_what_is_looked_for() -> None:
    made = model()
    made.edit.set("deploy the site")
    made.edit.take()
    press(made.edit, "C-r")
    made.edit.insert("dep")
    assert shown(made)[-1] == "(search 'dep') deploy the site"
    made.edit.insert("x")
    assert shown(made)[-1] == "(nowhere 'depx') deploy the site"


def test_a_name_that_is_long_leaves_room() -> None:
    made = typing("hello")
    made.user = "漢" * 32
    assert shown(made, 40, 10)[-1] == "漢漢漢漢漢漢… ▸ hello"


@given(
    st.text("ab\n漢e\u0301👩\u200d\x1b ", max_size=120),
    st.integers(0, 40),
    st.text(max_size=60),
    st.integers(20, 60),
    st.integers(5, 30),
)
def test_the_cursor_is_always_in_the_rows_of_the_input(
    text: str, back: int, question: str, width: int, height: int
) -> None:
    made = typing(text, question=question.replace("\n", " ") if question.isprintable() else "")
    for _ in range(back):
        press(made.edit, "Left")
    drawn = draw(made, width, height)
    row, column = drawn.cursor
    rows = [y for y, spans in enumerate(drawn.rows) if any(s == "input" for _, s in spans)]
    assert is_exact(drawn, width, height)
    assert row in rows
    assert 0 <= column < width
    assert len(rows) <= max(height // 3, 2)

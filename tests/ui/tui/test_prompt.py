"""Property of the input area; how it looks is in the golden screens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tchat.ui.tui.view import draw
from tests.ui.pictures import is_exact, typing


def test_selected_line_is_marked() -> None:
    model = typing("refused")
    model.edit.selected = True
    assert ("refused", "selection") in draw(model, 80, 24).rows[-1]
    model.edit.do("left")
    assert ("refused", "input") in draw(model, 80, 24).rows[-1]


@given(
    st.text("ab\n\t漢e\u0301👩\u200d\x1b ", max_size=120),
    st.integers(0, 40),
    st.text(max_size=60),
    st.integers(20, 60),
    st.integers(5, 30),
)
def test_cursor_is_always_in_the_input(
    text: str, back: int, question: str, width: int, height: int
) -> None:
    """The input takes at most a third of the screen, or two rows."""
    made = typing(text, question=question.replace("\n", " ") if question.isprintable() else "")
    for _ in range(back):
        made.edit.left()
    drawn = draw(made, width, height)
    row, column = drawn.cursor
    rows = [y for y, spans in enumerate(drawn.rows) if any(s == "input" for _, s in spans)]
    assert is_exact(drawn, width, height)
    assert row in rows
    assert 0 <= column < width
    assert len(rows) <= max(height // 3, 2)

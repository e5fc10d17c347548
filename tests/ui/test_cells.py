"""Text measured, cut and wrapped in terminal cells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tchat.core.text import clean_text
from tchat.ui.cells import cells, clip, graphemes, left, right, wrap

texts = st.text(max_size=60).map(clean_text)
widths = st.integers(2, 40)


def test_wide_characters_take_two_cells_and_marks_none() -> None:
    assert cells("abc") == 3
    assert cells("你好") == 4
    assert cells("e\u0301") == 1


def test_a_grapheme_is_what_a_person_takes_for_a_character() -> None:
    assert graphemes("e\u0301你") == ["e\u0301", "你"]


def test_words_are_kept_whole_where_they_fit() -> None:
    assert wrap("one two three four", 9) == ("one two", "three", "four")


def test_a_word_wider_than_the_row_is_cut() -> None:
    assert wrap("abcdefgh ij", 3) == ("abc", "def", "gh", "ij")


def test_a_wide_character_is_never_cut_in_half() -> None:
    assert wrap("你好吗", 3) == ("你", "好", "吗")


def test_line_breaks_stay() -> None:
    assert wrap("a\n\nb", 10) == ("a", "", "b")


@given(texts, widths)
def test_no_row_is_wider_than_asked_for_and_no_word_is_lost(text: str, width: int) -> None:
    rows = wrap(text, width)
    assert all(cells(row) <= width for row in rows)
    assert "".join("".join(rows).split()) == "".join(text.split())


@given(texts, widths)
def test_padded_text_is_exactly_as_wide_as_asked_for(text: str, width: int) -> None:
    line = text.replace("\n", " ")
    assert cells(left(line, width)) == cells(right(line, width)) == width
    assert cells(clip(line, width)) <= width

"""Text measured, clipped and wrapped in terminal cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.core.text import clean_text
from tchat.ui.text import cells as module
from tchat.ui.text.cells import (
    cells,
    clip,
    expand_tabs,
    graphemes,
    pad_left,
    pad_right,
    tab_width,
    wrap,
)

texts = st.text(max_size=60).map(clean_text).map(expand_tabs)
if TYPE_CHECKING:
    from tchat.ui.text.cells import Hang

hangs = st.sampled_from(["none", "indent", "column"])
widths = st.integers(2, 40)
# Pieces between which wrapping has to decide.
pieces = st.sampled_from(
    ["word ", "  ", "https://a.example/b?c=d", "你好", "\uff0c", "「", "」", "🇩🇪", "\n"]
)
mixed = st.lists(pieces, max_size=20).map("".join)

URL = "https://example.com/a/b"


def test_wide_characters_take_two_cells() -> None:
    assert cells("abc") == 3
    assert cells("你好") == 4
    assert cells("e\u0301") == 1


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("🇩🇪", 2),
        ("🇩🇪🇫🇷", 4),
        ("🇩", 2),
        ("🇩🇪🇫", 4),
        ("👨\u200d👩\u200d👧", 6),
        ("👍🏽", 4),
        ("❤\ufe0f", 1),
        ("की", 2),
    ],
)
def test_emoji_are_measured_as_curses_lays_out(text: str, width: int) -> None:
    assert cells(text) == width


def test_graphemes_are_user_perceived_characters() -> None:
    assert graphemes("e\u0301你") == ["e\u0301", "你"]


def test_words_are_kept_whole_where_they_fit() -> None:
    assert wrap("one two three four", 9) == ("one two", "three", "four")


def test_word_wider_than_the_row_is_cut() -> None:
    assert wrap("abcdefgh ij", 3) == ("abc", "def", "gh", "ij")


def test_wide_character_is_never_cut_in_half() -> None:
    assert wrap("你好吗", 3) == ("你", "好", "吗")


@pytest.mark.parametrize(
    ("text", "width", "rows"),
    [
        (f"see {URL} there", 25, ("see", URL, "there")),
        (f"see {URL}", 30, (f"see {URL}",)),
        (f"见{URL}。", 25, ("见", f"{URL}。")),
        (f"见{URL}这里", 24, ("见", URL, "这里")),
        (f"(see:{URL})", 23, ("(see:", URL, ")")),
        (f"  {URL}", 23, (URL,)),
        (URL, 10, ("https://ex", "ample.com/", "a/b")),
        (f"ok {URL}", 10, ("ok", "https://ex", "ample.com/", "a/b")),
    ],
)
def test_url_is_kept_whole_where_it_fits(text: str, width: int, rows: tuple[str, ...]) -> None:
    assert wrap(text, width) == rows


@pytest.mark.parametrize(
    ("text", "width", "rows"),
    [
        ("    return 1", 12, ("    return 1",)),
        ("    return what", 12, ("    return", "what")),
        ("    return", 8, ("  return",)),
        ("    abcdefghij", 8, ("    abcd", "efghij")),
        ("if x:\n    y", 20, ("if x:", "    y")),
        ("a    b", 20, ("a    b",)),
        ("   ", 20, ("",)),
    ],
)
def test_leading_spaces_are_kept(text: str, width: int, rows: tuple[str, ...]) -> None:
    assert wrap(text, width) == rows


@pytest.mark.parametrize(
    ("text", "width", "rows"),
    [
        ("你好吗你好吗", 7, ("你好吗", "你好吗")),
        ("你好吗\uff0c你好", 6, ("你好", "吗\uff0c你", "好")),
        ("好「你好」吗", 4, ("好", "「你", "好」", "吗")),
        ("行きます、ちょっと", 8, ("行きま", "す、", "ちょっと")),
        ("カード", 4, ("カー", "ド")),
        ("tchat很好用", 8, ("tchat很", "好用")),
        ("네 한국어", 7, ("네", "한국어")),
        ("👍👍👍", 5, ("👍👍", "👍")),
        ("\uff0c\uff0c\uff0c\uff0c", 4, ("\uff0c\uff0c", "\uff0c\uff0c")),
    ],
)
def test_rows_break_at_ideographs_and_respect_punctuation(
    text: str, width: int, rows: tuple[str, ...]
) -> None:
    assert wrap(text, width) == rows


@pytest.mark.parametrize(
    ("text", "width", "rows"),
    [
        ("    return what it is", 14, ("    return", "    what it is")),
        ("    a b\nc d e", 6, ("    a", "   b", "c d e")),
        ("    return what", 6, ("return", "  what")),
        ("   abcdefghij", 8, ("   abcde", "   fghij")),
        (" " * 30 + "ab cd", 10, (" " * 8 + "ab", "     cd")),
        ("   see 你好你好", 8, ("   see", "   你好", "   你好")),
        (f"   see {URL}", 24, ("   see", f" {URL}")),
    ],
)
def test_continuation_rows_hang_under_the_indentation(
    text: str, width: int, rows: tuple[str, ...]
) -> None:
    assert wrap(text, width, "indent") == rows


def test_continuation_rows_hang_under_the_second_column() -> None:
    assert wrap("F7, F8  show or hide", 15, "column") == ("F7, F8  show or", "       hide")
    assert wrap("  F7    show or hide", 18, "column") == ("  F7    show or", "        hide")
    assert wrap("no column here", 9, "column") == ("no column", "here")


@given(texts, st.integers(2, 40), hangs)
def test_hanging_rows_fit_and_lose_nothing(text: str, width: int, hang: Hang) -> None:
    rows = wrap(text, width, hang)
    widest = max(map(cells, graphemes(text)), default=0)
    assert all(cells(row) <= max(width, widest) for row in rows)
    assert "".join("".join(rows).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("name\tvalue", "name    value"),
        ("\tgcc\n\t\tx", "        gcc\n                x"),
        ("1234567\t8", "1234567 8"),
        ("12345678\t9", "12345678        9"),
        ("数字\t你", "数字    你"),
        ("e\u0301\tx", "e\u0301       x"),
    ],
)
def test_tabs_reach_to_the_next_stop(text: str, expanded: str) -> None:
    assert expand_tabs(text) == expanded


@given(st.text("ab\t漢\n ", max_size=30))
def test_text_after_a_tab_begins_at_a_stop(text: str) -> None:
    for line, shown in zip(text.split("\n"), expand_tabs(text).split("\n"), strict=True):
        assert "\t" not in shown
        last = line.rpartition("\t")[2]
        assert "\t" not in line or (cells(shown) - cells(last)) % 8 == 0
        assert shown.split() == line.split()
    assert [tab_width(column) for column in (0, 1, 7, 8)] == [8, 7, 1, 8]


@given(mixed, st.integers(24, 60), hangs)
def test_urls_stay_whole_in_any_text(text: str, width: int, hang: Hang) -> None:
    rows = wrap(text, width, hang)
    assert all(cells(row) <= width for row in rows)
    assert "".join("".join(rows).split()) == "".join(text.split())
    # A URL with other text directly after it is one longer URL.
    urls = [word for word in _between_spaces(text) if word.startswith("https")]
    wholes = [url for url in urls if url.count("https") == 1 and cells(url) <= width]
    assert all(any(whole in row for row in rows) for whole in wholes)


def _between_spaces(text: str) -> list[str]:
    return [word for word in text.split() if word.isascii()]


def test_line_breaks_are_kept() -> None:
    assert wrap("a\n\nb", 10) == ("a", "", "b")


@given(texts, widths)
def test_rows_fit_and_no_word_is_lost(text: str, width: int) -> None:
    rows = wrap(text, width)
    assert all(cells(row) <= width for row in rows)
    assert "".join("".join(rows).split()) == "".join(text.split())


@given(texts, widths)
def test_padded_text_has_the_exact_width(text: str, width: int) -> None:
    line = text.replace("\n", " ")
    assert cells(pad_left(line, width)) == cells(pad_right(line, width)) == width
    assert cells(clip(line, width)) <= width


@pytest.mark.parametrize("text", ["a\u0301\u0302" * 2000, "é " * 2000, "字" * 2000])
def test_wrapping_measures_no_row_again(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To measure the row for each character took 60 ms for a message."""
    measured = 0

    def count(part: str) -> int:
        nonlocal measured
        measured += len(part)
        return cells(part)

    monkeypatch.setattr(module, "cells", count)
    assert len(wrap(text, 79)) > 10
    assert measured < 4 * len(text)

"""Text and rows in encodings that lack some characters."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tchat.ui.text.cells import cells
from tchat.ui.text.fallback import encodable, widen_ellipses
from tchat.ui.tui.rows import Row, encodable_row, row_width
from tests.hostile_text import EVERYTHING

ENCODINGS = ["ascii", "ISO-8859-1", "ISO-8859-15", "KOI8-R"]
SHOWN = "│─┤▸»·↳✗★●◐○⇡⇣↓▰▱↵␛…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("── new ──┤│", "-- new --||"),
        ("alice ▸ ● ★ ◐ ○", "alice > * @ ~ -"),
        ("für Åsa, naïve café", "fur Asa, naive cafe"),
        ("e\u0301", "e"),
        ("\u201cyes\u201d \u2013 it\u2019s", '"yes" - it\'s'),
        ("你好 👋", "? ?  ? "),
        ("\uff21b", "A b"),
        ("плохо", "?????"),
    ],
)
def test_characters_become_similar_ascii_ones(text: str, shown: str) -> None:
    assert encodable(text, "ascii") == shown


def test_characters_that_the_encoding_has_stay() -> None:
    assert encodable("für » · e\u0301 │", "ISO-8859-1") == "für » · é |"
    assert encodable("日本 ▸│★…", "EUC-JP") == "日本 >|@."


def test_no_picture_becomes_a_question_mark() -> None:
    assert all(encodable(picture, "ascii") not in ("?", "") for picture in SHOWN)


@given(st.text(), st.sampled_from(ENCODINGS))
@example(EVERYTHING, "ascii")
@example("🇩🇪🇫 👩‍👧 ⚠️", "ascii")
def test_fallback_keeps_the_width(text: str, encoding: str) -> None:
    shown = encodable(text, encoding)
    assert shown.encode(encoding).decode(encoding) == shown
    assert cells(shown) == cells(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ("a long na…", "a long ..."),
        ("wait… see   │", "wait... see │"),
        ("wait…    ", "wait...  "),
        ("wait… see", "wait… see"),
        (" a topic…  admin bob", " a top...  admin bob"),
        (" … ", " … "),
    ],
)
def test_ellipsis_becomes_three_dots_where_they_fit(row: str, shown: str) -> None:
    assert widen_ellipses(row) == shown
    assert cells(row) == cells(shown)


def test_ellipsis_takes_spaces_of_the_next_span() -> None:
    row: Row = [("wait…", "text"), ("     ", "text"), ("│", "rule"), (" ● bob…", "dim")]
    shown = encodable_row(row, "ascii")
    assert shown == [("wait...", "text"), ("   ", "text"), ("|", "rule"), (" * b...", "dim")]
    assert row_width(shown) == row_width(row)


def test_cursor_stays_in_place_in_the_input_line() -> None:
    row: Row = [("alice ▸ ", "prompt"), ("wait…", "input"), ("       ", "text")]
    assert encodable_row(row, "ascii") == [("alice > ", "prompt"), ("wait.", "input"), row[2]]

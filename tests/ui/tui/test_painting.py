"""Rows painted on terminals that measure characters in their own way: no letter stays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.ui.tui.painting import Capabilities, RowPainter
from tchat.ui.tui.rows import fill_row
from tests.ui.terminal import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.ui.tui.rows import Row

WIDTH, HEIGHT, TEXT = 30, 3, 20


def scroll(top: int, bottom: int, up: int) -> bytes:
    edge = bottom if up > 0 else top
    moved = b"\n" * up if up > 0 else b"\x1bM" * -up
    return b"\x1b[%d;%dr\x1b[%d;1H" % (top + 1, bottom + 1, edge + 1) + moved + b"\x1b[r"


CAPABILITIES = Capabilities(
    move=lambda y, x: b"\x1b[%d;%dH" % (y + 1, x + 1),
    erase=b"\x1b[K",
    wrap=b"\x1b[?7h",
    no_wrap=b"\x1b[?7l",
    plain=b"\x1b[m",
    styles={"title": b"\x1b[7m", "mention": b"\x1b[31m"},
    scroll=scroll,
)
SEQUENCES = [
    *("r\u200ds", "\U0001f3f3\ufe0f\u200d\U0001f308", "❤\ufe0f", "1\ufe0f\u20e3", "👍🏽", "☝🏽"),
    *("👨\u200d👩\u200d👧\u200d👦", "👩🏽\u200d🚀", "🇨🇭", "🇨", "क्ष", "हिन्दी", "\u1112\u1161\u11ab"),
    *("\u0301", "x\u0301", "가\u302e", "㉈", "你", "a", "b", " ", "   "),
]
texts = st.lists(st.sampled_from(SEQUENCES), max_size=14).map("".join)
spans = st.tuples(texts, st.sampled_from(["text", "title", "mention"]))
messages = st.lists(spans, max_size=3)


def of_c_library(emulator: Emulator) -> None:
    """Leave the widths of the C library."""


def every_emoji_narrow(emulator: Emulator) -> None:
    emulator.measure = lambda character: 1 if ord(character) >= 0x1F000 else None


def marks_without_cells(emulator: Emulator) -> None:
    emulator.measure = lambda character: 0 if character in "\u0940\u093f\u302e🏽" else None


TERMINALS = [of_c_library, every_emoji_narrow, marks_without_cells]


def row_of(message: Row, member: str) -> Row:
    return [*fill_row(message, TEXT), ("│", "rule"), *fill_row([(member, "title")], 9)]


class Page:
    """An emulator with rows on it; the middle one is painted again and again."""

    def __init__(self, prepare: Callable[[Emulator], None]) -> None:
        self.screen = Emulator(WIDTH, HEIGHT)
        prepare(self.screen)
        self._stream = pyte.ByteStream(self.screen)
        self._painted: list[Row] = [[] for _ in range(HEIGHT)]

    def paint(self, message: Row) -> list[str]:
        rows = [row_of(spans, f"● m{y}") for y, spans in enumerate([[], message, []])]
        painter = RowPainter(CAPABILITIES, WIDTH, HEIGHT)
        for y, (row, painted) in enumerate(zip(rows, self._painted, strict=True)):
            painter.paint_row(y, row, painted)
        self._painted = rows
        self._stream.feed(painter.finish((0, 0), moved=True))
        return self.screen.display


@pytest.mark.parametrize("prepare", TERMINALS)
@given(before=messages, after=messages)
def test_repainted_row_equals_a_fresh_one(
    prepare: Callable[[Emulator], None], before: Row, after: Row
) -> None:
    page, fresh = Page(prepare), Page(prepare)
    blank = page.paint([])
    page.paint(before)
    shown = page.paint(after)
    assert shown == fresh.paint(after)
    assert [shown[0], shown[2]] == [blank[0], blank[2]]
    assert page.screen.cells(1, TEXT, WIDTH) == [*"│● m1     "]


def paint_pages(*pages: list[str]) -> tuple[list[str], bytes]:
    """Paint pages one after the other; return the screen and what was sent for the last."""
    screen, sent = Emulator(WIDTH, 12), b""
    stream = pyte.ByteStream(screen)
    painted: list[Row] = []
    for page in pages:
        rows = [row_of([(text, "text")], "member") if text else [] for text in page]
        painter = RowPainter(CAPABILITIES, WIDTH, 12)
        painter.paint(rows, painted)
        sent, painted = painter.finish((0, 0), moved=True), rows
        stream.feed(sent)
    return screen.display, sent


lines = st.lists(st.sampled_from(["", "a", "क्ष 👍🏽", "b", "c", "d", "e 你", "f"]), max_size=14)


@given(lines, lines, st.integers(0, 12), st.integers(0, 6))
def test_scrolled_page_equals_a_fresh_one(
    before: list[str], added: list[str], start: int, up: int
) -> None:
    after = before[:start] + before[start + up :] + added
    assert paint_pages(before, after)[0] == paint_pages(after)[0]
    assert paint_pages(after, before)[0] == paint_pages(before)[0]


@pytest.mark.parametrize("up", [1, 3, -1, -3])
def test_text_that_moved_is_not_sent_again(up: int) -> None:
    page = [f"line {n}" for n in range(20)]
    before, after = ["title", *page[4:14], "end"], ["title", *page[4 + up : 14 + up], "end"]
    shown, sent = paint_pages(before, after)
    assert shown == paint_pages(after)[0]
    assert sent.count(b"line") == abs(up)


def test_unchanged_rows_send_nothing() -> None:
    row = row_of([("क्ष 👍🏽", "text")], "● m")
    painter = RowPainter(CAPABILITIES, WIDTH, HEIGHT)
    painter.paint_row(1, row, row)
    assert painter.finish((0, 0), moved=False) == b""
    assert painter.finish((2, 3), moved=True) == b"\x1b[3;4H"


def test_only_changed_letters_are_sent() -> None:
    painter = RowPainter(CAPABILITIES, WIDTH, HEIGHT)
    old, new = row_of([("hello world", "text")], "● m"), row_of([("hallo worlds", "text")], "● m")
    painter.paint_row(1, new, old)
    sent = painter.finish((0, 0), moved=False)
    assert sent == b"\x1b[?7l\x1b[2;2Ha\x1b[2;12Hs\x1b[?7h\x1b[1;1H"


def test_last_cell_stays_blank_where_rows_wrap() -> None:
    wrapping = replace(CAPABILITIES, wrap=b"", no_wrap=b"")
    painter = RowPainter(wrapping, 4, 2)
    painter.paint_row(0, [("abcd", "text")], [])
    painter.paint_row(1, [("ab你", "text")], [])
    sent = painter.finish((0, 0), moved=False)
    assert sent == b"\x1b[1;1Habcd\x1b[2;1Hab\x1b[1;1H"


def last_column(*rows: str, combines: bool = True) -> tuple[list[str], bytes]:
    """Paint rows of 4 cells on a terminal; return its screen, and what was sent."""
    painter = RowPainter(replace(CAPABILITIES, combines=combines), 4, len(rows))
    painter.paint([[(row, "text")] for row in rows], [])
    sent = painter.finish((0, 0), moved=True)
    screen = Emulator(4, len(rows))
    pyte.ByteStream(screen).feed(sent)
    return screen.display, sent


def test_mark_in_the_last_column_is_written_wrapping() -> None:
    shown, sent = last_column("abcด้", "next")
    assert shown == ["abcด้", "next"]
    assert "\x1b[?7hด้\x1b[?7l\x1b[2;1H".encode() in sent


@pytest.mark.parametrize("text", ["abด้c", "ab你", "abc👍", "abc\u1161"])
def test_other_last_cells_are_written_without_wrapping(text: str) -> None:
    assert last_column(text, "next")[1].count(b"\x1b[?7h") == 1, "only at the end"


def test_last_row_never_wraps() -> None:
    assert last_column("next", "abcด้")[1].count(b"\x1b[?7h") == 1, "only at the end"


def test_other_terminals_never_wrap_while_painting() -> None:
    assert last_column("abcด้", "next", combines=False)[1].count(b"\x1b[?7h") == 1


def test_mark_that_takes_a_cell_leaves_nothing_below() -> None:
    """The next row is painted again, also if it has not changed."""
    screen = Emulator(4, 3)
    screen.measure = lambda character: 1 if character == "\u0e49" else None
    stream = pyte.ByteStream(screen)
    painted: list[Row] = []
    for first in ("abcd", "abcด้"):
        rows: list[Row] = [[(text, "text")] for text in (first, "next", "end")]
        painter = RowPainter(replace(CAPABILITIES, combines=True), 4, 3)
        painter.paint(rows, painted)
        stream.feed(painter.finish((0, 0), moved=True))
        painted = rows
    assert screen.display[1:] == ["next", "end "]

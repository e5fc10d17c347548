"""Lay out messages: each line becomes a block of wrapped rows with time, name, mark and text.

    ── Sunday 22 November 2026 ─────    above a line: a new day, or where unread messages begin
     10:05  carol │ ↳ bob: 1.2 MB       the message that this one replies to
     10:05      · │ thanks!             another message of the same person, shortly after
     10:06  alice » @carol, so do I     the mark: » mentions me, … is being sent, ✗ has failed
     10:06      * │ bob nods            *  is an action, -- a notice of the program, ! an error

Blocks are laid out lazily, when their height or rows are asked for. A block's height depends on the
line, the line before it and the width of the pane, never on what else is visible. So a block and
one of its rows together are a stable position in the log.
"""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import chain, takewhile
from types import MappingProxyType
from typing import TYPE_CHECKING

from tchat.ui.chat.lines import date_text, day_of
from tchat.ui.text.cells import CACHED_BYTES, cells, clip, expand_tabs, pad_left, wrap
from tchat.ui.text.widths import cache_texts
from tchat.ui.tui.rows import Row, Span, fill_row, rule_row
from tchat.ui.tui.styles import name_style

if TYPE_CHECKING:
    from tchat.ui.chat.lines import Line
    from tchat.ui.text.cells import Hang
    from tchat.ui.tui.model import Model

PAST_HINTS = MappingProxyType(
    {"more": "PageUp: earlier messages", "loading": "fetching earlier messages…"}
)
"""Hints above the first line, by `Model.past`."""

_TIME_FORMAT = "%H:%M"
_WIDTH_WITH_TIME = 30
_SPACIOUS_WIDTH = 44
_MIN_NAME_WIDTH = 4
_RECENT_LINES = 200
_CONTINUATION_MS = 5 * 60 * 1000
_EDITED = " (edited)"
_DELETED = "message deleted"
_SORT_SIGNS = MappingProxyType({"action": "*", "notice": "--", "error": "!"})
_FATE_MARKS = MappingProxyType({"pending": "…", "failed": "✗"})
_URL = re.compile(r"""(?:https?|ftp)://[^\s<>"]*[^\s<>".,:;!?')\]}»]""")

Ranges = tuple[tuple[int, int], ...]
"""Parts of a text as pairs of character indices, the second one exclusive."""


class Blocks:
    """A model's lines, then those being sent, as blocks in a pane of `width` cells."""

    def __init__(self, model: Model, width: int) -> None:
        self._model = model
        self._width = width
        self._columns = _columns_of(model, width)
        self._heights: dict[int, int] = {}
        self._wrapped: dict[int, tuple[str, ...]] = {}
        """The wrapped texts of lines, by `id`: a row of a long message must not wrap all of it."""

    def __len__(self) -> int:
        return len(self._model.lines) + len(self._model.pending)

    def height(self, index: int) -> int:
        """Return how many rows a block has; at least one."""
        if index not in self._heights:
            text_height = self._text_height(self._line(index))
            self._heights[index] = self.count_rows_above(index) + text_height
        return self._heights[index]

    def count_rows_above(self, index: int) -> int:
        """Return how many rows of a block are above its line: hint, new day, unread mark."""
        return len(self._rows_above(index))

    def rows(self, index: int, start: int, stop: int, *, first: bool) -> list[Row]:
        """Return the rows of a block from `start` to before `stop`, from the top down.

        With `first`, they are at the top of the pane. Then the topmost row shows the author's name,
        even if the block's own first row is not visible.
        """
        above = self._rows_above(index)
        line = self._line(index)
        named = not self._continues(index)
        rows = above[start:stop]
        for n in range(max(start - len(above), 0), stop - len(above)):
            top = first and n == start - len(above)
            columns = self._left_columns(line, n, named=named or top, top=top)
            rows.append(fill_row([*columns, *self._text_spans(line, n)], self._width))
        return rows

    def _line(self, index: int) -> Line:
        stored = len(self._model.lines)
        if index < stored:
            return self._model.lines[index]
        return self._model.pending[index - stored]

    # ------------------------------------------------------------------ rows above a line

    def _rows_above(self, index: int) -> list[Row]:
        line = self._line(index)
        rows: list[Row] = []
        if index == 0 and self._model.past in PAST_HINTS:
            rows.append(fill_row([(f" {PAST_HINTS[self._model.past]}", "dim")], self._width))
        if index == 0 or day_of(line.at) != day_of(self._line(index - 1).at):
            rows.append(rule_row(date_text(line.at, short=self._width < 36), self._width, "day"))
        if self._is_first_new(index):
            rows.append(rule_row("new", self._width, "new"))
        return rows

    def _is_first_new(self, index: int) -> bool:
        """Return whether a line is the first unread one.

        Lines without an event do not count, and neither do this person's own messages.
        """
        new_from, user = self._model.new_from, self._model.user
        line = self._line(index)
        if not 0 < new_from <= line.seq or line.is_by(user):
            return False
        earlier = (self._line(n) for n in range(index - 1, -1, -1))
        return (
            next((line.seq for line in earlier if line.seq and not line.is_by(user)), 0) < new_from
        )

    def _continues(self, index: int) -> bool:
        """Return whether a message directly follows one of the same author, and shortly after."""
        line = self._line(index)
        if index == 0 or line.sort != "message" or self._rows_above(index):
            return False
        earlier = self._line(index - 1)
        return (
            earlier.sort == "message"
            and earlier.who == line.who
            and 0 <= line.at - earlier.at < _CONTINUATION_MS
        )

    # ------------------------------------------------------------------ a row of a line

    def _left_columns(self, line: Line, n: int, *, named: bool, top: bool) -> Row:
        """Return the time, name and mark left of the text in row `n` of a line."""
        columns = self._columns
        if not columns.mark:
            return []
        at = time.strftime(_TIME_FORMAT, time.localtime(line.at / 1000)) if n == 0 else ""
        name = _name_span(line, columns.name, named=named) if n == 0 or top else ("", "text")
        return [
            (f"{at:>{columns.time - 1}} " if columns.time else "", "dim"),
            (pad_left(name[0], columns.name), name[1]),
            (f" {_mark(line) if n == 0 else '│'} ", _mark_style(line) if n == 0 else "rule"),
        ]

    def _text_height(self, line: Line) -> int:
        texts = self._texts(line)
        edited_below = _is_edited(line) and not self._edited_fits(texts)
        return bool(line.reply) + len(texts) + edited_below

    def _text_spans(self, line: Line, n: int) -> Row:
        """Return the text in row `n` of a line: quotation, wrapped text, or "(edited)"."""
        if line.reply and n == 0:
            return [(clip(f"↳ {line.reply}", self._columns.text), "dim")]
        texts = self._texts(line)
        n -= bool(line.reply)
        if n == len(texts):
            return [(_EDITED.strip(), "dim")]
        row = self._spans(line, n, texts[n])
        if n == len(texts) - 1 and _is_edited(line) and self._edited_fits(texts):
            row.append((_EDITED, "dim"))
        return row

    def _edited_fits(self, texts: tuple[str, ...]) -> bool:
        return cells(texts[-1]) + len(_EDITED) <= self._columns.text

    def _texts(self, line: Line) -> tuple[str, ...]:
        texts = self._wrapped.get(id(line))
        if texts is None:
            texts = wrap(_text_of(line), self._columns.text, self._hang(line), self._prefix(line))
            self._wrapped[id(line)] = texts
        return texts

    def _hang(self, line: Line) -> Hang:
        """Return where continuation rows begin: text to be copied gets no spaces of its own."""
        if self._model.bare:
            return "none"
        return "column" if line.sort == "notice" else "indent"

    def _prefix(self, line: Line) -> str:
        """Return the prefix of the text: an action's author; without columns, mark and name."""
        mark = "" if self._columns.mark or _mark(line) == "│" else f"{_mark(line)} "
        if line.sort == "action":
            return f"{mark}{line.who} " if self._columns.mark else f"{mark}* {line.who} "
        if self._columns.mark:
            return ""
        return f"{mark}{line.who}: " if line.sort == "message" else f"{_SORT_SIGNS[line.sort]} "

    def _spans(self, line: Line, n: int, text: str) -> Row:
        """Return row `n` of a line's wrapped text with prefix, links and style."""
        if 0 < line.seq == self._model.found:
            return [(text, "selection")]
        style = _text_style(line)
        prefix = self._prefix(line) if n == 0 else ""
        if prefix and line.who and text.startswith(prefix):
            shown = name_style(line.who) if style == "text" else style
            rest = text.removeprefix(prefix)
            links = self._links(line, n)
            return [(prefix, shown), *_style_links(rest, style, links, len(prefix))]
        return _style_links(text, style, self._links(line, n), 0)

    def _links(self, line: Line, n: int) -> Ranges:
        """Return which parts of row `n` of a line's wrapped text belong to a URL."""
        if "://" not in line.text or line.deleted:
            return ()
        hang, prefix = self._hang(line), self._prefix(line)
        return _link_ranges(line.text, self._columns.text, hang, prefix).get(n, ())


# ---------------------------------------------------------------------- columns


@dataclass(frozen=True, slots=True)
class _Columns:
    """Widths in cells of the columns of a row: time, name, mark and text.

    In the bare view there is only text, and each line begins with its author, so that it can be
    copied whole.
    """

    time: int
    name: int
    mark: int
    text: int


def _columns_of(model: Model, width: int) -> _Columns:
    """Return the columns of a pane.

    The name column is as wide as the members' and recent authors' names, up to a limit: its width
    changes when somebody with a longer name appears, but never during scrolling. The limit is low
    because one long name takes the room from every message.
    """
    if model.bare:
        return _Columns(0, 0, 0, width)
    spacious = width >= _SPACIOUS_WIDTH
    time_width = 5 + 1 + spacious if width >= _WIDTH_WITH_TIME else 0
    limit = 10 if width >= 60 else 9 if spacious else 7 if time_width else 6
    name = _name_width(model, limit)
    return _Columns(time_width, name, 3, width - time_width - name - 3 - spacious)


def _name_width(model: Model, limit: int) -> int:
    widest = _MIN_NAME_WIDTH
    recent = (line.who for line in model.lines[-_RECENT_LINES:])
    for name in chain([model.user], recent, (person.name for person in model.people)):
        # A code point takes at most two cells, so in large groups most names need not be measured.
        if 2 * len(name) > widest:
            widest = max(widest, cells(name))
        if widest >= limit:
            return limit
    return widest


# ---------------------------------------------------------------------- parts of a row


def _name_span(line: Line, width: int, *, named: bool) -> Span:
    """Return the name column of a line: a sign, the author, or a dot for "the same author"."""
    if line.sort != "message":
        return _SORT_SIGNS[line.sort], "error" if line.sort == "error" else "dim"
    return (clip(line.who, width), name_style(line.who)) if named else ("·", "dim")


def _mark(line: Line) -> str:
    return _FATE_MARKS.get(line.fate) or ("»" if line.mention else "│")


def _mark_style(line: Line) -> str:
    return line.fate or ("mention" if line.mention else "rule")


def _text_style(line: Line) -> str:
    if line.deleted:
        return "dim"
    if line.sort in ("notice", "error"):
        return line.sort
    return line.fate or ("mention" if line.mention else "text")


def _text_of(line: Line) -> str:
    return _DELETED if line.deleted else line.text


def _is_edited(line: Line) -> bool:
    return line.edited and not line.deleted


def _style_links(text: str, style: str, links: Ranges, before: int) -> Row:
    """Return a text as spans; the indices in `links` begin `before` characters before the text."""
    row: Row = []
    done = 0
    for start, stop in links:
        begin, end = max(start - before, 0), stop - before
        row += [(text[done:begin], style), (text[begin:end], "url")]
        done = end
    return [span for span in [*row, (text[done:], style)] if span[0]]


def _begins_before(end: int, part: tuple[int, int]) -> bool:
    return part[0] < end


def _size_of_ranges(found: dict[int, Ranges]) -> int:
    return sys.getsizeof(found) + 200 * sum(map(len, found.values()))


@cache_texts(1024, CACHED_BYTES, _size_of_ranges)
def _link_ranges(text: str, width: int, hang: Hang, prefix: str) -> dict[int, Ranges]:
    """Return, for each row of a wrapped text, the parts that belong to a URL, if there are any.

    URLs are found in the whole text, because one that wraps cannot be recognised row by row.
    """
    rows = wrap(text, width, hang, prefix)
    text = prefix + expand_tabs(text)
    urls = deque(match.span() for match in _URL.finditer(text))
    found: dict[int, Ranges] = {}
    at = 0
    for n, row in enumerate(rows):
        shown = row.lstrip(" ")  # wrapping drops and adds spaces, and drops line breaks
        margin = len(row) - len(shown)
        at = text.index(shown, at)
        end = at + len(shown)
        while urls and urls[0][1] <= at:
            urls.popleft()
        here = takewhile(partial(_begins_before, end), urls)
        parts = [(max(a, at), min(b, end)) for a, b in here]
        if ranges := tuple((a - at + margin, b - at + margin) for a, b in parts):
            found[n] = ranges
        at = end
    return found

"""Lines laid out: each is a block of rows, and no block is laid out before somebody looks at it.

    ── Sunday 22 November 2026 ─────    above a line: a new day, where the unseen begins
     10:05  carol │ ↳ bob: 1.2 MB       what it answers
     10:05      · │ thanks!             said by the same person, shortly after
     10:06  alice » @carol, so do I     the mark: » is meant for me, … is on its way, ✗ has failed
     10:06      * │ bob nods            *  is done, -- is told by the program, ! is refused

A block's height follows from the line, the one before it and the width of the pane, never from
what else is in sight: so a place in the log is a block and a row of it, whatever is around it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING

from tchat.ui.text.cells import cells, clip, right, wrap
from tchat.ui.tui.rows import Row, Span, fill_row, rule
from tchat.ui.tui.styles import name_style

if TYPE_CHECKING:
    from tchat.ui.chat.lines import Line
    from tchat.ui.tui.model import Model

PAST = MappingProxyType({"more": "PgUp: earlier messages", "loading": "fetching earlier messages…"})
"""What stands above the first line."""

_STAMP = "%H:%M"
_STAMPED = 30
_AIRY = 44
_LEAST_NAME = 4
_LATELY = 200
_TOGETHER_MS = 5 * 60 * 1000
_EDITED = " (edited)"
_DELETED = "message deleted"
_SIGNS = MappingProxyType({"action": "*", "notice": "--", "error": "!"})
_MARKS = MappingProxyType({"pending": "…", "failed": "✗"})
_URL = re.compile(r"""(?:https?|ftp)://[^\s<>"]*[^\s<>".,:;!?')\]}»]""")


@dataclass(frozen=True, slots=True)
class Columns:
    """How many cells the parts of a row have: the time, the name, the mark, and the text.

    Without any but the text, each line begins with who says it, so that it can be copied whole.
    """

    stamp: int
    name: int
    mark: int
    text: int


def columns_of(model: Model, width: int) -> Columns:
    """Return the columns of a pane.

    That of the names is as wide as the members' and those of late, within limits: it changes
    when somebody new has a longer name, and never while one only reads.
    """
    if model.bare:
        return Columns(0, 0, 0, width)
    airy = width >= _AIRY
    stamp = 5 + 1 + airy if width >= _STAMPED else 0
    most = 12 if width >= 60 else 9 if airy else 7 if stamp else 6
    name = _widest(model, most)
    return Columns(stamp, name, 3, width - stamp - name - 3 - airy)


def _widest(model: Model, most: int) -> int:
    widest = _LEAST_NAME
    lately = (line.who for line in model.lines[-_LATELY:])
    for name in chain([model.user], lately, (person.name for person in model.people)):
        if 2 * len(name) > widest:
            widest = max(widest, cells(name))
        if widest >= most:
            return most
    return widest


class Blocks:
    """A model's lines and, behind them, what is on its way, in a pane of `width` cells."""

    def __init__(self, model: Model, width: int) -> None:
        self._model = model
        self._width = width
        self._columns = columns_of(model, width)
        self._heights: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._model.lines) + len(self._model.pending)

    def height(self, index: int) -> int:
        """Return how many rows a block has; at least one."""
        if index not in self._heights:
            self._heights[index] = self.head(index) + self._body_height(self._line(index))
        return self._heights[index]

    def head(self, index: int) -> int:
        """Return how many rows of a block are above its line: a new day, where new ones begin."""
        return len(self._above(index))

    def rows(self, index: int, start: int, stop: int, *, first: bool) -> list[Row]:
        """Return some rows of a block, from the top down.

        If the `first` of them is the first of the pane, it says whose message that is.
        """
        above = self._above(index)
        line = self._line(index)
        named = not self._follows(index)
        rows = above[start:stop]
        for n in range(max(start - len(above), 0), stop - len(above)):
            top = first and n == start - len(above)
            row = [*self._lead(line, n, named=named or top, top=top), *self._body(line, n)]
            rows.append(fill_row(row, self._width))
        return rows

    def _line(self, index: int) -> Line:
        stored = len(self._model.lines)
        if index < stored:
            return self._model.lines[index]
        return self._model.pending[index - stored]

    # ------------------------------------------------------------------ what stands above

    def _above(self, index: int) -> list[Row]:
        line = self._line(index)
        rows: list[Row] = []
        if index == 0 and self._model.past in PAST:
            rows.append(fill_row([(f" {PAST[self._model.past]}", "dim")], self._width))
        if index == 0 or _day(line.at) != _day(self._line(index - 1).at):
            rows.append(rule(_date(line.at, self._width), self._width, "day"))
        if self._begins_new(index):
            rows.append(rule("new", self._width, "new"))
        return rows

    def _begins_new(self, index: int) -> bool:
        """Return whether a line is the first whose event was not seen."""
        new_from = self._model.new_from
        if not 0 < new_from <= self._line(index).seq:
            return False
        earlier = (self._line(n).seq for n in range(index - 1, -1, -1))
        return next((seq for seq in earlier if seq), 0) < new_from

    def _follows(self, index: int) -> bool:
        """Return whether a message goes on with what its author has just said."""
        line = self._line(index)
        if index == 0 or line.sort != "message" or self._above(index):
            return False
        earlier = self._line(index - 1)
        return (
            earlier.sort == "message"
            and earlier.who == line.who
            and 0 <= line.at - earlier.at < _TOGETHER_MS
        )

    # ------------------------------------------------------------------ a row of a line

    def _lead(self, line: Line, n: int, *, named: bool, top: bool) -> Row:
        """Return what stands left of the text in row `n` of a line."""
        columns = self._columns
        if not columns.mark:
            return []
        stamp = time.strftime(_STAMP, time.localtime(line.at / 1000)) if n == 0 else ""
        name = _name(line, columns.name, named=named) if n == 0 or top else ("", "text")
        return [
            (f"{stamp:>{columns.stamp - 1}} " if columns.stamp else "", "dim"),
            (right(name[0], columns.name), name[1]),
            (f" {_mark(line) if n == 0 else '│'} ", _mark_style(line) if n == 0 else "rule"),
        ]

    def _body_height(self, line: Line) -> int:
        texts = self._texts(line)
        return bool(line.reply) + len(texts) + (self._edited(line) and not self._has_room(texts))

    def _body(self, line: Line, n: int) -> Row:
        """Return the text in row `n` of a line."""
        if line.reply and n == 0:
            return [(clip(f"↳ {line.reply}", self._columns.text), "dim")]
        texts = self._texts(line)
        n -= bool(line.reply)
        if n == len(texts):
            return [(_EDITED.strip(), "dim")]
        row = self._spans(line, n, texts[n])
        if n == len(texts) - 1 and self._edited(line) and self._has_room(texts):
            row.append((_EDITED, "dim"))
        return row

    def _edited(self, line: Line) -> bool:
        return line.edited and not line.deleted

    def _has_room(self, texts: tuple[str, ...]) -> bool:
        return cells(texts[-1]) + len(_EDITED) <= self._columns.text

    def _texts(self, line: Line) -> tuple[str, ...]:
        text = self._leader(line) + (_DELETED if line.deleted else line.text)
        return wrap(text, self._columns.text)

    def _leader(self, line: Line) -> str:
        """Return what is said before a text in its own column."""
        mark = "" if self._columns.mark or _mark(line) == "│" else f"{_mark(line)} "
        if line.sort == "action":
            return f"{mark}{line.who} " if self._columns.mark else f"{mark}* {line.who} "
        if self._columns.mark:
            return ""
        return f"{mark}{line.who}: " if line.sort == "message" else f"{_SIGNS[line.sort]} "

    def _spans(self, line: Line, n: int, text: str) -> Row:
        style = _text_style(line)
        leader = self._leader(line) if n == 0 else ""
        if leader and line.who and text.startswith(leader):
            shown = name_style(line.who) if style == "text" else style
            rest = _with_urls(text.removeprefix(leader), style, self._links(line, n), len(leader))
            return [(leader, shown), *rest]
        return _with_urls(text, style, self._links(line, n), 0)

    def _links(self, line: Line, n: int) -> tuple[tuple[int, int], ...]:
        """Return which parts of a text's row `n` belong to an address."""
        if "://" not in line.text or line.deleted:
            return ()
        return _links(self._leader(line) + line.text, self._columns.text).get(n, ())


def _name(line: Line, width: int, *, named: bool) -> Span:
    """Return what stands in the column of names, before the first row of a line."""
    if line.sort != "message":
        return _SIGNS[line.sort], "error" if line.sort == "error" else "dim"
    return (clip(line.who, width), name_style(line.who)) if named else ("·", "dim")


def _mark(line: Line) -> str:
    return _MARKS.get(line.fate) or ("»" if line.mention else "│")


def _mark_style(line: Line) -> str:
    return line.fate or ("mention" if line.mention else "rule")


def _text_style(line: Line) -> str:
    if line.deleted:
        return "dim"
    if line.sort in ("notice", "error"):
        return line.sort
    return line.fate or ("mention" if line.mention else "text")


def _with_urls(text: str, style: str, links: tuple[tuple[int, int], ...], before: int) -> Row:
    """Return a text in spans; `links` are places of addresses in it and the `before` before it."""
    row: Row = []
    done = 0
    for start, stop in links:
        begin, end = max(start - before, 0), stop - before
        row += [(text[done:begin], style), (text[begin:end], "url")]
        done = end
    return [span for span in [*row, (text[done:], style)] if span[0]]


@lru_cache(maxsize=64)
def _links(text: str, width: int) -> dict[int, tuple[tuple[int, int], ...]]:
    """Return where in which rows of a wrapped text there are addresses, whole or in part."""
    addresses = [match.span() for match in _URL.finditer(text)]
    found: dict[int, tuple[tuple[int, int], ...]] = {}
    at = 0
    for n, row in enumerate(wrap(text, width)):
        at = text.index(row, at)
        parts = [(max(a - at, 0), min(b - at, len(row))) for a, b in addresses if a < at + len(row)]
        found[n] = tuple((start, stop) for start, stop in parts if start < stop)
        addresses = [(a, b) for a, b in addresses if b > at + len(row)]
        at += len(row)
    return found


# ---------------------------------------------------------------------- days


def _day(at: int) -> tuple[int, int]:
    moment = time.localtime(at / 1000)
    return moment.tm_year, moment.tm_yday


def _date(at: int, width: int) -> str:
    full = "%A %d %B %Y" if width >= 36 else "%a %d %b %Y"
    return time.strftime(full, time.localtime(at / 1000))

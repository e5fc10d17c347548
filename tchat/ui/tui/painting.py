"""Differential painting: the bytes that update the terminal from the old rows to the new. Pure.

Curses would lay out text by its own table of widths, code point by code point. Where a terminal's
table differs, the rest of the row would be out of place, and parts of it would never be cleared.
Here the cursor is positioned explicitly after each grapheme whose width is not certain
(`is_certain`), so that the text after it is in place, whatever width the terminal gave it. If a row
has or had such a grapheme, it is erased from there to its end before it is painted, so that no part
of the old text stays.

While rows are painted, line wrap at the right edge is off, so that no text reaches the next row.
Then the cursor stays on a row's last cell after it was written, and tmux would add a combining mark
to the cell before: such a cell is written with line wrap on. A terminal that gives the mark a cell
of its own puts it into the next row, whose beginning is therefore painted again.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from operator import ne
from typing import TYPE_CHECKING

from tchat.ui.text.widths import is_certain, shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tchat.ui.tui.rows import Row

Cell = tuple[str, bytes]
"""A cell's text, and the sequence of its style; the right half of a wide character has no text."""

_BLANK: Cell = (" ", b"")
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")
# Up to this many unchanged cells between changed ones are written again: moving the cursor would
# take more bytes.
_SMALL_GAP = 6
# A combining mark may be shown in so many cells.
_MARK_WIDTH = 2
# If scrolling would save only this many rows, they are painted again instead.
_FEWEST_SCROLLED = 2


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The sequences that control a terminal.

    `move` returns the sequence that moves the cursor to a row and column, counted from 0. `erase`
    clears a row from the cursor on. `wrap` and `no_wrap` switch line wrap at the right edge on and
    off; if they are empty, it is always on, and the last cell of the screen stays blank. `combines`
    says that combining marks are added to the cell before the cursor. `plain` resets all
    attributes; after it, the sequence in `styles` sets those of a style. `scroll` returns the
    sequence that moves the text from a first to a last row up by a number of rows, or down if the
    number is negative.
    """

    move: Callable[[int, int], bytes]
    erase: bytes
    wrap: bytes
    no_wrap: bytes
    plain: bytes
    styles: Mapping[str, bytes]
    combines: bool = False
    scroll: Callable[[int, int, int], bytes] | None = None
    encoding: str = "utf-8"


class RowPainter:
    """Collects the bytes that change rows of a screen of `width` by `height` cells."""

    def __init__(self, terminal: Capabilities, width: int, height: int) -> None:
        self._terminal = terminal
        self._width = width
        self._height = height
        self._out: list[bytes] = []
        self._look = b""
        self._reached: set[int] = set()

    def paint(self, rows: list[Row], painted: list[Row]) -> None:
        """Paint `rows` over `painted`, both from the top of the screen; missing rows are blank."""
        count = min(max(len(rows), len(painted)), self._height)
        new, old = _exactly(rows, count), _exactly(painted, count)
        changed = sum(map(ne, new, old))
        scroll = self._terminal.scroll if changed > _FEWEST_SCROLLED else None
        if scroll and (found := _find_scroll(new, old)):
            top, bottom, up = found
            self._out.append(scroll(top, bottom, up))
            moved = old[top : bottom + 1]
            blank: list[Row] = [[] for _ in range(abs(up))]
            old[top : bottom + 1] = moved[up:] + blank if up > 0 else blank + moved[:up]
        for y, (row, before) in enumerate(zip(new, old, strict=True)):
            if row != before or y in self._reached:
                self.paint_row(y, row, before)

    def paint_row(self, y: int, row: Row, painted: Row) -> None:
        """Paint `row` over `painted`; a row without spans is blank."""
        new, old = self._lay_out(y, row), self._lay_out(y, painted)
        reached = range(_MARK_WIDTH) if y in self._reached else ()
        changed = [x for x in range(self._width) if new[x] != old[x] or x in reached]
        if not changed:
            return
        doubts = {text for text, _ in {*new, *old} if text and not is_certain(text)}
        if not doubts:
            for start, stop in _runs(changed):
                self._paint_cells(y, new, start, stop)
        else:
            pairs = enumerate(zip(new, old, strict=True))
            doubtful = next(x for x, pair in pairs if pair[0][0] in doubts or pair[1][0] in doubts)
            start = min(doubtful, changed[0])
            self._move(y, start)
            self._erase()
            self._paint_cells(y, new, start, self._width)

    def finish(self, cursor: tuple[int, int], *, moved: bool) -> bytes:
        """Return the bytes that paint the rows and then move the cursor to a row and column.

        `moved` says that the cursor is not there already.
        """
        terminal = self._terminal
        if self._out:
            self._set_look(b"")
            self._out = [terminal.no_wrap, *self._out, terminal.wrap]
        if self._out or moved:
            self._move(*cursor)
        return b"".join(self._out)

    def _lay_out(self, y: int, row: Row) -> list[Cell]:
        """Return the cells of a row, of exactly the screen's width."""
        line: list[Cell] = []
        for text, style in row:
            look = self._terminal.styles.get(style, b"")
            if text.isascii() and text.isprintable():
                line += _ascii_cells(text, look)
                continue
            for drawn, width in shape(_CONTROL.sub("", text)):
                if width:
                    line += [(drawn, look), *[("", look)] * (width - 1)]
                elif line:
                    _add_mark(line, drawn)
        room = self._width
        if not self._terminal.no_wrap and y == self._height - 1:
            room -= 1
        if len(line) > room and not line[room][0]:  # only half of a wide character would fit
            room = max(x for x in range(room) if line[x][0])
        return line[:room] + [_BLANK] * (self._width - min(room, len(line)))

    def _paint_cells(self, y: int, line: list[Cell], start: int, stop: int) -> None:
        """Paint cells from `start` to before `stop`; in a doubtful row they were erased before."""
        end = stop
        while stop == self._width and end > start and line[end - 1] == _BLANK:
            end -= 1
        self._move(y, start)
        x = start
        while x < end:
            text, look = line[x]
            if text.isascii() and look == self._look:
                last = x + 1
                while last < end and line[last][1] == look and line[last][0].isascii():
                    last += 1
                self._write("".join(text for text, _ in line[x:last]))
                x = last
                continue
            width = _width_at(line, x)
            self._set_look(look)
            if is_certain(text):
                self._write(text)
            else:
                if look:  # the style may have a background: fill all cells with it
                    self._write(" " * width)
                    self._move(y, x)
                if x == self._width - 1 and self._wraps(y, text):
                    self._out += [self._terminal.wrap, self._encode(text), self._terminal.no_wrap]
                    self._reached.add(y + 1)
                else:
                    self._write(text)
                self._move(y, x + width)
            x += width
        if end < stop:
            self._move(y, end)
            self._erase()

    def _wraps(self, y: int, text: str) -> bool:
        """Return whether the last cell of a row is written while text wraps: a letter with marks.

        The last row is an exception: a mark with a cell of its own would scroll the screen.
        """
        is_right = self._terminal.combines and y < self._height - 1
        return is_right and is_certain(text[0]) and all(map(_is_combining, text[1:]))

    def _write(self, text: str) -> None:
        self._out.append(self._encode(text))

    def _encode(self, text: str) -> bytes:
        return text.encode(self._terminal.encoding, "replace")

    def _move(self, y: int, x: int) -> None:
        if x < self._width:
            self._out.append(self._terminal.move(y, x))

    def _erase(self) -> None:
        self._set_look(b"")
        self._out.append(self._terminal.erase)

    def _set_look(self, look: bytes) -> None:
        if look != self._look:
            self._out += [self._terminal.plain, look]
            self._look = look


@lru_cache(maxsize=512)
def _ascii_cells(text: str, look: bytes) -> tuple[Cell, ...]:
    return tuple((character, look) for character in text)


def _is_combining(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Me")


def _exactly(rows: list[Row], count: int) -> list[Row]:
    missing: list[Row] = [[] for _ in range(count - len(rows))]
    return [*islice(rows, count), *missing]


def _find_scroll(new: list[Row], old: list[Row]) -> tuple[int, int, int] | None:
    """Find text that only moved; return the first and last row to scroll, and how far up."""
    best, found = _FEWEST_SCROLLED, None
    for up in (*range(1, len(new) - best), *range(-1, best - len(new), -1)):
        start = None
        for y in range(max(0, -up), min(len(new), len(new) - up) + 1):
            if y < len(new) and 0 <= y + up < len(new) and new[y] == old[y + up] != []:
                start = y if start is None else start
                continue
            if start is not None:
                saved = sum(new[row] != old[row] for row in range(start, y))
                if saved > best:
                    best, found = saved, (min(start, start + up), max(y, y + up) - 1, up)
                start = None
    return found


def _add_mark(line: list[Cell], mark: str) -> None:
    """Add a mark without a cell of its own to the character before it."""
    x = max(x for x, (text, _) in enumerate(line) if text)
    line[x] = (line[x][0] + mark, line[x][1])


def _width_at(line: list[Cell], x: int) -> int:
    """Return how many cells the character at `x` takes."""
    end = x + 1
    while end < len(line) and not line[end][0]:
        end += 1
    return end - x


def _runs(changed: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the start and the exclusive end of each run of changed cells, across small gaps."""
    start = last = changed[0]
    for x in changed[1:]:
        if x - last > _SMALL_GAP:
            yield start, last + 1
            start = x
        last = x
    yield start, last + 1

"""Scrolling: viewport and scroll position over lines that are laid out lazily.

A scroll position names the lowest visible row: a block, and a row in it. Scrolling goes from block
to block, so its cost depends on the distance, not on the number of lines.

A position above the bottom is stable: new lines are added below it, and after a resize the same
line is the lowest. When older lines are inserted above, the caller adds their number to the index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tchat.ui.tui.bars import MOST_MISSED
from tchat.ui.tui.blocks import Blocks
from tchat.ui.tui.layout import layout_of
from tchat.ui.tui.model import Position

if TYPE_CHECKING:
    from tchat.ui.tui.layout import Layout
    from tchat.ui.tui.model import Model

_PAGE_OVERLAP = 2
"""How many rows of a page stay visible on the next one."""


class BlockRow(NamedTuple):
    """A row of a block, counted from its top."""

    block: int
    row: int


class BlockSlice(NamedTuple):
    """The rows of a block that are visible: from `start` to before `stop`."""

    block: int
    start: int
    stop: int


class Viewport(NamedTuple):
    """The visible rows from the top down; `top` says that the first row of all is among them.

    `position` is the scroll position of the model, or the nearest one that exists; None at the
    bottom.
    """

    slices: list[BlockSlice]
    top: bool
    position: Position | None


def viewport_at(blocks: Blocks, position: Position | None, height: int) -> Viewport:
    """Return the viewport of `height` rows at a position; fewer rows if there are no more."""
    if not len(blocks):
        return Viewport([], top=True, position=None)
    lowest = _fill_from_below(blocks, _block_row(blocks, position), height)
    slices = _slices(blocks, lowest, height)
    return Viewport(slices, slices[0][:2] == (0, 0), _position(blocks, lowest))


def up(model: Model, rows: int, width: int, height: int) -> Position | None:
    """Return the position `rows` rows higher, on a screen of `width` by `height` cells.

    The highest position has the first line at the top (`Viewport.top`). None means the bottom.
    """
    return _scroll(model, -rows, width, height)


def down(model: Model, rows: int, width: int, height: int) -> Position | None:
    """Return the position `rows` rows lower; None at the bottom."""
    return _scroll(model, rows, width, height)


def page(model: Model, width: int, height: int) -> int:
    """Return how many rows a page is: the pane's height less a small overlap."""
    layout = layout_of(model, width, height)
    return max(layout.pane_height - _PAGE_OVERLAP, 1) if layout else 1


def to_line(model: Model, index: int, width: int, height: int) -> Position | None:
    """Return the position at which a line is a third of the pane below the top."""
    layout = layout_of(model, width, height)
    return _with_rows_above(model, index, layout, layout.pane_height // 3 if layout else 0)


def to_output(model: Model, index: int, width: int, height: int) -> Position | None:
    """Return the position that shows a command's output, which begins with line `index`.

    None, which is the bottom, if all of it fits into the pane; otherwise it begins at the top.
    """
    return _with_rows_above(model, index, layout_of(model, width, height), 0)


def _with_rows_above(model: Model, index: int, layout: Layout | None, rows: int) -> Position | None:
    """Return the position at which so many rows are above the first row of a line."""
    if layout is None:
        return model.position
    blocks = Blocks(model, layout.message_width)
    if not len(blocks):
        return None
    index = min(max(index, 0), len(blocks) - 1)
    start = BlockRow(index, blocks.count_rows_above(index))
    # The distance from the line's own first row to the lowest row is what is left of the pane.
    lowest = _move(blocks, start, layout.pane_height - 1 - rows)
    return _position(blocks, _fill_from_below(blocks, lowest, layout.pane_height))


def first_new(model: Model) -> int | None:
    """Return the index of the first unread line; None if there is none."""
    first = None
    # Search backwards: the unread lines are the newest, and there may be many older ones.
    for index in range(len(model.lines) - 1, -1, -1):
        line = model.lines[index]
        if 0 < line.seq < model.new_from or not model.new_from:
            break
        first = index if line.seq and not line.is_by(model.user) else first
    return first


def count_missed(model: Model, first: int) -> int:
    """Return how many unread messages are above event `first`, and were never in sight.

    The count ends above `MOST_MISSED`, since it is done for each picture. What new messages have
    pushed out of sight does not count.
    """
    first = min(first, model.shown_from or first)
    if not 0 < model.new_from < first:
        return 0
    missed = 0
    for line in reversed(model.lines):
        if 0 < line.seq < model.new_from or missed > MOST_MISSED:
            break
        missed += 0 < line.seq < first and bool(line.who) and not line.is_by(model.user)
    return missed


# ---------------------------------------------------------------------- rows of blocks


def _scroll(model: Model, rows: int, width: int, height: int) -> Position | None:
    layout = layout_of(model, width, height)
    if layout is None:
        return model.position
    blocks = Blocks(model, layout.message_width)
    if not len(blocks):
        return None
    pane = layout.pane_height
    # If the pane is partly empty at this position, first move to where the pane is full. Otherwise
    # the first rows of scrolling would only fill the pane, and nothing would seem to move.
    lowest = _fill_from_below(blocks, _block_row(blocks, model.position), pane)
    return _position(blocks, _fill_from_below(blocks, _move(blocks, lowest, rows), pane))


def _block_row(blocks: Blocks, position: Position | None) -> BlockRow:
    """Return the row of a position, or the nearest that exists."""
    last = len(blocks) - 1
    if position is None or position.index > last:
        return BlockRow(last, blocks.height(last) - 1)
    if position.index < 0:
        return BlockRow(0, 0)
    row = blocks.height(position.index) - 1 - max(position.hidden, 0)
    return BlockRow(position.index, max(row, 0))


def _position(blocks: Blocks, lowest: BlockRow) -> Position | None:
    """Return the position at which `lowest` is the lowest visible row."""
    hidden = blocks.height(lowest.block) - 1 - lowest.row
    if not hidden and lowest.block == len(blocks) - 1:
        return None
    return Position(lowest.block, hidden)


def _move(blocks: Blocks, start: BlockRow, rows: int) -> BlockRow:
    """Return the row `rows` rows below `start` (above it if negative), or the last one there is."""
    index, row = start.block, start.row + rows
    while row < 0 and index > 0:
        index -= 1
        row += blocks.height(index)
    while row >= blocks.height(index) and index < len(blocks) - 1:
        row -= blocks.height(index)
        index += 1
    return BlockRow(index, min(max(row, 0), blocks.height(index) - 1))


def _fill_from_below(blocks: Blocks, lowest: BlockRow, height: int) -> BlockRow:
    """Return `lowest`, or a lower row if there is too little above it to fill the pane."""
    filled = sum(part.stop - part.start for part in _slices(blocks, lowest, height))
    return _move(blocks, lowest, height - filled)


def _slices(blocks: Blocks, lowest: BlockRow, height: int) -> list[BlockSlice]:
    """Return up to `height` rows that end with `lowest`, as slices from the top down."""
    slices: list[BlockSlice] = []
    index, stop = lowest.block, lowest.row + 1
    while height > 0:
        start = max(stop - height, 0)
        slices.append(BlockSlice(index, start, stop))
        height -= stop - start
        index -= 1
        if index < 0:
            break
        stop = blocks.height(index)
    return slices[::-1]

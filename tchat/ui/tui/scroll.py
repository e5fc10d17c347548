"""Where one reads: the way up and down through lines of which only those in sight are laid out.

A place is a row of a block. All moves start from the lowest row in sight and go from block to
block, so they cost as much as the rows they pass, however many lines there are above and below.
Whoever reads above the newest keeps their place by it: lines that come are further down, another
width or height of the screen leaves the same line the lowest, and when older lines are put in
front, the caller adds their number to the index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tchat.ui.tui.blocks import Blocks
from tchat.ui.tui.model import Position
from tchat.ui.tui.prompt import fits, pane_size

if TYPE_CHECKING:
    from tchat.ui.tui.model import Model

_KEPT = 2
"""How many rows of a page are still in sight on the next."""


class Place(NamedTuple):
    """A row of a block."""

    block: int
    row: int


class BlockSlice(NamedTuple):
    """The rows of a block that are in sight: from `start` to before `stop`."""

    block: int
    start: int
    stop: int


class Viewport(NamedTuple):
    """What is in sight, from the top down; whether that begins with the first row of all.

    `position` is the model's, or the nearest that there is; None at the bottom.
    """

    pieces: list[BlockSlice]
    top: bool
    position: Position | None


def sight(blocks: Blocks, position: Position | None, height: int) -> Viewport:
    """Return what is seen from a position in a pane of so many rows, as few as there are."""
    if not len(blocks):
        return Viewport([], top=True, position=None)
    lowest = _settle(blocks, _place(blocks, position), height)
    pieces = _pieces(blocks, lowest, height)
    return Viewport(pieces, pieces[0][:2] == (0, 0), _position(blocks, lowest))


def up(model: Model, rows: int, width: int, height: int) -> Position | None:
    """Return the position that is so many rows higher, on a screen of `width` by `height` cells.

    It is as high as there are lines for; whether it is at the top, the picture knows. It is None
    at the bottom.
    """
    return _moved(model, -rows, width, height)


def down(model: Model, rows: int, width: int, height: int) -> Position | None:
    """Return the position that is so many rows lower; None at the bottom."""
    return _moved(model, rows, width, height)


def page(model: Model, width: int, height: int) -> int:
    """Return how many rows a page is, so that a little of it stays in sight."""
    return max(pane_size(model, width, height)[1] - _KEPT, 1) if fits(width, height) else 1


def to_line(model: Model, index: int, width: int, height: int) -> Position | None:
    """Return the position from which a line is in sight, with some of those before it."""
    if not fits(width, height):
        return model.position
    pane, rows = pane_size(model, width, height)
    blocks = Blocks(model, pane)
    if not len(blocks):
        return None
    index = min(max(index, 0), len(blocks) - 1)
    below = rows - 1 - rows // 3
    lowest = _move(blocks, Place(index, blocks.head(index)), below)
    return _position(blocks, _settle(blocks, lowest, rows))


def first_new(model: Model) -> int | None:
    """Return which line is the first whose event was not seen; None if there is none."""
    first = None
    for index in range(len(model.lines) - 1, -1, -1):
        seq = model.lines[index].seq
        if 0 < seq < model.new_from or not model.new_from:
            break
        first = index if seq else first
    return first


# ---------------------------------------------------------------------- places


def _moved(model: Model, rows: int, width: int, height: int) -> Position | None:
    if not fits(width, height):
        return model.position
    pane, pane_height = pane_size(model, width, height)
    blocks = Blocks(model, pane)
    if not len(blocks):
        return None
    lowest = _settle(blocks, _place(blocks, model.position), pane_height)
    return _position(blocks, _settle(blocks, _move(blocks, lowest, rows), pane_height))


def _place(blocks: Blocks, position: Position | None) -> Place:
    """Return the place of a position, or the nearest that there is."""
    last = len(blocks) - 1
    if position is None or position.index > last:
        return Place(last, blocks.height(last) - 1)
    if position.index < 0:
        return Place(0, 0)
    row = blocks.height(position.index) - 1 - max(position.hidden, 0)
    return Place(position.index, max(row, 0))


def _position(blocks: Blocks, lowest: Place) -> Position | None:
    hidden = blocks.height(lowest.block) - 1 - lowest.row
    if not hidden and lowest.block == len(blocks) - 1:
        return None
    return Position(lowest.block, hidden)


def _move(blocks: Blocks, place: Place, rows: int) -> Place:
    """Return the place so many rows further down, or up if that is negative."""
    index, row = place.block, place.row + rows
    while row < 0 and index > 0:
        index -= 1
        row += blocks.height(index)
    while row >= blocks.height(index) and index < len(blocks) - 1:
        row -= blocks.height(index)
        index += 1
    return Place(index, min(max(row, 0), blocks.height(index) - 1))


def _settle(blocks: Blocks, lowest: Place, height: int) -> Place:
    """Return the place, or one that is lower if there is nothing above to fill the pane with."""
    filled = sum(piece.stop - piece.start for piece in _pieces(blocks, lowest, height))
    return _move(blocks, lowest, height - filled)


def _pieces(blocks: Blocks, lowest: Place, height: int) -> list[BlockSlice]:
    pieces: list[BlockSlice] = []
    index, stop = lowest.block, lowest.row + 1
    while height > 0:
        start = max(stop - height, 0)
        pieces.append(BlockSlice(index, start, stop))
        height -= stop - start
        index -= 1
        if index < 0:
            break
        stop = blocks.height(index)
    return pieces[::-1]

"""Draw the whole screen: turn a model and a size into rows of styled text. Pure.

The same model always gives the same rows. Everything is drawn each time, and `screen` writes only
the differences to the terminal. Only the visible messages are laid out, so a picture costs the same
with a hundred thousand lines as with ten.

This file composes the parts (`bars`, `blocks`, `prompt`) as `layout` divides the screen, and
draws the member list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.ui.text.cells import pad_right
from tchat.ui.tui.bars import status_row
from tchat.ui.tui.blocks import PAST_HINTS, Blocks
from tchat.ui.tui.layout import layout_of
from tchat.ui.tui.rows import Row, blank_row, fill_row
from tchat.ui.tui.scroll import Viewport, count_missed, viewport_at
from tchat.ui.tui.styles import name_style

if TYPE_CHECKING:
    from tchat.ui.tui.model import Model, Person, Position

_NOTHING = "No messages yet."


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows to paint, from top to bottom, and the cursor as row and column in cells.

    `position` is the model's scroll position, or the nearest one that exists. `top` says that the
    first row of the first line is visible, so that scrolling up has to load older lines. `first` is
    the seq of the first visible event, 0 if there is none.
    """

    rows: list[Row]
    cursor: tuple[int, int]
    position: Position | None = None
    top: bool = False
    first: int = 0


def draw(model: Model, width: int, height: int) -> Picture:
    """Return the whole screen of `width` by `height` cells."""
    layout = layout_of(model, width, height)
    if layout is None:
        rows = [[(pad_right("" if y else "too small", width), "notice")] for y in range(height)]
        return Picture(rows, (0, 0), model.position)
    middle, viewport = _message_rows(model, layout.message_width, layout.pane_height)
    if layout.members_width:
        members = _member_rows(model.people, layout.members_width, layout.pane_height)
        middle = [_side_by_side(*rows) for rows in zip(middle, members, strict=True)]
    first = _first_event(model, viewport)
    missed = count_missed(model, first)
    status = status_row(model, width, scrolled=viewport.position is not None, missed=missed)
    above = [*layout.header, *middle, status]
    row, column = layout.prompt.cursor
    return Picture(
        [*above, *layout.prompt.rows],
        (len(above) + row, column),
        viewport.position,
        viewport.top,
        first,
    )


def _first_event(model: Model, viewport: Viewport) -> int:
    """Return the seq of the first event in sight, 0 if there is none."""
    blocks = range(viewport.slices[0].block, len(model.lines)) if viewport.slices else ()
    return next((seq for block in blocks if (seq := model.lines[block].seq)), 0)


def _message_rows(model: Model, width: int, height: int) -> tuple[list[Row], Viewport]:
    """Return the pane of messages, the newest at the bottom, and which of them are visible."""
    blocks = Blocks(model, width)
    viewport = viewport_at(blocks, model.position, height)
    rows: list[Row] = []
    for part in viewport.slices:
        rows += blocks.rows(part.block, part.start, part.stop, first=not rows)
    if not rows:
        rows = [fill_row([(f" {PAST_HINTS.get(model.past, _NOTHING)}", "dim")], width)]
    return [blank_row(width)] * (height - len(rows)) + rows, viewport


def _side_by_side(message: Row, member: Row) -> Row:
    """Join a row of each pane with a vertical line; a horizontal rule ends at that line."""
    joint = "┤" if message[-1][0].endswith("──") else "│"
    return [*message, (joint, "rule"), *member]


def _member_rows(people: list[Person], width: int, height: int) -> list[Row]:
    """Return the pane of members; its last row counts those who do not fit."""
    rows = [_member_row(person, width) for person in people[:height]]
    hidden = len(people) - height
    if hidden > 0:
        rows[-1] = [(pad_right(f"   and {hidden + 1} more", width), "dim")]
    return rows + [blank_row(width)] * -hidden


def _member_row(person: Person, width: int) -> Row:
    """Return a member: ★ for the admin, a mark for their presence if it is known, the name."""
    present = "●" if not person.away else "◐"
    mark = " " if person.online is None else present if person.online else "○"
    style = "member.admin" if person.admin else "member.online"
    name = name_style(person.name)
    if person.online is False:
        style = name = "member.offline"
    marks = f"{'★' if person.admin else ' '}{mark} "
    return [(marks, style), (pad_right(person.name, width - 3), name)]

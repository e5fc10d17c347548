"""From a model and a size to rows of styled text. Pure: the same model gives the same rows.

Everything is drawn anew each time, and `screen` writes what has changed. What is laid out is what
is in sight, so that a picture costs the same with a hundred thousand lines as with ten.

The middle of the screen: the messages in sight, and beside them who is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.ui.text.cells import left
from tchat.ui.tui.bars import status_row, title_row
from tchat.ui.tui.blocks import PAST, Blocks
from tchat.ui.tui.prompt import BARS, fits, most_typed, people_width, prompt_rows
from tchat.ui.tui.rows import Row, blank, fill_row
from tchat.ui.tui.scroll import Viewport, sight
from tchat.ui.tui.styles import name_style

if TYPE_CHECKING:
    from tchat.ui.tui.model import Model, Person, Position

_NOTHING = "nothing has been said yet"


def panes(model: Model, width: int, height: int) -> tuple[list[Row], Viewport]:
    """Return the rows between the title and the status, and what of the messages they show."""
    people = people_width(model, width)
    room = width - people - bool(people)
    messages, seen = message_rows(model, room, height)
    if not people:
        return messages, seen
    beside = member_rows(model.people, people, height)
    rows = [
        [*message, ("┤" if message[-1][0].endswith("──") else "│", "rule"), *member]
        for message, member in zip(messages, beside, strict=True)
    ]
    return rows, seen


def message_rows(model: Model, width: int, height: int) -> tuple[list[Row], Viewport]:
    """Return the pane of messages: `height` rows of `width` cells, the newest at the bottom."""
    blocks = Blocks(model, width)
    seen = sight(blocks, model.position, height)
    rows: list[Row] = []
    for piece in seen.pieces:
        rows += blocks.rows(piece.block, piece.start, piece.stop, first=not rows)
    if not rows:
        rows = [fill_row([(f" {PAST.get(model.past, _NOTHING)}", "dim")], width)]
    return [blank(width)] * (height - len(rows)) + rows, seen


def member_rows(people: list[Person], width: int, height: int) -> list[Row]:
    """Return the pane of members: `height` rows of `width` cells; who has no row is counted."""
    rows = [_member(person, width) for person in people[:height]]
    hidden = len(people) - height
    if hidden > 0:
        rows[-1] = [(left(f"   and {hidden + 1} more", width), "dim")]
    return rows + [blank(width)] * -hidden


def _member(person: Person, width: int) -> Row:
    present = person.online and not person.away
    if person.admin:
        mark, style = "★" if present else "☆", "member.admin"
    else:
        mark = "●" if present else "◐" if person.online else "○"
        style = "member.online"
    name = name_style(person.name)
    if not person.online:
        style = name = "member.offline"
    return [(f" {mark} ", style), (left(person.name, width - 3), name)]


__all__ = ["Picture", "Row", "draw"]


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows to paint, top to bottom, and where the cursor is: row and column in cells.

    `position` is the model's, or the nearest that there is; `top` says that the first row of the
    first line is in sight, so that older ones would be seen if there were any.
    """

    rows: list[Row]
    cursor: tuple[int, int]
    position: Position | None = None
    top: bool = False


def draw(model: Model, width: int, height: int) -> Picture:
    """Return the whole screen of `width` by `height` cells."""
    if not fits(width, height):
        rows = [[(left("" if y else "too small", width), "notice")] for y in range(height)]
        return Picture(rows, (0, 0), model.position)
    prompt = prompt_rows(model, width, most_typed(height))
    middle, seen = panes(model, width, height - BARS - len(prompt.rows))
    status = status_row(model, width, reading=seen.position is not None)
    row, column = prompt.cursor
    return Picture(
        [title_row(model, width), *middle, status, *prompt.rows],
        (height - len(prompt.rows) + row, column),
        seen.position,
        seen.top,
    )

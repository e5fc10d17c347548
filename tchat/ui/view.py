"""From a model and a size to rows of styled text. Pure: the same model gives the same rows.

Everything is drawn anew each time, and `screen` writes what has changed. What is laid out is what
is in sight, so that a picture costs the same with a hundred thousand lines as with ten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.ui.bars import status_row, title_row
from tchat.ui.cells import left
from tchat.ui.layout import BARS, fits, most_typed
from tchat.ui.panes import panes
from tchat.ui.prompt import prompt_rows
from tchat.ui.rows import Row

if TYPE_CHECKING:
    from tchat.ui.model import Model, Position

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

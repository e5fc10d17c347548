"""Golden screens: whole screens as text files, compared by tests/ui/tui/test_view.py.

A sheet is a function of `catalogue` that returns frames: models, each with the size to draw it
in. Its docstring says what to look for, and stands at the top of the sheet's file. A frame shows
the rows of the screen after a "|", the cursor, and each row's spans with their styles.

    python -m tests.ui.screens

draws all sheets anew. Read the diff before you commit it: that is the test.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tchat.ui.tui.view import draw
from tests.ui.pictures import text_of

if TYPE_CHECKING:
    from tchat.ui.tui.model import Model
    from tchat.ui.tui.rows import Row

FOLDER = Path(__file__).parent


class Frame(NamedTuple):
    """A model, the size of the screen that it is drawn on, and what is special about it."""

    model: Model
    width: int
    height: int
    caption: str = ""


Sheet = Callable[[], list[Frame]]


def file_of(sheet: Sheet) -> Path:
    """Return the file that holds a sheet."""
    return FOLDER / f"{sheet.__name__}.txt"


def text_of_sheet(sheet: Sheet) -> str:
    """Return a sheet as it stands in its file."""
    parts = [getdoc(sheet) or "", *(_text_of_frame(*frame) for frame in sheet())]
    return "\n\n".join(parts) + "\n"


def _text_of_frame(model: Model, width: int, height: int, caption: str) -> str:
    drawn = draw(model, width, height)
    row, column = drawn.cursor
    place = f"at line {drawn.position.index}" if drawn.position else "at the bottom"
    return "\n".join(
        [
            f"==== {width} x {height}{f': {caption}' * bool(caption)}",
            *(f"|{text_of(row)}".rstrip() for row in drawn.rows),
            f"Cursor in row {row}, column {column}; {place}{', top visible' * drawn.top}.",
            *(f"{y:2} {_spans(row)}".rstrip() for y, row in enumerate(drawn.rows)),
        ]
    )


def _spans(row: Row) -> str:
    """Return the spans of a row with their styles, less blank space."""
    return " ".join(f"{style}'{text}'" for text, style in row if text.strip() or style != "text")

"""Builders of models and lines, and drawn screens as text: for view tests and golden screens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypedDict, Unpack

from tchat.ui.chat.lines import Line
from tchat.ui.text.cells import cells
from tchat.ui.tui.model import Model, Person
from tchat.ui.tui.view import Picture, draw

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tchat.ui.chat.lines import Fate, Sort
    from tchat.ui.tui.rows import Row

NOON = int(time.mktime((2026, 11, 22, 12, 0, 0, 0, 0, -1))) * 1000
MINUTE = 60 * 1000
DAY = 24 * 60 * MINUTE


class More(TypedDict, total=False):
    """Optional attributes of a line."""

    seq: int
    reply: str
    mention: bool
    edited: bool
    deleted: bool
    fate: Fate


def message(
    text: str,
    who: str = "bob",
    at: int = NOON,
    sort: Sort = "message",
    **more: Unpack[More],
) -> Line:
    """Return a message, or another `sort` of line."""
    return Line(at, sort, text, who, **more)


def notice(text: str, at: int = NOON, **more: Unpack[More]) -> Line:
    """Return a notice of the program."""
    return Line(at, "notice", text, **more)


def model(*lines: Line, people: int = 0, **more: object) -> Model:
    """Return a connected group window of a member; the first three people have names."""
    names = ["alice", "bob", "carol", *(f"person{n}" for n in range(people))][:people]
    who = [Person(name, admin=name == "alice", online=name != "carol") for name in names]
    made = Model("alice", "#ops", connection="", standing="member", lines=list(lines), people=who)
    return changed(made, **more)


def changed(made: Model, **more: object) -> Model:
    """Return the model with some attributes set."""
    for name, value in more.items():
        setattr(made, name, value)
    return made


def typing(before: str, after: str = "", **more: object) -> Model:
    """Return a window in which text is typed before and after the cursor."""
    made = changed(model(), **more)
    made.edit.set(before + after)
    for _ in range(len(after)):
        made.edit.left()
    return made


def text_of(row: Row) -> str:
    """Return a row's text."""
    return "".join(part for part, _ in row)


def shown(made: Model, width: int = 80, height: int = 12) -> list[str]:
    """Return the rows of a screen, without trailing spaces."""
    return [text_of(row).rstrip() for row in draw(made, width, height).rows]


def pane(made: Model, width: int = 60, height: int = 12) -> list[str]:
    """Return the rows between title and status that are not blank."""
    return [row for row in shown(made, width, height)[1:-2] if row]


def styles(made: Model, text: str, width: int = 80, height: int = 12) -> set[str]:
    """Return the styles of the spans that contain `text`."""
    rows = draw(made, width, height).rows
    return {style for row in rows for part, style in row if text in part}


def is_exact(drawn: Picture, width: int, height: int) -> bool:
    """Return whether there are `height` rows, each exactly `width` cells wide."""
    return [_width(row) for row in drawn.rows] == [width] * height


def _width(row: Iterable[tuple[str, str]]) -> int:
    return sum(cells(part) for part, _ in row)

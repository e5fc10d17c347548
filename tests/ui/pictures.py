"""Models to be drawn, and pictures as text, so that a test shows the screen that it is about."""

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
    """What there can be about a line besides its text."""

    seq: int
    reply: str
    mention: bool
    edited: bool
    deleted: bool
    fate: Fate


def said(
    text: str,
    who: str = "bob",
    at: int = NOON,
    sort: Sort = "message",
    **more: Unpack[More],
) -> Line:
    """Return a message, or what `sort` says."""
    return Line(at, sort, text, who, **more)


def told(text: str, at: int = NOON, **more: Unpack[More]) -> Line:
    """Return something that the program says."""
    return Line(at, "notice", text, **more)


def model(*lines: Line, people: int = 0, **more: object) -> Model:
    """Return a window of a group in which all is well."""
    names = ["alice", "bob", "carol", *(f"person{n}" for n in range(people))][:people]
    who = [Person(name, admin=name == "alice", online=name != "carol") for name in names]
    made = Model("alice", "#ops", connection="", standing="member", lines=list(lines), people=who)
    return changed(made, **more)


def changed(made: Model, **more: object) -> Model:
    """Return a model, changed."""
    for name, value in more.items():
        setattr(made, name, value)
    return made


def text_of(row: Row) -> str:
    """Return a row as it is read."""
    return "".join(part for part, _ in row)


def shown(made: Model, width: int = 80, height: int = 12) -> list[str]:
    """Return the rows of a screen, without the spaces at their ends."""
    return [text_of(row).rstrip() for row in draw(made, width, height).rows]


def screen(made: Model, width: int = 80, height: int = 12) -> str:
    """Return a screen as it is written in a test: rows, without the spaces at their ends."""
    return "\n".join(shown(made, width, height))


def pane(made: Model, width: int = 60, height: int = 12) -> list[str]:
    """Return the rows between the title and the status in which there is something."""
    return [row for row in shown(made, width, height)[1:-2] if row]


def styles(made: Model, text: str, width: int = 80, height: int = 12) -> set[str]:
    """Return the styles of those spans in which there is `text`."""
    rows = draw(made, width, height).rows
    return {style for row in rows for part, style in row if text in part}


def picture(text: str) -> str:
    """Return what a test has written between quotes, without the rows of the quotes."""
    lines = text.strip("\n").split("\n")
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[indent:].removeprefix("|") for line in lines if line.strip())


def is_exact(drawn: Picture, width: int, height: int) -> bool:
    """Return whether every row is exactly as wide as the screen, and there is one for each."""
    return [_width(row) for row in drawn.rows] == [width] * height


def _width(row: Iterable[tuple[str, str]]) -> int:
    return sum(cells(part) for part, _ in row)

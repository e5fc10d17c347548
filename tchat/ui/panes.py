"""The middle of the screen: the messages in sight, and beside them who is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.ui.blocks import PAST, Blocks
from tchat.ui.cells import left
from tchat.ui.layout import people_width
from tchat.ui.rows import Row, blank, fill_row
from tchat.ui.scroll import Sight, sight
from tchat.ui.styles import name_style

if TYPE_CHECKING:
    from tchat.ui.model import Model, Person

_NOTHING = "nothing has been said yet"


def panes(model: Model, width: int, height: int) -> tuple[list[Row], Sight]:
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


def message_rows(model: Model, width: int, height: int) -> tuple[list[Row], Sight]:
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

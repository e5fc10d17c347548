"""How what happens reads: one line of text for each event, the same in both faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tchat.core.events import (
    AdminTransferred,
    Approved,
    Created,
    Denied,
    FileShared,
    Kicked,
    Left,
    Posted,
    Requested,
    Withdrawn,
)
from tchat.core.text import clean_line, clean_text, fold

if TYPE_CHECKING:
    from tchat.core.events import Event

Sort = Literal["message", "notice", "error"]

_LATEST = 253_370_764_800_000
"""The beginning of the year 9999: no calendar reaches as far as a server's number could."""


@dataclass(frozen=True, slots=True)
class Line:
    """Something to show: `at` in ms since the Unix epoch, and who said it, if somebody did.

    The text is clean, and may have several lines if it is a message. When the program starts,
    `history` has been seen before, and what is `missed` came while the person was away.
    """

    at: int
    sort: Sort
    text: str
    who: str = ""
    history: bool = False
    missed: bool = False


def line_of(event: Event, me: str, *, admin: bool) -> Line | None:
    """Return an event as a line for `me`; None for what does not concern this person."""
    at = min(event.at, _LATEST)
    if isinstance(event.body, Posted):
        return Line(at, "message", clean_text(event.body.text), clean_line(event.actor))
    text = _sentence(event, fold(me), admin=admin)
    return Line(at, "notice", clean_line(text)) if text else None


def _sentence(event: Event, me: str, *, admin: bool) -> str:
    actor = event.actor
    mine = fold(actor) == me
    match event.body:
        case Created():
            return f"{actor} created {event.group}" + (" and you are its admin" if mine else "")
        case Requested():
            return f"{actor} asks to join: /approve {actor} or /deny {actor}" if admin else ""
        case Approved(name):
            return f"{name} joined, approved by {actor}"
        case Denied(name):
            return f"{actor} denied {name}" if admin else ""
        case Withdrawn():
            return f"{actor} does not ask to join any more" if admin else ""
        case Left():
            return f"{actor} left the group"
        case Kicked(name):
            return f"{actor} kicked {name}"
        case AdminTransferred(name):
            return f"{actor} made {name} the admin" + (": that is you" if fold(name) == me else "")
        case FileShared(number, name, size):
            return f"{actor} shared {name} ({size_text(size)}), file {number}"
    return ""


def size_text(size: int) -> str:
    """Return a number of bytes as people write it: 12 B, 3.4 KB, 1.2 GB (powers of 1000)."""
    if size < 1000:
        return f"{size} B"
    amount = float(size)
    for unit in ("KB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 999.95:  # what would be shown as 1000.0 belongs to the next unit
            return f"{amount:.1f} {unit}"
    return f"{amount:.1f} PB"

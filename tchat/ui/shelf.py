"""What the server has of a group's files, and how that reads."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.core.frames import Shelf, ShelfRequest
from tchat.core.text import clean_line, size_text
from tchat.ui.cells import cells, left, right
from tchat.ui.lines import latest

if TYPE_CHECKING:
    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.state import File

_MOST_NAME = 24
_ALL_NAMES = 3


@dataclass(frozen=True, slots=True)
class Shelved:
    """A file that is there: `until` a time in ms, if not 0, and by whom it was fetched so far."""

    file: File
    until: int
    fetched: int
    by: tuple[str, ...]


async def ask_shelf(
    session: Session, replica: Replica, most: float, before: int | None = None
) -> tuple[list[Shelved], bool]:
    """Return up to `most` files that are there, the oldest first, and whether there are older ones.

    Raises `Refused`.
    """
    found: list[Shelved] = []
    older = True
    while older and len(found) < most:
        answer = await session.ask(lambda i: ShelfRequest(i, replica.name, before))  # noqa: B023
        if not isinstance(answer, Shelf):
            break
        found += _known(answer, replica)
        lowest = min(answer.numbers, default=0)
        older = answer.older and lowest > 0 and (before is None or lowest < before)
        before = lowest
    kept = found if len(found) <= most else found[: int(most)]
    return kept[::-1], older or len(kept) < len(found)


def _known(shelf: Shelf, replica: Replica) -> list[Shelved]:
    """Return what the group knows of what a server says it has."""
    rows = zip(shelf.numbers, shelf.until, shelf.fetched, shelf.by, strict=False)
    return [
        Shelved(file, until, fetched, tuple(map(clean_line, by.split("\n"))) if by else ())
        for number, until, fetched, by in rows
        if (file := replica.state.files.get(number)) is not None
    ]


def shelf_lines(found: list[Shelved]) -> list[str]:
    """Return a line for each file, with its facts below each other."""
    names = [clean_line(one.file.name) for one in found]
    people = [clean_line(one.file.by) for one in found]
    number = max((len(str(one.file.number)) for one in found), default=0)
    name = min(max(map(cells, names), default=0), _MOST_NAME)
    person = max(map(cells, people), default=0)
    return [
        f"{one.file.number:>{number}}  {_padded(shown, name)}  {right(size_text(one.file.size), 8)}"
        f"  {left(by, person)}  {moment_text(one.file.at)}  {one.file.sha256.hex()[:16]}"
        f"  {_fate(one)}"
        for one, shown, by in zip(found, names, people, strict=True)
    ]


def file_lines(one: Shelved) -> list[str]:
    """Return all there is to say of one file."""
    file = one.file
    name, person = clean_line(file.name), clean_line(file.by)
    size = f"{size_text(file.size)} ({file.size} bytes)"
    return [
        f"file {file.number}: {name}, {size}, shared by {person} on {moment_text(file.at)}",
        f"{_fate(one, most=len(one.by))}; its SHA-256, as sha256sum prints it:",
        f"{file.sha256.hex()}  {name}",
    ]


def fetched_text(fetched: int, by: tuple[str, ...], most: int = _ALL_NAMES) -> str:
    """Return who has fetched a file: "fetched by alice, carol and 3 more"."""
    if not fetched:
        return "fetched by nobody yet"
    shown = by[:fetched] if fetched <= most else by[: max(most - 1, 1)]
    others = fetched - len(shown)
    names = [*shown, *([f"{others} more" if shown else f"{others}"] if others else [])]
    return "fetched by " + " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def moment_text(at: int) -> str:
    """Return a time (ms since the Unix epoch) to the minute: "22 Nov 10:03", or with its year."""
    moment = time.localtime(latest(at) / 1000)
    this_year = moment.tm_year == time.localtime().tm_year
    return time.strftime("%d %b %H:%M" if this_year else "%d %b  %Y", moment)


def _fate(one: Shelved, most: int = _ALL_NAMES) -> str:
    until = f", kept until {moment_text(one.until)}" if one.until else ""
    return fetched_text(one.fetched, one.by, most) + until


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text))

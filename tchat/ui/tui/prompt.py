"""Where one types: a prompt, and the text in as many rows as it needs and the screen can spare.

What is typed is broken where a row is full, not between words: so nothing moves to and fro while
one types, and the cursor is where the next character will be. A text with more rows than there is
room for is shown around the cursor.

How a screen is divided.

title                                   the window, its topic, who is online, the connection
messages                     │ people   the newest at the bottom; people only where it is wide
status                                  the windows, what waits, how far a file is on its way
prompt and input                        one row, or as many as are typed and can be spared
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from tchat.core.text import clean_line
from tchat.ui.text.cells import cells, clip, wrap
from tchat.ui.tui.rows import Row, fill_row

if TYPE_CHECKING:
    from tchat.ui.tui.model import Model

SMALLEST = (20, 5)
"""The narrowest and the lowest screen that can be of use."""

BARS = 2
"""Rows of the title and the status."""

_WIDE = 64
_VERY_WIDE = 110
_PEOPLE = 18
_MORE_PEOPLE = 26


def fits(width: int, height: int) -> bool:
    """Return whether a screen is large enough to show anything."""
    return width >= SMALLEST[0] and height >= SMALLEST[1]


def people_width(model: Model, width: int) -> int:
    """Return how wide the pane of members is, without the line at its left; 0 if there is none."""
    if width < _WIDE or model.bare or model.direct or not (model.show_people and model.people):
        return 0
    return _MORE_PEOPLE if width >= _VERY_WIDE else _PEOPLE


def most_typed(height: int) -> int:
    """Return how many rows the prompt may take."""
    return max(height // 3, 2)


def pane_size(model: Model, width: int, height: int) -> tuple[int, int]:
    """Return the width and height of the pane of messages on a screen that is large enough."""
    typed = len(prompt_rows(model, width, most_typed(height)).rows)
    people = people_width(model, width)
    return width - people - bool(people), height - BARS - typed


_MOST_QUESTION = 3


class Prompt(NamedTuple):
    """Rows from top to bottom, and where the cursor is in them: row and column in cells."""

    rows: list[Row]
    cursor: tuple[int, int]


def prompt_rows(model: Model, width: int, most: int) -> Prompt:
    """Return at most `most` rows (and no less than one), the cursor's among them."""
    question, prompt, style = _prompt(model, width, most)
    indent = cells(prompt)
    # One cell is the cursor's, which has a place behind a full row too.
    texts, (row, column) = _place(model.edit.before, model.edit.after, width - indent - 1)
    room = most - len(question)
    first = max(row - room + 1, 0)
    rows = [
        fill_row([(" " * indent, "input") if n else (prompt, style), (text, "input")], width)
        for n, text in enumerate(texts[first : first + room])
    ]
    return Prompt([*question, *rows], (len(question) + row - first, indent + column))


def _prompt(model: Model, width: int, most: int) -> tuple[list[Row], str, str]:
    """Return the rows of a question that is too long to type beside it, the prompt, its style."""
    if model.edit.searching is not None:
        word = "nowhere" if model.edit.search_failed else "search"
        return [], clip(f"({word} '{clean_line(model.edit.searching)}') ", width // 2), "search"
    if not model.question:
        return [], f"{clip(model.user, width // 3)} ▸ ", "prompt"
    if cells(model.question) + 3 <= width // 2 or most == 1:
        return [], f"{clip(model.question, width // 2)} ▸ ", "question"
    texts = wrap(model.question, width)[: min(most - 1, _MOST_QUESTION)]
    return [fill_row([(text, "question")], width) for text in texts], "▸ ", "question"


def _place(before: list[str], after: list[str], room: int) -> tuple[list[str], tuple[int, int]]:
    """Return graphemes as rows of at most `room` cells, and where in them `after` begins."""
    rows: list[list[str]] = [[]]
    used = 0
    begins = None
    for index, grapheme in enumerate(chain(before, after)):
        for text, width in _shown(grapheme, room):
            if used + width > room:
                rows.append([])
                used = 0
            if index == len(before) and begins is None:
                begins = (len(rows) - 1, used)
            rows[-1].append(text)
            used += width
        if grapheme == "\n":
            rows.append([])
            used = 0
    return ["".join(row) for row in rows], begins or (len(rows) - 1, used)


@lru_cache(maxsize=4096)
def _shown(grapheme: str, room: int) -> tuple[tuple[str, int], ...]:
    """Return what is shown of a grapheme and its cells: in parts, if it is wider than a row."""
    text = "" if grapheme == "\n" else clean_line(grapheme)
    parts = [text] if cells(text) <= room else list(text)
    return tuple((part, cells(part)) for part in parts)

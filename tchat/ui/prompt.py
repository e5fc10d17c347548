"""Where one types: a prompt, and the text in as many rows as it needs and the screen can spare.

What is typed is broken where a row is full, not between words: so nothing moves to and fro while
one types, and the cursor is where the next character will be. A text with more rows than there is
room for is shown around the cursor.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from tchat.core.text import clean_line
from tchat.ui.cells import cells, clip, wrap
from tchat.ui.rows import Row, fill_row

if TYPE_CHECKING:
    from tchat.ui.model import Model

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

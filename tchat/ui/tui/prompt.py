"""Prompt and input area: the typed text in as many rows as needed, question, history search.

Typed text is broken where a row is full, not between words, so that no word jumps between rows
while typing and the cursor is where the next character will appear. A text that needs more rows
than the screen can spare is shown around the cursor, with the number of rows above and below.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from tchat.core.text import clean_line
from tchat.ui.text.cells import cells, clip, pad_right, tab_width, wrap
from tchat.ui.text.widths import cache_widths
from tchat.ui.tui.rows import Row, Span, fill_row

if TYPE_CHECKING:
    from tchat.ui.tui.model import Model


class Prompt(NamedTuple):
    """Rows from top to bottom, and the cursor's row and column in them, in cells."""

    rows: list[Row]
    cursor: tuple[int, int]


def prompt_rows(model: Model, width: int, limit: int) -> Prompt:
    """Return at least one and at most `limit` rows, the cursor's among them."""
    question, prompt, style = _prompt(model, width, limit)
    indent = cells(prompt)
    # The last column stays free for the cursor, which may stand after a full row.
    texts, (row, column) = _break_rows(model.edit.before, model.edit.after, width - indent - 1)
    room = limit - len(question)
    first = max(row - room + 1, 0)
    visible = texts[first : first + room]
    left = [(prompt, style), *[(" " * indent, "input")] * (len(visible) - 1)]
    if below := len(texts) - first - len(visible):
        left[-1] = _hidden_rows("↓", below, indent)
    if first:
        left[0] = _hidden_rows("↑", first, indent)
    shown = "selection" if model.edit.selected else "input"
    rows = [
        fill_row([span, (text, shown)], width) for span, text in zip(left, visible, strict=True)
    ]
    return Prompt([*question, *rows], (len(question) + row - first, indent + column))


def _hidden_rows(arrow: str, count: int, width: int) -> Span:
    """Return the sign for rows of typed text that are not shown, in the place of the prompt."""
    sign = f"{arrow}{count}"
    return pad_right(f"{sign if len(sign) < width else arrow} ", width), "dim"


def _prompt(model: Model, width: int, limit: int) -> tuple[list[Row], str, str]:
    """Return a long question's rows above the input, the prompt beside it, and its style."""
    if model.edit.searching is not None:
        word = "not found:" if model.edit.search_failed else "search:"
        return [], clip(f"({word} '{clean_line(model.edit.searching)}') ", width // 2), "search"
    if not model.question:
        return [], f"{clip(model.user, width // 3)} ▸ ", "prompt"
    if cells(model.question) + 3 <= width // 2 or limit == 1:
        return [], f"{clip(model.question, width // 2)} ▸ ", "question"
    texts = wrap(model.question, width)
    if len(texts) >= limit:
        texts = (*texts[: limit - 2], clip(" ".join(texts[limit - 2 :]), width))
    return [fill_row([(text, "question")], width) for text in texts], "▸ ", "question"


def _break_rows(
    before: list[str], after: list[str], width: int
) -> tuple[list[str], tuple[int, int]]:
    """Break graphemes into rows of at most `width` cells; return also where `after` begins."""
    rows: list[list[str]] = [[]]
    used = line_used = 0  # cells of the row, and of the whole line: tab stops count from its start
    cursor = None
    for index, grapheme in enumerate(chain(before, after)):
        # A tab is so many spaces, any of which may begin a row.
        parts = (
            ((" ", 1),) * tab_width(line_used) if grapheme == "\t" else _visible(grapheme, width)
        )
        for text, size in parts:
            if used + size > width:
                rows.append([])
                used = 0
            if index == len(before) and cursor is None:
                cursor = (len(rows) - 1, used)
            rows[-1].append(text)
            used += size
            line_used += size
        if grapheme == "\n":
            rows.append([])
            used = line_used = 0
    return ["".join(row) for row in rows], cursor or (len(rows) - 1, used)


@cache_widths(4096)
def _visible(grapheme: str, width: int) -> tuple[tuple[str, int], ...]:
    """Return a grapheme as it is shown, with its width; in parts if it is wider than a row."""
    text = "" if grapheme == "\n" else clean_line(grapheme)
    parts = [text] if cells(text) <= width else list(text)
    return tuple((part, cells(part)) for part in parts)

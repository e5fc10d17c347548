"""Styled rows of text: measure, clip and pad their spans, and convert them to other encodings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.ui.text.cells import cells, clip
from tchat.ui.text.fallback import ELLIPSIS, encodable, widen_ellipses

if TYPE_CHECKING:
    from collections.abc import Iterable

Span = tuple[str, str]
"""Some text, and the name of its style (`styles.STYLES`)."""

Row = list[Span]
"""One row of the screen, from left to right."""


def row_width(spans: Iterable[Span]) -> int:
    """Return how many cells the spans take."""
    return sum(cells(text) for text, _ in spans)


def clip_row(spans: Iterable[Span], width: int) -> Row:
    """Return as many spans as fit into `width` cells, ending in … if something is cut off."""
    row: Row = []
    for text, style in spans:
        room = width - row_width(row)
        row.append((clip(text, room), style))
        if cells(text) > room:
            break
    return row


def fill_row(spans: Iterable[Span], width: int) -> Row:
    """Return the spans clipped or padded with spaces to exactly `width` cells."""
    row = clip_row(spans, width)
    rest = width - row_width(row)
    return [*row, (" " * rest, "text")] if rest else row


def blank_row(width: int) -> Row:
    """Return a row of spaces."""
    return [(" " * width, "text")]


def rule_row(text: str, width: int, style: str) -> Row:
    """Return a horizontal line across `width` cells with text near its left end."""
    shown = clip(f"── {text} ", width)
    return [(shown + "─" * (width - cells(shown)), style)]


def encodable_row(row: Row, encoding: str) -> Row:
    """Return a row of the same width, in characters that `encoding` has."""
    shown = list(row)
    for index, (text, style) in enumerate(row):
        if text.isascii():
            continue
        # Not in the input line: the text before the cursor must not move.
        if ELLIPSIS in text and style != "input" and encodable(ELLIPSIS, encoding) != ELLIPSIS:
            after, after_style = shown[index + 1] if index + 1 < len(row) else ("", "")
            if after.startswith("   ") and after_style != "input":
                text, shown[index + 1] = f"{text}  ", (after[2:], after_style)
            text = widen_ellipses(text)
        shown[index] = (encodable(text, encoding), style)
    return shown

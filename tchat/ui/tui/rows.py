"""Rows of a screen: spans of text, each with the name of a style."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.ui.text.cells import cells, clip

if TYPE_CHECKING:
    from collections.abc import Iterable

Span = tuple[str, str]
"""Some text, and the name of the style that it is shown in."""

Row = list[Span]


def cells_of(spans: Iterable[Span]) -> int:
    """Return how many cells the spans take."""
    return sum(cells(text) for text, _ in spans)


def clip_row(spans: Iterable[Span], width: int) -> Row:
    """Return as much of the spans as fits into `width` cells, with … where something is missing."""
    row: Row = []
    for text, style in spans:
        room = width - cells_of(row)
        row.append((clip(text, room), style))
        if cells(text) > room:
            break
    return row


def fill_row(spans: Iterable[Span], width: int) -> Row:
    """Return the spans, clipped or with spaces behind them, in exactly `width` cells."""
    row = clip_row(spans, width)
    rest = width - cells_of(row)
    return [*row, (" " * rest, "text")] if rest else row


def blank(width: int) -> Row:
    """Return a row of spaces."""
    return [(" " * width, "text")]


def rule(text: str, width: int, style: str) -> Row:
    """Return a line across `width` cells with text near its left end."""
    shown = clip(f"── {text} ", width)
    return [(shown + "─" * (width - cells(shown)), style)]

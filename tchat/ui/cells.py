"""Text measured in terminal cells.

Curses and most terminals lay text out code point by code point, so that is how it is measured:
an emoji joined from three takes the cells of three, even where a font could draw it as one. Where
tables differ, the larger number is right: a row that turns out narrower harms no other.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from wcwidth import iter_graphemes, wcwidth


def graphemes(text: str) -> list[str]:
    """Return what a person takes for the characters of `text` (Unicode TR 29)."""
    return list(text) if text.isascii() else list(iter_graphemes(text))


def cells(text: str) -> int:
    """Return how many cells `text` takes."""
    if text.isascii() and text.isprintable():
        return len(text)
    return sum(map(_width, text))


@lru_cache(maxsize=4096)
def _width(character: str) -> int:
    # Curses gives a cell of their own to vowel signs that stand beside their letter (the tables
    # of graphemes do not), and shows what it does not know yet as a space.
    least = 1 if unicodedata.category(character) in ("Mc", "Cn") else 0
    return max(wcwidth(character), least)


def clip(text: str, width: int) -> str:
    """Return as much of `text` as fits into `width` cells, with … where something is missing."""
    if cells(text) <= width:
        return text
    kept, used = [], 0
    for grapheme in graphemes(text):
        used += cells(grapheme)
        if used > width - 1:
            break
        kept.append(grapheme)
    return "".join(kept) + "…" if width > 0 else ""


def left(text: str, width: int) -> str:
    """Return `text` clipped and padded on the right to exactly `width` cells."""
    clipped = clip(text, width)
    return clipped + " " * (width - cells(clipped))


def right(text: str, width: int) -> str:
    """Return `text` clipped and padded on the left to exactly `width` cells."""
    clipped = clip(text, width)
    return " " * (width - cells(clipped)) + clipped


@lru_cache(maxsize=4096)
def wrap(text: str, width: int) -> tuple[str, ...]:
    """Return `text` as rows of at most `width` cells, broken at spaces where that is possible."""
    rows: list[str] = []
    for paragraph in text.split("\n"):
        rows += _wrap_paragraph(paragraph, max(width, 2))
    return tuple(rows)


def _wrap_paragraph(text: str, width: int) -> list[str]:
    rows: list[str] = []
    row = ""
    for word in _words(text):
        if cells(row) + cells(word.rstrip(" ")) <= width:
            row += word
            continue
        if row.strip():
            rows.append(row.rstrip(" "))
            row = ""
        *full, row = _chop(word, width)
        rows += full
    rows.append(row.rstrip(" "))
    return rows


def _words(text: str) -> list[str]:
    """Split behind runs of spaces, which stay with the word before them."""
    words: list[str] = []
    for part in text.split(" "):
        if part or not words:
            words.append(part + " ")
        else:
            words[-1] += " "
    return words


def _chop(word: str, width: int) -> list[str]:
    """Cut a word that is wider than a row into rows."""
    rows = [""]
    for grapheme in graphemes(word):
        if cells(rows[-1].rstrip(" ")) + cells(grapheme) > width and grapheme != " ":
            rows.append("")
        rows[-1] += grapheme
    return rows

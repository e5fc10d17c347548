"""Text measured in terminal cells.

Curses and most terminals lay text out code point by code point, so that is how it is measured:
an emoji joined from three takes the cells of three, even where a font could draw it as one. Where
tables differ, the larger number is right: a row that turns out narrower harms no other. Flags are
the one exception: each of their two letters is one cell wide to the C libraries that curses asks
and two to newer tables, but the pair is two in every terminal; only a letter alone is uncertain.

Rows are broken at spaces, and beside ideographs, which stand without them; but none begins with
what closes a phrase or ends with what opens one, if that can be avoided. A URL that fits into a
row is whole, so that it can be clicked and copied.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from wcwidth import iter_graphemes, wcwidth

_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]{2}")
# A scheme is short, so that a long word is not looked through from each of its letters.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15}://[!-~]*[A-Za-z0-9/#=&_~+%@$*-])")
_OPENS = frozenset({"Ps", "Pi"})
# Brackets and stops, and letters that lengthen or repeat the one before them (ー 々).
_CLOSES = frozenset({"Pe", "Pf", "Po", "Pd", "Lm"})
_SMALL_KANA = frozenset("ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ")


def graphemes(text: str) -> list[str]:
    """Return what a person takes for the characters of `text` (Unicode TR 29)."""
    return list(text) if text.isascii() else list(iter_graphemes(text))


def cells(text: str) -> int:
    """Return how many cells `text` takes."""
    if text.isascii() and text.isprintable():
        return len(text)
    return sum(map(_width, text)) - 2 * len(_FLAG.findall(text))


@lru_cache(maxsize=4096)
def _width(character: str) -> int:
    # Curses gives a cell of their own to vowel signs that stand beside their letter (the tables
    # of graphemes do not), and shows what it does not know yet as a space.
    least = 1 if unicodedata.category(character) in ("Mc", "Cn") else 0
    return max(wcwidth(character), least, 2 if "\U0001f1e6" <= character <= "\U0001f1ff" else 0)


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


@lru_cache(maxsize=1024)
def wrap(text: str, width: int) -> tuple[str, ...]:
    """Return `text` as rows of at most `width` cells, broken at spaces where that is possible."""
    rows: list[str] = []
    for paragraph in text.split("\n"):
        rows += _wrap_paragraph(paragraph, max(width, 2))
    return tuple(rows)


def _wrap_paragraph(text: str, width: int) -> list[str]:
    body = text.lstrip(" ")
    pieces = [piece for word in _words(body) for piece in _pieces(word)]
    rows: list[str] = []
    row = " " * _indent(len(text) - len(body), cells(pieces[0].rstrip(" ")), width)
    for piece in pieces:
        if cells(row) + cells(piece.rstrip(" ")) <= width:
            row += piece
            continue
        if row.strip():
            rows.append(row.rstrip(" "))
            row = ""
        *full, row = _chop(row, piece, width)
        rows += full
    rows.append(row.rstrip(" "))
    return rows


def _indent(wanted: int, first: int, width: int) -> int:
    """Return how many of a line's leading spaces stay, before a first piece of so many cells."""
    return min(wanted, width - first if first <= width else width // 2)


def _words(text: str) -> list[str]:
    """Split behind runs of spaces, which stay with the word before them."""
    words: list[str] = []
    for part in text.split(" "):
        if part or not words:
            words.append(part + " ")
        else:
            words[-1] += " "
    return words


def _pieces(word: str) -> list[str]:
    """Split a word wherever a row may end."""
    if word.isascii():
        return [word]
    pieces: list[list[str]] = []
    for unit in _units(word, len(word)):
        if pieces and not _may_part(pieces[-1][-1], unit):
            pieces[-1].append(unit)
        else:
            pieces.append([unit])
    return ["".join(piece) for piece in pieces]


def _units(word: str, width: int) -> list[str]:
    """Return a word's graphemes; a URL that fits into `width` cells is one of them."""
    if "://" not in word:
        return graphemes(word)
    units: list[str] = []
    for index, part in enumerate(_URL.split(word)):
        units += [part] if index % 2 and len(part) <= width else graphemes(part)
    return units


def _may_part(before: str, after: str) -> bool:
    """Return whether a row may end between two units of a word."""
    if unicodedata.category(before[-1]) in _OPENS or _closes(after[0]):
        return False
    return _is_ideographic(before) or _is_ideographic(after)


def _closes(character: str) -> bool:
    """Return whether no row begins with this: it stays with what is before it."""
    if character in "@#&":
        return False
    return (
        character == " " or unicodedata.category(character) in _CLOSES or character in _SMALL_KANA
    )


def _is_ideographic(unit: str) -> bool:
    """Return whether lines are broken beside this: it is wide, and not Korean, which has spaces."""
    return unicodedata.east_asian_width(unit[0]) in "WF" and not (
        "\u1100" <= unit[0] <= "\u11ff" or "\uac00" <= unit[0] <= "\ud7ff"
    )


def _chop(row: str, piece: str, width: int) -> list[str]:
    """Cut a piece that is wider than a row into rows, of which `row` is the beginning."""
    rows = [row]
    for unit in _units(piece, width):
        if cells(rows[-1].rstrip(" ")) + cells(unit) > width and unit != " ":
            rows.append("")
        rows[-1] += unit
    return rows

"""Text in terminal cells: clipping, padding and line wrapping; `widths` measures.

Rows are broken at spaces, and next to ideographs, which are written without spaces; but no row
begins with closing punctuation or ends with opening punctuation if that can be avoided. A URL
that fits into a row is kept whole, so that it can be clicked and copied.
"""

from __future__ import annotations

import re
import unicodedata

from tchat.ui.text.widths import cache_widths, cells, graphemes

__all__ = ["cells", "clip", "graphemes", "pad_left", "pad_right", "wrap"]

# The scheme's length is bounded: otherwise the search would scan a long word from each letter.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15}://[!-~]*[A-Za-z0-9/#=&_~+%@$*-])")
_OPENING = frozenset({"Ps", "Pi"})
# Closing brackets and stops, and letters that lengthen or repeat the one before them (ー 々).
_CLOSING = frozenset({"Pe", "Pf", "Po", "Pd", "Lm"})
_SMALL_KANA = frozenset("ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ")


def clip(text: str, width: int) -> str:
    """Return as much of `text` as fits into `width` cells, ending in … if something is cut off."""
    if cells(text) <= width:
        return text
    kept, used = [], 0
    for grapheme in graphemes(text):
        used += cells(grapheme)
        if used > width - 1:
            break
        kept.append(grapheme)
    return "".join(kept) + "…" if width > 0 else ""


def pad_right(text: str, width: int) -> str:
    """Return `text` clipped and padded on the right to exactly `width` cells."""
    clipped = clip(text, width)
    return clipped + " " * (width - cells(clipped))


def pad_left(text: str, width: int) -> str:
    """Return `text` clipped and padded on the left to exactly `width` cells."""
    clipped = clip(text, width)
    return " " * (width - cells(clipped)) + clipped


@cache_widths(1024)
def wrap(text: str, width: int) -> tuple[str, ...]:
    """Return `text` as rows of at most `width` cells, broken at spaces where possible."""
    rows: list[str] = []
    for paragraph in text.split("\n"):
        rows += _wrap_paragraph(paragraph, max(width, 2))
    return tuple(rows)


def _wrap_paragraph(text: str, width: int) -> list[str]:
    body = text.lstrip(" ")
    pieces = [piece for word in _split_words(body) for piece in _split_pieces(word)]
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
    """Return how many leading spaces a line keeps; its first piece is `first` cells wide."""
    return min(wanted, width - first if first <= width else width // 2)


def _split_words(text: str) -> list[str]:
    """Split after runs of spaces, which stay with the word before them."""
    words: list[str] = []
    for part in text.split(" "):
        if part or not words:
            words.append(part + " ")
        else:
            words[-1] += " "
    return words


def _split_pieces(word: str) -> list[str]:
    """Split a word wherever a row may end."""
    if word.isascii():
        return [word]
    pieces: list[list[str]] = []
    for unit in _units(word, len(word)):
        if pieces and not _may_break(pieces[-1][-1], unit):
            pieces[-1].append(unit)
        else:
            pieces.append([unit])
    return ["".join(piece) for piece in pieces]


def _units(word: str, width: int) -> list[str]:
    """Return a word's graphemes; a URL of at most `width` cells is one unit."""
    if "://" not in word:
        return graphemes(word)
    units: list[str] = []
    for index, part in enumerate(_URL.split(word)):
        units += [part] if index % 2 and len(part) <= width else graphemes(part)
    return units


def _may_break(before: str, after: str) -> bool:
    """Return whether a row may end between two units of a word."""
    if unicodedata.category(before[-1]) in _OPENING or _is_closing(after[0]):
        return False
    return _is_ideographic(before) or _is_ideographic(after)


def _is_closing(character: str) -> bool:
    """Return whether `character` must not begin a row."""
    if character in "@#&":
        return False
    return (
        character == " " or unicodedata.category(character) in _CLOSING or character in _SMALL_KANA
    )


def _is_ideographic(unit: str) -> bool:
    """Return whether a row may end next to `unit`: it is wide and not Korean, which has spaces."""
    return unicodedata.east_asian_width(unit[0]) in "WF" and not (
        "\u1100" <= unit[0] <= "\u11ff" or "\uac00" <= unit[0] <= "\ud7ff"
    )


def _chop(row: str, piece: str, width: int) -> list[str]:
    """Cut a piece that is wider than a row into rows; the first of them continues `row`."""
    rows = [row]
    for unit in _units(piece, width):
        if cells(rows[-1].rstrip(" ")) + cells(unit) > width and unit != " ":
            rows.append("")
        rows[-1] += unit
    return rows

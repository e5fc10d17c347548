"""Text in terminal cells: clipping, padding, tab stops and line wrapping; `widths` measures.

Rows are broken at spaces, and next to ideographs, which are written without spaces; but no row
begins with closing punctuation or ends with opening punctuation if that can be avoided. A URL
that fits into a row is kept whole, so that it can be clicked and copied.

Tabs are kept in what is stored and sent. Before text is measured or drawn, they are expanded to tab
stops that are counted from the beginning of the text, so that columns line up in every pane.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import Literal

from tchat.ui.text.widths import cache_texts, cells, graphemes

__all__ = [
    "cells",
    "clip",
    "expand_tabs",
    "graphemes",
    "pad_left",
    "pad_right",
    "tab_width",
    "wrap",
]

Hang = Literal["none", "indent", "column"]
"""Where the continuation rows of a wrapped line begin.

At the left edge; under the line's own indentation; or under its second column, which follows two or
more spaces in the first row. Never further right than half of the width.
"""

CACHED_BYTES = 16 << 20
"""Most bytes of each cache of what is made of messages: one of 16 KiB may have thousands of rows.
"""

_TAB_STOP = 8

# The scheme's length is bounded: otherwise the search would scan a long word from each letter.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15}://[!-~]*[A-Za-z0-9/#=&_~+%@$*-])")
_OPENING = frozenset({"Ps", "Pi"})
# Closing brackets and stops, and letters that lengthen or repeat the one before them (ー 々).
_CLOSING = frozenset({"Pe", "Pf", "Po", "Pd", "Lm"})
_SMALL_KANA = frozenset("ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ")
_WORD = re.compile("[^ ]* +")


def tab_width(column: int) -> int:
    """Return how many cells a tab takes that begins at `column`, counted from 0."""
    return _TAB_STOP - column % _TAB_STOP


def expand_tabs(text: str) -> str:
    """Return `text` with its tabs as spaces up to the next tab stop, each line for itself."""
    if "\t" not in text:
        return text
    return "\n".join(map(_expand_line, text.split("\n")))


def _expand_line(line: str) -> str:
    *parts, last = line.split("\t")
    expanded: list[str] = []
    for part in parts:  # before it is a tab stop
        expanded += [part, " " * tab_width(cells(part))]
    return "".join([*expanded, last])


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


def wrap(text: str, width: int, hang: Hang = "none", prefix: str = "") -> tuple[str, ...]:
    """Return `text` as rows of at most `width` cells, after a `prefix` without tabs.

    Rows are broken at spaces where possible. `hang` says where the rows after a line's first begin.
    """
    return _wrap(text, width, hang, prefix)


def _size_of_rows(rows: tuple[str, ...]) -> int:
    return sum(map(sys.getsizeof, rows)) + sys.getsizeof(rows)


# By the text as it came: to expand the tabs of a long text takes milliseconds.
@cache_texts(1024, CACHED_BYTES, _size_of_rows)
def _wrap(text: str, width: int, hang: Hang, prefix: str) -> tuple[str, ...]:
    rows: list[str] = []
    for paragraph in (prefix + expand_tabs(text)).split("\n"):
        rows += _wrap_paragraph(paragraph, max(width, 2), hang)
    return tuple(rows)


def _wrap_paragraph(text: str, width: int, hang: Hang) -> list[str]:
    body = text.lstrip(" ")
    # With a space at its end, since spaces stay with the word before them.
    pieces = [piece for word in _WORD.findall(body + " ") for piece in _split_pieces(word)]
    rows: list[str] = []
    row = _indent(len(text) - len(body), pieces[0], width)
    used = len(row)  # the cells of the row: to measure all of it for each piece would take long
    margin = min(_hanging_column(text, width, hang), _most_margin(width))
    for piece in pieces:
        shown = piece.rstrip(" ")
        size = cells(shown)
        if used + size <= width:
            row += piece
            used += size + len(piece) - len(shown)
            continue
        if row.strip():
            rows.append(row.rstrip(" "))
            row = _indent(margin, piece, width)
        *full, row = _chop(row, piece, width, margin)
        used = cells(row)
        rows += full
    rows.append(row.rstrip(" "))
    return rows


def _indent(wanted: int, piece: str, width: int) -> str:
    """Return the spaces before a row's first piece: fewer if it would not fit otherwise."""
    first = cells(piece.rstrip(" "))
    return " " * min(wanted, width - first if first <= width else _most_margin(width))


def _most_margin(width: int) -> int:
    """Return the largest margin that leaves room for a wide character."""
    return min(width // 2, width - 2)


def _hanging_column(line: str, width: int, hang: Hang) -> int:
    if hang == "none":
        return 0
    indent = len(line) - len(line.lstrip(" "))
    gap = line.find("  ", indent, width) if hang == "column" else -1
    return indent if gap < 0 else len(line) - len(line[gap:].lstrip(" "))


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


def _chop(row: str, piece: str, width: int, margin: int) -> list[str]:
    """Cut a piece that is wider than a row into rows; the first of them continues `row`."""
    rows = [row]
    used = cells(row)
    body = piece.rstrip(" ")
    for unit in _units(body, width):
        size = cells(unit)
        if used + size > width:
            rows.append(_indent(margin, unit, width))
            used = len(rows[-1])
        rows[-1] += unit
        used += size
    rows[-1] += piece[len(body) :]
    return rows

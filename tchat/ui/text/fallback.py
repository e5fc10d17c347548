"""Text in an encoding that lacks some of its characters: each becomes a similar one. Pure.

A terminal in the locale "C" shows ASCII only. Lines, bullets and marks become ASCII characters of
the same width, so that the layout stays; letters lose their accents; a character without a similar
one becomes "?".
"""

from __future__ import annotations

import re
import unicodedata

from tchat.ui.text.cells import cells, graphemes
from tchat.ui.text.widths import cache_widths

ELLIPSIS = "…"

# Of several spaces one stays, so that words stay apart.
_BEFORE_SPACES = re.compile(f"{ELLIPSIS}([^{ELLIPSIS}]*?)  (?= |$)")
_CUT_OFF = re.compile(f"[!-~]{{2}}{ELLIPSIS}(?=  |$)")
# Lines and arrows; marks of messages, of members (admin, online, away, offline), of progress.
_SIMILAR = dict(zip("│┤─▸»→«←⇡↑⇣↓↳·…✗↵★●◐○•▰▱", "||->>><<^^vv>..x/@*~-*#-", strict=True))
# Quotation marks, dashes and letters without a decomposition, which people type.
_SIMILAR |= dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'")
_SIMILAR |= dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"')
_SIMILAR |= dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
_SIMILAR |= dict(zip("¡¿ßøØđĐłŁæÆ\xa0\xd7\u0131", "!?soOdDlLaA xi", strict=True))
# Pictures of control characters, such as ␛.
_SIMILAR |= {chr(code): "^" for code in range(0x2400, 0x2422)}


def encodable(text: str, encoding: str) -> str:
    """Return `text` with only characters that `encoding` has, and with the same width in cells."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text)
    return "".join(_encodable_grapheme(grapheme, encoding) for grapheme in graphemes(text))


def widen_ellipses(text: str) -> str:
    """Return text with each … as three dots, as wide as before.

    The two more cells are taken from spaces that follow, or from the end of the text that was cut
    off there. Where neither is possible, the … stays.
    """
    text = _BEFORE_SPACES.sub(r"...\1", text)
    return _CUT_OFF.sub("...", text)


@cache_widths(4096)
def _encodable_grapheme(grapheme: str, encoding: str) -> str:
    shown = "".join(_encodable_character(character, encoding) for character in grapheme)
    width = cells(grapheme)  # for a flag, less than the sum of its letters
    return shown if cells(shown) == width else "?".ljust(width)


def _encodable_character(character: str, encoding: str) -> str:
    for similar in (character, _SIMILAR.get(character, ""), _without_marks(character)):
        if similar and cells(similar) == cells(character) and _has(encoding, similar):
            return similar
    return "?".ljust(cells(character)) if cells(character) else ""


def _has(encoding: str, text: str) -> bool:
    try:
        size = len(text.encode(encoding))
    except UnicodeEncodeError:
        return False
    # With an East Asian encoding, terminals show ambiguous characters, such as lines, in two cells.
    return size == len(text) or unicodedata.east_asian_width(text[0]) != "A"


def _without_marks(character: str) -> str:
    """Return the letter under its accents; of a ligature or a wide letter, the plain ones."""
    parts = unicodedata.normalize("NFKD", character)
    text = "".join(part for part in parts if not unicodedata.combining(part))
    return text.ljust(cells(character))

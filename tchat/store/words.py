"""Search tokenizer for messages and queries, also in Chinese and other unspaced scripts.

A word is a run of letters, digits and marks, compared without case, width and accents: "cafe" finds
"Café". Chinese, Japanese, Thai and related scripts have no spaces between words, and Korean appends
particles to words, so a run in these scripts may contain several words. Such a run is indexed as
bigrams (all pairs of adjacent letters), and a run in a query matches the same sequence of bigrams.
So a search finds any part of a run. Bigrams are better than trigrams here, because most Chinese
words have two letters, and better than a dictionary, because dictionaries lack names and new words.
All stores use this tokenizer, so their results are the same.

NFKC makes up to eighteen letters of one. Only the first letters and words of a text are searched,
as many as the longest message in Latin letters has, so that no message takes much longer.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from tchat.core.text import SPACELESS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TABLES = unicodedata.unidata_version
"""The Unicode version of the tokenizer. Another version may tokenize a text differently."""

EXCERPT = 200
"""About how many characters of a long text are shown around a match."""

MOST_LETTERS = 16 * 1024
MOST_WORDS = MOST_LETTERS // 2
"""How many letters of a text, after its normalization, and how many of its words are searched."""

_MAX_WORD = 64
_MAX_TERMS = 32
_BEFORE_HIT = 60
_MAX_CACHED = 20_000
_MAX_QUERY = 200  # letters: NFKC can make a text eighteen times as long
_PART = 256
_PIECE = 1024
_RUN = re.compile(f"[{SPACELESS}]+|[^ {SPACELESS}]+")
# Accents of Latin, Greek and Cyrillic, and the points of Hebrew and Arabic: often omitted.
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670]")


class _Folding(dict[int, str]):
    """Maps each character to its folded letters, or to a space; a table for `str.translate`."""

    def __missing__(self, code: int) -> str:
        plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).casefold())
        whole = unicodedata.normalize("NFC", _ACCENTS.sub("", plain))
        folded = "".join(c if _is_part_of_word(c) else " " for c in whole)
        if len(self) < _MAX_CACHED:  # a message may contain every character there is
            self[code] = folded
        return folded


_FOLDED = _Folding()


@dataclass(frozen=True, slots=True)
class Term:
    """A search term: consecutive words; if `open`, the last one matches as a prefix.

    `text` is the folded text of the term.
    """

    text: str
    words: tuple[str, ...]
    open: bool


def words_of(text: str) -> list[str]:
    """Return the words of a text, in order."""
    words = (word for run in _runs(text, MOST_LETTERS) for word in _words_of_run(run))
    return list(islice(words, MOST_WORDS))


def terms_of(text: str) -> list[Term]:
    """Return the terms of a query; its last word may be incomplete."""
    runs = list(islice(_runs(text, _MAX_QUERY), _MAX_TERMS))
    return [_term(run, is_last=number == len(runs)) for number, run in enumerate(runs, start=1)]


def excerpt(text: str, terms: Sequence[Term]) -> str:
    """Return a text, or if it is long, the part around the first match."""
    if len(text) <= EXCERPT:
        return text
    start = min(max(0, _first_hit(text, terms) - _BEFORE_HIT), len(text) - EXCERPT)
    end = start + EXCERPT
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _runs(text: str, most: int) -> Iterator[str]:
    folded = _normalized(text, most).translate(_FOLDED)[:most]
    return (found[0] for found in _RUN.finditer(folded))


def _normalized(text: str, most: int) -> str:
    """Return the first `most` letters of a text in NFKC, without normalizing all of a long one."""
    if len(text) <= _PIECE or text.isascii():
        return unicodedata.normalize("NFKC", text)[:most]
    pieces: list[str] = []
    start = size = 0
    while start < len(text) and size < most:
        end = start + _PIECE
        while end < len(text) and not _is_boundary(text[end - 1], text[end]):
            end += 1
        pieces.append(unicodedata.normalize("NFKC", text[start:end]))
        size += len(pieces[-1])
        start = end
    return "".join(pieces)[:most]


def _is_boundary(before: str, after: str) -> bool:
    """Return whether NFKC joins nothing across these two adjacent characters."""
    if unicodedata.combining(after) or "\u1160" <= after <= "\u11ff":
        return False  # a mark, or a vowel or consonant of a Hangul syllable that began before
    parts = (unicodedata.normalize("NFKC", one) for one in (before, after))
    return unicodedata.normalize("NFKC", before + after) == "".join(parts)


def _words_of_run(run: str) -> list[str]:
    if _is_spaceless(run):
        return [*map("".join, pairwise(run)), run[-1]]
    return [run[:_MAX_WORD]]


def _term(run: str, *, is_last: bool) -> Term:
    if not _is_spaceless(run):
        return Term(run, (run[:_MAX_WORD],), open=is_last)
    if len(run) == 1:
        return Term(run, (run,), open=True)  # the start of a bigram, or the last letter of a run
    return Term(run, tuple(map("".join, pairwise(run))), open=False)


def _first_hit(text: str, terms: Sequence[Term]) -> int:
    """Return the approximate position in `text` of the first match; 0 if no term matches."""
    # `str.translate` is many times faster than a look at each character.
    parts = [text[start : start + _PART].translate(_FOLDED) for start in range(0, len(text), _PART)]
    folded = "".join(parts)
    hits = [hit for term in terms if (hit := folded.find(term.text)) >= 0]
    if not hits:
        return 0
    left = min(hits)
    for number, part in enumerate(parts):
        if left < len(part):
            return number * _PART + _position(text[number * _PART :], left)
        left -= len(part)
    return 0


def _position(text: str, left: int) -> int:
    """Return the position of the character in `text` that becomes number `left` when folded."""
    for position, character in enumerate(text):
        left -= len(_FOLDED[ord(character)])
        if left < 0:
            return position
    return 0


def _is_spaceless(run: str) -> bool:
    return not run.isascii() and re.match(f"[{SPACELESS}]", run) is not None


def _is_part_of_word(character: str) -> bool:
    """Return whether this is a letter, a digit or a mark (XID_Continue without _)."""
    return f"a{character}".isidentifier() and unicodedata.category(character) != "Pc"

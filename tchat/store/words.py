"""The words of a text, by which it is found: the same for what is kept and for what is asked.

A word is a run of letters, digits and marks, compared without case, width and accents: "Café" is
found as "cafe". Chinese, Japanese, Korean, Thai and their neighbours write without spaces, or put
endings on words where others put spaces, so there is no such run to go by. Their runs are kept as
all pairs of neighbouring letters, and a run that is asked for as the pairs it has, one behind the
other: so a part of any length is found wherever it stands. Pairs rather than threes, because most
words of Chinese have two letters; rather than a dictionary, because names and new words are in
none. What is found is the same for every kind of store.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TABLES = unicodedata.unidata_version
"""Which version of Unicode says what a letter is. Another one may find other words in a text."""

EXCERPT = 200
"""About how many characters of a long text are shown around what was found in it."""

_LONGEST_WORD = 64
_MOST_TERMS = 32
_BEFORE_HIT = 60
_MOST_KNOWN = 20_000
# Thai and Lao, Burmese, Khmer, kana, Chinese characters, Hangul.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3007\u3041-\u3096\u309d-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_SPACELESS}]+|[^ {_SPACELESS}]+")
# Accents of Latin, Greek and Cyrillic, and the points of Hebrew and Arabic: often left out.
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670]")


class _Folding(dict[int, str]):
    """What stands for each character, for `str.translate`: letters that compare, or a space."""

    def __missing__(self, code: int) -> str:
        plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).casefold())
        whole = unicodedata.normalize("NFC", _ACCENTS.sub("", plain))
        folded = "".join(c if _is_part_of_word(c) else " " for c in whole)
        if len(self) < _MOST_KNOWN:  # somebody may say every character there is
            self[code] = folded
        return folded


_FOLDED = _Folding()


@dataclass(frozen=True, slots=True)
class Term:
    """What is asked for: words right behind one another, the last of which may go on if `open`.

    `text` is how they stand in a folded text.
    """

    text: str
    words: tuple[str, ...]
    open: bool


def words_of(text: str) -> list[str]:
    """Return the words of a text, in order."""
    return [word for run in _runs(text) for word in _words_of_run(run)]


def terms_of(text: str) -> list[Term]:
    """Return what somebody who typed `text` asks for; the last word may be not finished yet."""
    runs = list(islice(_runs(text), _MOST_TERMS))
    return [_term(run, is_last=number == len(runs)) for number, run in enumerate(runs, start=1)]


def matches(terms: Sequence[Term], words: Sequence[str]) -> bool:
    """Return whether all the terms are among the words of a text."""
    return all(any(_stands_at(term, words, at) for at in range(len(words))) for term in terms)


def excerpt(text: str, terms: Sequence[Term]) -> str:
    """Return a text, or of a long one the part around the first term that is found in it."""
    if len(text) <= EXCERPT:
        return text
    start = min(max(0, _first_hit(text, terms) - _BEFORE_HIT), len(text) - EXCERPT)
    end = start + EXCERPT
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _runs(text: str) -> Iterator[str]:
    folded = unicodedata.normalize("NFKC", text).translate(_FOLDED)
    return (found[0] for found in _RUN.finditer(folded))


def _words_of_run(run: str) -> list[str]:
    if _is_spaceless(run):
        return [*map("".join, pairwise(run)), run[-1]]
    return [run[:_LONGEST_WORD]]


def _term(run: str, *, is_last: bool) -> Term:
    if not _is_spaceless(run):
        return Term(run, (run[:_LONGEST_WORD],), open=is_last)
    if len(run) == 1:
        return Term(run, (run,), open=True)  # it begins a pair, or ends its run
    return Term(run, tuple(map("".join, pairwise(run))), open=False)


def _stands_at(term: Term, words: Sequence[str], at: int) -> bool:
    there = tuple(words[at : at + len(term.words)])
    if term.open and there:
        return there[:-1] == term.words[:-1] and there[-1].startswith(term.words[-1])
    return there == term.words


def _first_hit(text: str, terms: Sequence[Term]) -> int:
    """Return where in `text` about the first of the terms stands; 0 if none is seen there."""
    pieces = [_FOLDED[ord(character)] for character in text]
    folded = "".join(pieces)
    hits = [hit for term in terms if (hit := folded.find(term.text)) >= 0]
    if not hits:
        return 0
    left = min(hits)
    for place, piece in enumerate(pieces):
        left -= len(piece)
        if left < 0:
            return place
    return 0


def _is_spaceless(run: str) -> bool:
    return not run.isascii() and re.match(f"[{_SPACELESS}]", run) is not None


def _is_part_of_word(character: str) -> bool:
    """Return whether this is a letter, a digit or a mark (Unicode's XID_Continue, but for _)."""
    return f"a{character}".isidentifier() and unicodedata.category(character) != "Pc"

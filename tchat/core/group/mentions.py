"""Mentions: find people's names in a message."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Collection
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from tchat.core.text import SPACELESS, fold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LETTER = rf"[^\W{SPACELESS}]"
_ASCII_WORD = re.compile(r"\w+(?:[.-]\w+)*", re.ASCII)
"""A word, hyphenated name or host name: a name inside of it is not a mention.

For other than ASCII text, see `_word`: the classes of all scripts take longer.
"""

_TO_PARTS = "".join(
    char.lower() if char in f"{string.digits}{string.ascii_letters}_" else " "
    for char in map(chr, range(256))
).encode("latin-1")
"""A table for `bytes.translate`: words in lower case, and spaces for all other characters."""

_LONG_LIGATURES = {0xFDFA: " ", 0xFDFB: " "}
"""Whole sentences in one character, of which NFKC makes up to eighteen; they contain no name."""

_CACHED_NAMES = 64
_SHORT_TEXT = 1000
_LONGEST_RUN = 30  # of combining marks: the longest of a text in the stream-safe format (UAX #15)
_LAST_MARK = 0x1FFFF  # there are no combining marks of a class in the planes of ideographs and tags


class Names(Collection[str]):
    """A set of people's names (folded), indexed to find those that a text mentions.

    The server searches each message for all members of a group at once, so the cost of a search
    depends on the length of the text, but hardly on the number of names. Most names are *words*:
    they are looked up among the words of the text. The others, in scripts without spaces or with
    unusual marks, are looked up at each position, in each length that such a name has.

    Most messages mention nobody. In ASCII text, that is found at a fifth of the cost: a text
    without the first part of any name (`a` of `a.b`) as a part of a word mentions nobody.
    """

    def __init__(self, people: Iterable[str] = ()) -> None:
        self._words: set[str] = set()
        self._others: set[str] = set()
        self._first_parts: set[bytes] = set()
        # The lengths of the other names by their first characters; computed when needed.
        self._lengths: dict[str, list[int]] | None = None
        self._starts: re.Pattern[str]
        for person in people:
            self.add(person)

    def __contains__(self, person: object) -> bool:
        return person in self._words or person in self._others

    def __iter__(self) -> Iterator[str]:
        yield from self._words
        yield from self._others

    def __len__(self) -> int:
        return len(self._words) + len(self._others)

    def add(self, person: str) -> None:
        """Add a name, unless it is there."""
        ascii_only = person.isascii()
        if (_ASCII_WORD if ascii_only else _word()).fullmatch(person):
            self._words.add(person)
            if ascii_only:
                self._first_parts.add(_parts(person)[0])
        elif person not in self._others:
            self._others.add(person)
            self._lengths = None

    def discard(self, person: str) -> None:
        """Remove a name, if it is there."""
        self._words.discard(person)  # its first part may be another's as well
        if person in self._others:
            self._others.remove(person)
            self._lengths = None

    def may_be_in(self, texts: Iterable[str]) -> bool:
        """Return whether any of these texts may mention a name; False is certain.

        This takes a fraction of the time of `mentioned_in` for each of them.
        """
        text = "\n".join(texts)
        return bool(
            self._others or not text.isascii() or not self._first_parts.isdisjoint(_parts(text))
        )

    def mentioned_in(self, text: str) -> set[str]:
        """Return the names that a text mentions."""
        if text.isascii():
            if not self._others and self._first_parts.isdisjoint(_parts(text)):
                return set()
            folded, word = text.lower(), _ASCII_WORD
        else:
            if len(text) > _SHORT_TEXT:
                text = _runs_of_marks().sub(r"\1", text)
            text = text.translate(_LONG_LIGATURES)
            folded, word = unicodedata.normalize("NFKC", text).casefold(), _word()
        found = self._words.intersection(word.findall(folded)) if self._words else set()
        return found | self._find_others(folded) if self._others else found

    def _find_others(self, folded: str) -> set[str]:
        """Return the mentioned names that are not words."""
        if self._lengths is None:
            self._lengths = _lengths_of(self._others)
            self._starts = re.compile(f"[{re.escape(''.join(self._lengths))}]")
        found: set[str] = set()
        for begin in self._starts.finditer(folded):
            start = begin.start()
            for length in self._lengths[begin[0]]:
                name = folded[start : start + length]
                if name in self._others and name not in found and _is_whole(folded, start, name):
                    found.add(name)
        return found


def is_mention(text: str, me: str) -> bool:
    """Return whether a text contains a person's name as a whole word.

    Scripts without spaces do not mark word boundaries: there any occurrence of the name counts.
    """
    return bool(_only(me).mentioned_in(text))


def mentioned(text: str, people: Collection[str]) -> set[str]:
    """Return which of these people (folded) a text mentions."""
    return (people if isinstance(people, Names) else Names(people)).mentioned_in(text)


@lru_cache(maxsize=_CACHED_NAMES)
def _only(me: str) -> Names:
    return Names((fold(me),))


def _parts(text: str) -> list[bytes]:
    """Return the runs of letters, digits and `_` in an ASCII text, in lower case."""
    return text.encode("ascii").translate(_TO_PARTS).split()


def _lengths_of(names: Iterable[str]) -> dict[str, list[int]]:
    """Return the different lengths of names, by the first characters of the names."""
    lengths: dict[str, set[int]] = {}
    for name in names:
        lengths.setdefault(name[0], set()).add(len(name))
    return {first: sorted(found) for first, found in lengths.items()}


def _is_whole(folded: str, start: int, name: str) -> bool:
    """Return whether a name that begins at `start` is not a part of a word there."""
    long = len(name) > 1
    spaceless, begin, end = _boundaries()
    return bool(
        ((long and spaceless.match(name)) or begin.match(folded, start))
        and ((long and spaceless.match(name[-1])) or end.match(folded, start + len(name)))
    )


# Compiling the classes of all scripts takes 10 ms, so that no program does it at its start.


@cache
def _word() -> re.Pattern[str]:
    return re.compile(rf"{_LETTER}+(?:[.-]{_LETTER}+)*")


@cache
def _runs_of_marks() -> re.Pattern[str]:
    """Return a pattern for long runs of combining marks, whose beginning is group 1.

    NFKC sorts the marks of each run, which takes quadratic time. A server's sanitizer leaves no
    such runs, but a client does not rely on that.
    """
    marks = "".join(char for char in map(chr, range(_LAST_MARK)) if unicodedata.combining(char))
    return re.compile(f"([{marks}]{{{_LONGEST_RUN}}})[{marks}]+")


@cache
def _boundaries() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Return patterns: a letter of a script without spaces, the beginning of a word, its end."""
    return (
        re.compile(f"[{SPACELESS}]"),
        re.compile(rf"(?<!{_LETTER})(?<!{_LETTER}[.-])"),
        re.compile(rf"(?!{_LETTER}|[.-]{_LETTER})"),
    )

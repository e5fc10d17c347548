"""Mentions: find people's names in a message."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from tchat.core.text import SPACELESS, fold

if TYPE_CHECKING:
    from collections.abc import Iterable

_WITHOUT_SPACES = re.compile(f"[{SPACELESS}]")
_LETTER = rf"[^\W{SPACELESS}]"
_RUN = re.compile(f"{_LETTER}+")
_CACHED_NAMES = 4096


def is_mention(text: str, me: str) -> bool:
    """Return whether a text contains a person's name as a whole word.

    Scripts without spaces do not mark word boundaries: there any occurrence of the name counts.
    """
    return bool(mentioned(text, (fold(me),)))


def mentioned(text: str, people: Iterable[str]) -> list[str]:
    """Return which of these people (folded) a text mentions.

    The server asks this about all members of a group at once. So most names are excluded by their
    first run of letters, without a search of the text: a mention has it as a whole run.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    runs = set(_RUN.findall(folded))
    return [
        person
        for person in people
        if ((run := _first_run(person)) in runs or not run)
        and person in folded
        and _pattern_of(person).search(folded) is not None
    ]


@lru_cache(maxsize=_CACHED_NAMES)
def _first_run(name: str) -> str:
    """Return the run of letters at the beginning of a name; empty in scripts without spaces."""
    found = _RUN.match(name)
    return found.group() if found is not None and not _WITHOUT_SPACES.search(name) else ""


@lru_cache(maxsize=_CACHED_NAMES)
def _pattern_of(name: str) -> re.Pattern[str]:
    """Return a pattern for a name that is not part of a word, hyphenated name or host name."""
    whole = len(name) > 1
    before = "" if whole and _WITHOUT_SPACES.match(name) else rf"(?<!{_LETTER})(?<!{_LETTER}[.-])"
    after = "" if whole and _WITHOUT_SPACES.match(name[-1]) else rf"(?!{_LETTER}|[.-]{_LETTER})"
    return re.compile(before + re.escape(name) + after)

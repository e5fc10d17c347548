"""Mentions: find this person's name in a message."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from tchat.core.text import SPACELESS, fold

_WITHOUT_SPACES = re.compile(f"[{SPACELESS}]")
_LETTER = rf"[^\W{SPACELESS}]"


def is_mention(text: str, me: str) -> bool:
    """Return whether a text contains a person's name as a whole word.

    Scripts without spaces do not mark word boundaries: there any occurrence of the name counts.
    """
    name = fold(me)
    folded = unicodedata.normalize("NFKC", text).casefold()
    return name in folded and _pattern_of(name).search(folded) is not None


@lru_cache(maxsize=16)
def _pattern_of(name: str) -> re.Pattern[str]:
    """Return a pattern for a name that is not part of a word, hyphenated name or host name."""
    whole = len(name) > 1
    before = "" if whole and _WITHOUT_SPACES.match(name) else rf"(?<!{_LETTER})(?<!{_LETTER}[.-])"
    after = "" if whole and _WITHOUT_SPACES.match(name[-1]) else rf"(?!{_LETTER}|[.-]{_LETTER})"
    return re.compile(before + re.escape(name) + after)

"""Mentions: find this person's name in a message."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from tchat.core.text import fold

# Thai to Khmer, kana, Chinese characters: scripts that are written without spaces between words.
_NO_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
)
_SPACELESS = re.compile(f"[{_NO_SPACES}]")
_LETTER = rf"[^\W{_NO_SPACES}]"


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
    before = "" if whole and _SPACELESS.match(name) else rf"(?<!{_LETTER})(?<!{_LETTER}[.-])"
    after = "" if whole and _SPACELESS.match(name[-1]) else rf"(?!{_LETTER}|[.-]{_LETTER})"
    return re.compile(before + re.escape(name) + after)

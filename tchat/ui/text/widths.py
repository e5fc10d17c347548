"""Measure text in terminal cells, and shape emoji sequences by the terminal's width profile.

Tables of widths agree about most characters, but not about sequences: an emoji with a variation
selector (VS16), with a skin tone, or joined from several (ZWJ) takes two cells in some terminals
and the sum of its parts in others; a vowel sign of an Indic script takes a cell or none. The
*profile* describes the present terminal; `tui/screen` asks the terminal for it (`width_probe`).

`shape` returns the form in which a text is drawn, and how many cells it takes. Measuring, wrapping
and painting all use `shape`, so they cannot disagree. A sequence is drawn as one character only if
the profile says that the terminal can. Otherwise its parts are drawn, without the joiners and
selectors, so that no terminal joins them. The text itself does not change: when it is stored,
copied, edited or sent, it keeps every code point.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, TypeVar

from wcwidth import iter_graphemes, wcswidth, wcwidth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from functools import _lru_cache_wrapper

T = TypeVar("T")

_ZWJ, _VS15, _VS16, _KEYCAP = "\u200d", "\ufe0e", "\ufe0f", "\u20e3"
_TONES = "\U0001f3fb-\U0001f3ff"
_FLAG_LETTERS = "\U0001f1e6-\U0001f1ff"
_SEQUENCE = re.compile(f"[{_ZWJ}{_VS15}{_VS16}{_TONES}{_FLAG_LETTERS}]")
_FLAG = re.compile(f"[{_FLAG_LETTERS}]{{2}}")
_TONE = re.compile(f"[{_TONES}]")
# Categories in which all terminals agree about the width of a character, unless it is an emoji.
_CERTAIN_CATEGORIES = frozenset("LNPSZ")
_FIRST_UNCERTAIN = 0x10000
# Tone marks and numbers in squares: one or two cells, depending on the table.
_PERHAPS_WIDE = frozenset(
    "\u302e\u302f\u3248\u3249\u324a\u324b\u324c\u324d\u324e\u324f\U00016ff0\U00016ff1"
)


@dataclass(frozen=True, slots=True)
class WidthProfile:
    """How many cells a terminal gives to sequences; the default fits one that joins no parts.

    `selector` and `keycap` are the cells of a narrow emoji with VS16 and of a keycap. `toned` says
    that an emoji and its skin tone are drawn as one, `joined` that emoji with ZWJ between them are.
    `spacing` is the cells of a spacing vowel sign (category Mc).
    """

    selector: int = 1
    keycap: int = 1
    toned: bool = False
    joined: bool = False
    spacing: int = 1


SAFE = WidthProfile()
"""The profile of an unknown terminal."""

_profile = SAFE
_caches: list[Callable[[], None]] = []


def profile() -> WidthProfile:
    """Return the profile in use."""
    return _profile


def use_profile(new: WidthProfile) -> None:
    """Shape and measure all text for another profile from now on."""
    global _profile
    if new != _profile:
        _profile = new
        for clear in _caches:
            clear()


@contextmanager
def using_profile(new: WidthProfile) -> Iterator[None]:
    """Use a profile for the length of the block."""
    before = _profile
    use_profile(new)
    try:
        yield
    finally:
        use_profile(before)


def cache_widths(maxsize: int) -> Callable[[Callable[..., T]], _lru_cache_wrapper[T]]:
    """Cache results that depend on widths (`lru_cache`), as long as the profile stays."""

    def decorate(function: Callable[..., T]) -> _lru_cache_wrapper[T]:
        cached = lru_cache(maxsize=maxsize)(function)
        _caches.append(cached.cache_clear)
        return cached

    return decorate


def cache_texts(
    maxsize: int, most: int, size_of: Callable[[T], int]
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Cache the latest results that depend on widths and on texts, which may be long.

    They are at most `maxsize`, and take at most `most` bytes: that of `size_of` for the result, and
    the arguments. The results of all texts on a screen have to fit in.
    """

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        results: OrderedDict[tuple[object, ...], tuple[T, int]] = OrderedDict()
        total = 0

        @wraps(function)
        def cached(*arguments: object) -> T:
            nonlocal total
            if (known := results.get(arguments)) is not None:
                results.move_to_end(arguments)
                return known[0]
            result = function(*arguments)
            size = size_of(result) + sum(map(sys.getsizeof, arguments))
            results[arguments] = result, size
            total += size
            while len(results) > 1 and (total > most or len(results) > maxsize):
                total -= results.popitem(last=False)[1][1]
            return result

        def clear() -> None:
            nonlocal total
            results.clear()
            total = 0

        _caches.append(clear)
        return cached

    return decorate


def graphemes(text: str) -> list[str]:
    """Return the user-perceived characters of `text` (grapheme clusters, Unicode TR 29)."""
    return list(text) if text.isascii() else list(iter_graphemes(text))


def cells(text: str) -> int:
    """Return how many terminal cells `text` takes."""
    if text.isascii() and text.isprintable():
        return len(text)
    text = unicodedata.normalize("NFC", text)
    if not _SEQUENCE.search(text):
        return sum(map(_width, text))
    return sum(_shape_grapheme(grapheme)[1] for grapheme in iter_graphemes(text))


def shape(text: str) -> list[tuple[str, int]]:
    """Return the graphemes of `text` as they are drawn, each with its cells.

    The graphemes are composed (NFC). A grapheme that begins with a combining mark may take no cell
    of its own: it is drawn in the cell before it.
    """
    composed = unicodedata.normalize("NFC", text)
    return [_shape_grapheme(grapheme) for grapheme in iter_graphemes(composed)]


@cache_widths(4096)
def is_certain(drawn: str) -> bool:
    """Return whether all terminals give a drawn grapheme the cells that `shape` says."""
    if len(drawn) != 1 or ord(drawn) >= _FIRST_UNCERTAIN:
        return drawn.isascii() and len(drawn) == 1
    category = unicodedata.category(drawn)
    is_emoji = category == "So" and (_takes_selector(drawn) or wcwidth(drawn) > 1)
    return category[0] in _CERTAIN_CATEGORIES and not is_emoji and wcwidth(drawn) == _width(drawn)


@cache_widths(4096)
def _width(character: str) -> int:
    # Where tables differ, the larger width is safe: a character that turns out narrower covers no
    # other. Many tables give an unassigned character (Cn) one cell. Some give each letter of a flag
    # one cell, but a single letter may take two.
    category = unicodedata.category(character)
    least = 0
    if _is_flag_letter(character) or character in _PERHAPS_WIDE:
        least = 2
    elif category in ("Mc", "Cn"):
        least = 1 if category == "Cn" else _profile.spacing
    return max(wcwidth(character), least)


@cache_widths(4096)
def _shape_grapheme(grapheme: str) -> tuple[str, int]:
    if len(grapheme) == 1:
        return ("", 0) if grapheme in (_ZWJ, _VS15, _VS16) else (grapheme, _width(grapheme))
    if _FLAG.match(grapheme):
        rest = _shape_parts(grapheme[2:])
        return grapheme[:2] + rest[0], 2 + rest[1]
    if _ZWJ in grapheme:
        return (grapheme, 2) if _is_joined(grapheme) else _shape_parts(grapheme.replace(_ZWJ, ""))
    if _VS16 in grapheme or _VS15 in grapheme:
        return _shape_selected(grapheme)
    if _TONE.search(grapheme[1:]):
        whole = _profile.toned and len(grapheme) == 2 and wcwidth(grapheme[0]) == 2
        return grapheme, 2 if whole else sum(map(_width, grapheme))
    return grapheme, sum(map(_width, grapheme))


def _shape_parts(text: str) -> tuple[str, int]:
    shaped = shape(text)
    return "".join(drawn for drawn, _ in shaped), sum(width for _, width in shaped)


def _shape_selected(grapheme: str) -> tuple[str, int]:
    """Shape an emoji with its selector; the selector is dropped where it changes nothing."""
    base, rest = grapheme[0], grapheme[1:]
    if rest == _VS16 + _KEYCAP and _profile.keycap == 2:
        return grapheme, 2
    if rest == _VS16 and _profile.selector == 2 and _takes_selector(base):
        return grapheme, 2
    return _shape_parts(grapheme.replace(_VS15, "").replace(_VS16, ""))


def _is_joined(grapheme: str) -> bool:
    """Return whether a sequence with joiners is one emoji in two cells."""
    parts = grapheme.split(_ZWJ)
    if not _profile.joined or not all(map(_is_emoji, parts)):
        return False
    return _profile.toned or not _TONE.search(grapheme[1:])


def _is_emoji(part: str) -> bool:
    """Return whether a part between joiners is an emoji, perhaps with a selector or a skin tone."""
    base, rest = part[:1], part[1:]
    if not base or not (rest in ("", _VS16) or _TONE.fullmatch(rest)):
        return False
    return unicodedata.category(base) == "So" and (wcwidth(base) == 2 or _takes_selector(base))


def _takes_selector(character: str) -> bool:
    """Return whether VS16 makes a narrow character a wide emoji."""
    return wcwidth(character) == 1 and wcswidth(character + _VS16) == 2


def _is_flag_letter(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"

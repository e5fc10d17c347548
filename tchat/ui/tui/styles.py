"""Colours and styles: the theme for 256, 16, 8 and 0 colours, NO_COLOR, and a person's own looks.

A terminal cannot be asked for its background in general, so each colour has to be readable on black
and on white alike: the theme uses colours of the palette of 256 whose contrast with both is 3:1 or
better. The first sixteen colours are whatever the person has set them to; the theme uses few of
those, and never black, white, yellow or blue. Without colours, attributes convey what the colours
would, so that nothing is lost on a monochrome terminal or with `NO_COLOR` set.

A look is written as in the configuration file: words for attributes, at most one colour.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from tchat.core.text import fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ATTRIBUTES = ("bold", "dim", "italic", "underline", "reverse")
COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")

# The look of each style with 256 colours, with 16 or 8, and with none.
_THEME = {
    "text": ("", "", ""),
    "input": ("", "", ""),
    "dim": ("colour 244", "dim", "dim"),
    "rule": ("colour 244", "dim", "dim"),
    "day": ("colour 244", "dim", "dim"),
    "title": ("reverse", "reverse", "reverse"),
    "title.name": ("bold reverse", "bold reverse", "bold reverse"),
    "alert": ("bold reverse colour 160", "bold reverse red", "bold reverse underline"),
    "status": ("colour 244", "dim", "dim"),
    "highlight": ("bold colour 31", "bold cyan", "bold"),
    "notice": ("colour 244", "dim", "dim"),
    "error": ("bold colour 160", "bold red", "bold"),
    "new": ("bold colour 160", "bold red", "bold"),
    "prompt": ("bold", "bold", "bold"),
    "question": ("bold reverse", "bold reverse", "bold reverse"),
    "mention": ("bold colour 166", "bold magenta", "bold"),
    "pending": ("colour 244", "dim", "dim"),
    "failed": ("underline colour 160", "underline red", "underline"),
    "member.admin": ("bold", "bold", "bold"),
    "member.online": ("", "", ""),
    "member.offline": ("colour 244", "dim", "dim"),
    "activity": ("colour 31", "cyan", "underline"),
    "activity.mention": ("bold colour 166", "bold magenta", "bold underline"),
    "activity.current": ("reverse", "reverse", "reverse"),
    "selection": ("reverse", "reverse", "reverse"),
    "search": ("bold underline", "bold underline", "bold underline"),
    "url": ("underline colour 32", "underline", "underline"),
}
# Colours of people's names by colour depth; the twelve of 256 are far apart in CIE Lab.
_NAMES = {
    256: [f"colour {n}" for n in (31, 93, 197, 28, 130, 133, 200, 33, 131, 100, 29, 99)],
    16: ["red", "green", "magenta", "cyan", "bright red", "bright blue", "bright magenta"],
    8: ["red", "green", "magenta", "cyan", "bold red", "bold magenta"],
    0: ["bold"],
}
NAME_COLOURS = len(_NAMES[256])

STYLES = (*_THEME, *(f"name{index}" for index in range(NAME_COLOURS)))
"""The names of all styles."""

_BASIC = {name: index for index, name in enumerate(COLOURS)}
_BRIGHT = {f"bright {name}": index + 8 for index, name in enumerate(COLOURS)}
_NAMED = _BASIC | _BRIGHT | {"grey": 8, "gray": 8}
# xterm's palette: sixteen basic colours, a cube with six steps per channel, 24 greys.
_STEPS = (0, 95, 135, 175, 215, 255)
_PALETTE = (
    *((0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0)),
    *((0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229)),
    *((127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0)),
    *((92, 92, 255), (255, 0, 255), (0, 255, 255), (255, 255, 255)),
    *((r, g, b) for r in _STEPS for g in _STEPS for b in _STEPS),
    *((8 + 10 * step,) * 3 for step in range(24)),
)
_BLACK_AND_WHITE = (0, 7, 15)
_COLOUR = re.compile(r"colou?r ([0-9]{1,3})|#([0-9a-f]{6})|((?:bright )?[a-z]+)")
_LOOK_HELP = (
    f"write any of {', '.join(ATTRIBUTES)}, and at most one colour: {', '.join(COLOURS)}, also"
    ' with "bright" before it, or grey, "colour 0" to "colour 255", "#rrggbb"; or "plain"'
)


class Look(NamedTuple):
    """A colour of the 256-colour palette (None: the terminal's default), and attributes."""

    colour: int | None = None
    attributes: frozenset[str] = frozenset()


def parse_look(text: str) -> Look:
    """Return the look that `text` describes. Raises ValueError with the expected form."""
    words = text.lower().split()
    attributes = frozenset(words) & frozenset(ATTRIBUTES)
    colour = " ".join(word for word in words if word not in attributes)
    if not words:
        raise ValueError(_LOOK_HELP)
    return Look(None if colour in ("", "plain") else _parse_colour(colour), attributes)


def parse_looks(texts: Mapping[str, str], where: object) -> dict[str, Look]:
    """Return the looks that a person has given to styles in the configuration file `where`.

    Raises `Refused` (bad_config).
    """
    looks = {}
    for style, text in texts.items():
        if style not in STYLES:
            raise Refused(
                Code.BAD_CONFIG,
                f"{where}: colours: there is no style {style!r}; known: {', '.join(STYLES)}.",
            )
        try:
            looks[style] = parse_look(text)
        except ValueError as error:
            raise Refused(
                Code.BAD_CONFIG, f"{where}: colours.{style} is {text!r}; {error}."
            ) from error
    return looks


def choose_depth(count: int, environment: Mapping[str, str]) -> int:
    """Return how many of a terminal's `count` colours to use: 256, 16, 8 or 0.

    0 if the person wants no colours in any program (NO_COLOR, no-color.org).
    """
    if environment.get("NO_COLOR"):
        return 0
    return next(depth for depth in (256, 16, 8, 0) if count >= depth or not depth)


def theme(depth: int, own: Mapping[str, Look] | None = None) -> dict[str, Look]:
    """Return the look of each style with a depth of 256, 16, 8 or 0 colours.

    The person's `own` looks replace the theme's, in the nearest available colours.
    """
    looks = _defaults(depth)
    for style, wish in (own or {}).items():
        if depth:
            looks[style] = wish._replace(colour=_reduce_colour(wish.colour, depth))
        else:
            # A look that is only a colour would be invisible here, so the theme's attributes stay.
            looks[style] = Look(None, wish.attributes or looks[style].attributes)
    return looks


def name_style(name: str) -> str:
    """Return the style of a person's name: always the same one, by a hash of the name."""
    return f"name{crc32(fold(name).encode()) % NAME_COLOURS}"


def _defaults(depth: int) -> dict[str, Look]:
    column = 0 if depth == 256 else 1 if depth else 2
    names = _NAMES[depth]
    texts = {style: columns[column] for style, columns in _THEME.items()}
    texts |= {f"name{index}": names[index % len(names)] for index in range(NAME_COLOURS)}
    return {style: parse_look(text) if text else Look() for style, text in texts.items()}


def _parse_colour(text: str) -> int:
    """Return a colour's index in the palette. Raises ValueError."""
    match = _COLOUR.fullmatch(text)
    number, rgb, name = match.groups() if match else (None, None, None)
    if rgb:
        # Not one of the first sixteen: the terminal's user may have redefined those.
        return _nearest(tuple(bytes.fromhex(rgb)), range(16, 256))
    index = int(number) if number else _NAMED.get(name or "", 256)
    if index > 255:
        raise ValueError(_LOOK_HELP)
    return index


def _reduce_colour(colour: int | None, depth: int) -> int | None:
    """Return the nearest of the first `depth` colours of the palette.

    Black and white become the terminal's own colour, since one of them may be the background.
    """
    if colour is None or colour < depth:
        return colour
    nearest = _nearest(_PALETTE[colour], range(depth))
    return None if nearest in _BLACK_AND_WHITE else nearest


def _nearest(rgb: tuple[int, ...], choice: Iterable[int]) -> int:
    """Return the colour of `choice` nearest to an RGB colour with channels of 0-255."""
    return min(
        choice, key=lambda n: sum((a - b) ** 2 for a, b in zip(rgb, _PALETTE[n], strict=True))
    )

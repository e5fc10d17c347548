"""What the names of styles look like, on terminals with 256 colours, with few, and with none.

Nobody can ask a terminal for its background, so a colour has to be readable on black and on
white alike: the theme uses those of the palette of 256 whose contrast with both is three to one
or better. The first sixteen are whatever the person has set them to; of those the theme uses few,
and never black, white, yellow or blue. What is told by a colour is told by an attribute as well
where there is none, so that nothing is lost on a terminal with one colour or with `NO_COLOR` set.

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

# Each style with 256 colours, with 8 or 16, and with none.
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
# The names' colours, as far apart from each other as a dozen can be (CIE Lab).
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
# The sixteen as xterm has them, a cube of six steps for each of three lights, a ramp of greys.
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
_RIGHT = (
    f"right would be some of {', '.join(ATTRIBUTES)}, and a colour: {', '.join(COLOURS)}, grey,"
    ' one of them but grey with "bright" before it, "colour 0" to "colour 255", or "#rrggbb";'
    ' or "plain"'
)


class Look(NamedTuple):
    """A colour of the palette of 256, or None for the terminal's own, and names of attributes."""

    colour: int | None = None
    attributes: frozenset[str] = frozenset()


def read_look(text: str) -> Look:
    """Return the look that is written in `text`. Raises ValueError: what would be right."""
    words = text.lower().split()
    attributes = frozenset(words) & frozenset(ATTRIBUTES)
    colour = " ".join(word for word in words if word not in attributes)
    if not words:
        raise ValueError(_RIGHT)
    return Look(None if colour in ("", "plain") else _read_colour(colour), attributes)


def read_colours(colours: Mapping[str, str], where: object) -> dict[str, Look]:
    """Return the looks that a person has given to styles in the file `where`.

    Raises `Refused` (bad_config).
    """
    looks = {}
    for style, text in colours.items():
        if style not in STYLES:
            raise Refused(
                Code.BAD_CONFIG,
                f"{where}: there is no style {style!r} for colours; there are {', '.join(STYLES)}.",
            )
        try:
            looks[style] = read_look(text)
        except ValueError as error:
            raise Refused(
                Code.BAD_CONFIG, f"{where}: colours.{style} is {text!r}; {error}."
            ) from error
    return looks


def colours_of(count: int, environment: Mapping[str, str]) -> int:
    """Return how many colours to use of the `count` that a terminal has: 256, 16, 8 or 0.

    None at all if the person has said so for all programs (no-color.org).
    """
    if environment.get("NO_COLOR"):
        return 0
    return next(few for few in (256, 16, 8, 0) if count >= few or not few)


def theme(colours: int, own: Mapping[str, Look] | None = None) -> dict[str, Look]:
    """Return how each style looks with 256, 16, 8 or 0 colours.

    `own` are the person's wishes, as close as so many colours come to them.
    """
    looks = _defaults(colours)
    for style, wish in (own or {}).items():
        if colours:
            looks[style] = wish._replace(colour=_nearest_of(colours, wish.colour))
        else:
            looks[style] = Look(None, wish.attributes or looks[style].attributes)
    return looks


def name_style(name: str) -> str:
    """Return the style of a person's name: the same wherever and whenever it is shown."""
    return f"name{crc32(fold(name).encode()) % NAME_COLOURS}"


def _defaults(colours: int) -> dict[str, Look]:
    column = 0 if colours == 256 else 1 if colours else 2
    names = _NAMES[colours]
    texts = {style: columns[column] for style, columns in _THEME.items()}
    texts |= {f"name{index}": names[index % len(names)] for index in range(NAME_COLOURS)}
    return {style: read_look(text) if text else Look() for style, text in texts.items()}


def _read_colour(text: str) -> int:
    """Return the place in the palette of a colour. Raises ValueError."""
    match = _COLOUR.fullmatch(text)
    number, light, name = match.groups() if match else (None, None, None)
    if light:
        return _nearest(tuple(bytes.fromhex(light)), range(16, 256))
    index = int(number) if number else _NAMED.get(name or "", 256)
    if index > 255:
        raise ValueError(_RIGHT)
    return index


def _nearest_of(colours: int, colour: int | None) -> int | None:
    """Return the nearest of the first `colours` of the palette.

    The terminal's own colour stands for black and white, one of which would not be seen.
    """
    if colour is None or colour < colours:
        return colour
    nearest = _nearest(_PALETTE[colour], range(colours))
    return None if nearest in _BLACK_AND_WHITE else nearest


def _nearest(light: tuple[int, ...], choice: Iterable[int]) -> int:
    """Return which of `choice` is nearest to so much red, green and blue, each 0-255."""
    return min(
        choice, key=lambda n: sum((a - b) ** 2 for a, b in zip(light, _PALETTE[n], strict=True))
    )

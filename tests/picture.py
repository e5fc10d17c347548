"""The picture in the README: the client's real screen, as an SVG.

`python -m tests.picture` paints the conversation of `tests.readme` in a pseudo-terminal, reads the
cells of a terminal emulator, and writes them to tests/picture.svg; a test compares them.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from tests.ui.terminal import Emulator, Terminal

if TYPE_CHECKING:
    from pyte.screens import Char

PICTURE = Path(__file__).with_name("picture.svg")
SIZE = (80, 20)

_CELL = (8.4, 18)
_EDGE = 12
_PAPER, _INK = "#16181d", "#d7dae0"
_NAMED = {"red": "#e06c75", "green": "#98c379", "brown": "#d7af5f", "cyan": "#56b6c2"}


class _Look(NamedTuple):
    """The look of some cells: colours as SVG writes them."""

    ink: str
    paper: str
    bold: bool
    underlined: bool


def show() -> None:
    """Paint the conversation on this terminal, until something is typed."""
    from tchat.ui.tui.screen import open_screen  # only in the terminal of its own
    from tchat.ui.tui.view import draw
    from tests.readme import conversation

    with open_screen() as screen:
        screen.paint(draw(conversation(), *screen.size))
        sys.stdin.read(1)


def painted() -> str:
    """Return the SVG of the painted conversation."""
    width, height = SIZE
    program = (sys.executable, "-m", "tests.picture")
    with Terminal(["show"], "", width, height, program=program, TZ="UTC") as terminal:
        terminal.sees("alice ▸ I will")
        return svg(terminal.screen)


def svg(screen: Emulator) -> str:
    """Return an emulator's screen as a picture."""
    cell, row = _CELL
    width, height = screen.columns * cell + 2 * _EDGE, screen.lines * row + 2 * _EDGE
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
        ' font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"'
        ' font-size="14" xml:space="preserve">'
    )
    paper = f'<rect width="100%" height="100%" rx="8" fill="{_PAPER}"/>'
    rows = [line for y in range(screen.lines) for line in _row(screen, y)]
    return "\n".join([head, paper, *rows, _cursor(screen), "</svg>"]) + "\n"


def _row(screen: Emulator, y: int) -> list[str]:
    """Return the elements of a row: its backgrounds, then its text."""
    cells = [(x, screen.buffer[y][x]) for x in range(screen.columns)]
    grounds, texts = [], []
    for look, run in groupby(cells, key=lambda pair: _look(pair[1])):
        part = list(run)
        left, count = part[0][0], len(part)
        if look.paper != _PAPER:
            grounds.append(_ground(left, y, count, look.paper))
        texts += _texts(part, y, look)
    return grounds + texts


def _ground(x: int, y: int, count: int, colour: str) -> str:
    cell, row = _CELL
    return (
        f'<rect x="{_EDGE + x * cell:g}" y="{_EDGE + y * row:g}" width="{count * cell:g}"'
        f' height="{row}" fill="{colour}"/>'
    )


def _texts(part: list[tuple[int, Char]], y: int, look: _Look) -> list[str]:
    """Return the text of cells that look alike; others than ASCII are placed one by one."""
    cell, row = _CELL
    found = []
    for plain, run in groupby(part, key=lambda pair: pair[1].data.isascii()):
        same = list(run)
        pieces = [same] if plain else [[pair] for pair in same]
        for piece in pieces:
            text = "".join(char.data for _, char in piece)
            if not text.strip():
                continue
            style = ' font-weight="bold"' * look.bold
            style += ' text-decoration="underline"' * look.underlined
            x = _EDGE + piece[0][0] * cell
            length = f' textLength="{len(piece) * cell:g}"' if plain else ""
            found.append(
                f'<text x="{x:g}" y="{_EDGE + y * row + row - 4.5:g}"{length}'
                f" fill={quoteattr(look.ink)}{style}>{escape(text)}</text>"
            )
    return found


def _cursor(screen: Emulator) -> str:
    return _ground(screen.cursor.x, screen.cursor.y, 1, _INK).replace("/>", ' opacity="0.7"/>')


def _look(char: Char) -> _Look:
    ink, paper = _colour(char.fg, _INK), _colour(char.bg, _PAPER)
    if char.reverse:
        ink, paper = paper, ink
    return _Look(ink, paper, char.bold, char.underscore)


def _colour(name: str, default: str) -> str:
    if name == "default":
        return default
    return _NAMED.get(name, f"#{name}")


if __name__ == "__main__":
    if sys.argv[1:] == ["show"]:
        show()
    else:
        PICTURE.write_text(painted(), encoding="utf-8")

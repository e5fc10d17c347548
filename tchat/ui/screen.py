"""The terminal: the only module that knows curses.

Painting compares each row with what was painted there before and writes only those that differ.
The terminal is put back as it was however the program ends: `open_screen` is a context manager,
and signals that would end the process are turned into an ordinary end elsewhere.
"""

from __future__ import annotations

import curses
import os
import sys
import unicodedata
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tchat.errors import Code, StartupError
from tchat.ui.cells import cells
from tchat.ui.keys import name_keys
from tchat.ui.view import NAME_COLOURS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.ui.view import Picture, Row

_ESCAPE_MS = 25
# Colours of names, for terminals with 256 colours and with 8: all readable on black and white.
_NAMES_256 = (39, 208, 141, 71, 203, 44, 178, 169)
_NAMES_8 = (6, 3, 5, 2, 1, 4, 6, 3)


class Screen:
    """A terminal under curses' control."""

    def __init__(self, window: curses.window) -> None:
        self._window = window
        self._painted: list[Row] = []
        self._styles = _styles()
        window.nodelay(True)
        window.keypad(True)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in cells."""
        height, width = self._window.getmaxyx()
        return width, height

    def resize(self) -> None:
        """Take the terminal's present size. The whole screen is painted anew."""
        try:
            size = os.get_terminal_size(sys.stdout.fileno())
            curses.resizeterm(max(size.lines, 1), max(size.columns, 1))
        except (OSError, curses.error):
            return  # a terminal that is going away, or does not know its size
        self.redraw()

    def redraw(self) -> None:
        """Forget what was painted: the next `paint` writes everything."""
        self._painted = []
        self._window.clear()

    def step_aside(self, text: str, *, already: bool) -> None:
        """Give the terminal back and write text on it, so that a long line can be copied whole."""
        if not already:
            curses.def_prog_mode()
            curses.endwin()
        sys.stdout.write(f"\n{text}\n\nEnter goes back to the chat.\n")
        sys.stdout.flush()

    def come_back(self) -> None:
        """Take the terminal again once Enter was pressed, which is to be read here."""
        os.read(sys.stdin.fileno(), 4096)
        curses.reset_prog_mode()
        self.resize()

    def keys(self) -> list[str]:
        """Return the keys that wait, by name; never blocks."""
        raw: list[str] = []
        while True:
            try:
                got = self._window.get_wch()
            except curses.error:
                return name_keys(raw)
            if isinstance(got, int):
                raw.append(curses.keyname(got).decode("ascii", "replace"))
            else:
                raw.append(got)

    def paint(self, picture: Picture) -> None:
        """Show a picture of the screen's size."""
        for y, row in enumerate(picture.rows):
            if y >= len(self._painted) or self._painted[y] != row:
                self._paint_row(y, row)
        self._painted = picture.rows
        width, height = self.size
        y, x = picture.cursor
        self._window.move(min(y, height - 1), min(x, width - 1))
        self._window.refresh()

    def _paint_row(self, y: int, row: Row) -> None:
        # Each span in a window of its own: where this terminal takes a character for wider than
        # it was measured, neither what stands beside it nor the next row is written over. Writing
        # the last cell of a window always reports an error after the writing; so does a terminal
        # that has just become smaller than the picture.
        with suppress(curses.error):
            self._window.move(y, 0)
            self._window.clrtoeol()
        x = 0
        for text, style in row:
            width = cells(text)
            with suppress(curses.error):
                place = self._window.derwin(1, max(width, 1), y, x)
                place.addstr(self._encodable(text), self._styles.get(style, 0))
            x += width

    def _encodable(self, text: str) -> str:
        """Return `text` composed, with ? for what a terminal that is not UTF-8 cannot show."""
        # Curses drops what joins a wide character: the parts of Hangul syllables, marks on kana.
        text = text if text.isascii() else unicodedata.normalize("NFC", text)
        encoding = self._window.encoding
        return (
            text
            if encoding.lower() == "utf-8"
            else text.encode(encoding, "replace").decode(encoding)
        )


@contextmanager
def open_screen() -> Iterator[Screen]:
    """Take the terminal for the length of the block, and put it back afterwards."""
    os.environ.setdefault("ESCDELAY", str(_ESCAPE_MS))
    try:
        window = curses.initscr()
    except curses.error as error:
        raise StartupError(
            Code.CANNOT_START, f"This terminal cannot show a full screen ({error}); use --plain."
        ) from error
    try:
        curses.noecho()
        curses.raw()
        curses.nonl()  # so that Enter and Ctrl-J are two keys
        if curses.has_colors() and "NO_COLOR" not in os.environ:
            curses.start_color()
            curses.use_default_colors()
        yield Screen(window)
    finally:
        window.keypad(False)
        curses.nl()
        curses.noraw()
        curses.echo()
        curses.endwin()


def _styles() -> dict[str, int]:
    """Return the attributes that stand for the names of styles on this terminal."""
    bold, dim, reverse = curses.A_BOLD, curses.A_DIM, curses.A_REVERSE
    styles = {
        "title": reverse,
        "title.name": reverse | bold,
        "alert": reverse | bold,
        "rule": dim,
        "dim": dim,
        "notice": dim,
        "error": bold,
        "new": bold,
        "highlight": bold,
        "prompt": bold,
        "question": bold | reverse,
        **{f"name{index}": bold for index in range(NAME_COLOURS)},
    }
    if not curses.has_colors() or "NO_COLOR" in os.environ:
        return styles
    names = _NAMES_256 if curses.COLORS >= 256 else _NAMES_8
    for index, colour in enumerate((*names, curses.COLOR_RED, curses.COLOR_CYAN), start=1):
        curses.init_pair(index, colour, -1)
    for index in range(NAME_COLOURS):
        styles[f"name{index}"] = curses.color_pair(index + 1)
    styles["error"] = styles["new"] = curses.color_pair(NAME_COLOURS + 1) | bold
    styles["highlight"] = curses.color_pair(NAME_COLOURS + 2) | bold
    return styles

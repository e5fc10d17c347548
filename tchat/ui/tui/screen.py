"""The terminal: the only module that knows curses.

Painting compares each row with what was painted there before, and writes what is behind the first
span that differs; curses in turn compares cells, and sends the terminal only those that changed.

The terminal belongs to somebody else, who lends it. It is given back however the program ends:
`open_screen` is a context manager, and a signal that would end the process at once gives the
terminal back first, unless the program has made an ordinary end of it elsewhere. It is given back
as well while the process is stopped (SIGTSTP), and taken again, whatever others have written on it
meanwhile, when the process goes on (SIGCONT). Python calls handlers of signals between any two
steps of the program, in the middle of painting too: everything here is written so that giving the
terminal back, taking it and painting the whole picture does no harm between any two of its steps.
"""

from __future__ import annotations

import curses
import os
import signal
import sys
import unicodedata
from contextlib import contextmanager, suppress
from functools import partial, reduce
from itertools import takewhile, zip_longest
from operator import or_
from typing import TYPE_CHECKING

from tchat.errors import Code, StartupError
from tchat.ui.text.cells import cells
from tchat.ui.tui.keys import name_keys
from tchat.ui.tui.styles import colours_of, theme
from tchat.ui.tui.terminal import terminal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from tchat.ui.tui.styles import Look
    from tchat.ui.tui.view import Picture, Row

    Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None

_ESCAPE_MS = 25
_ATTRIBUTES = {
    "bold": curses.A_BOLD,
    "dim": curses.A_DIM,
    "italic": curses.A_ITALIC,
    "underline": curses.A_UNDERLINE,
    "reverse": curses.A_REVERSE,
}


class Screen:
    """A terminal under curses' control.

    `terminal` is what it can be expected to obey. `colours` are the person's wishes for styles.
    """

    def __init__(self, window: curses.window, colours: Mapping[str, Look] | None = None) -> None:
        self._window = window
        self.terminal = terminal_of(os.environ, utf8=window.encoding.lower() == "utf-8")
        self._styles = _styles(colours)
        self._painted: list[Row] | None = None
        self._picture: Picture | None = None
        self._title = ""
        self._here = True
        window.nodelay(True)
        window.keypad(True)
        self.write_raw(self.terminal.paste(on=True))
        self.resize()  # curses believes LINES and COLUMNS, which may be another terminal's

    # ---------------------------------------------------------------- what is on it

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in cells."""
        height, width = self._window.getmaxyx()
        return width, height

    def resize(self) -> None:
        """Take the terminal's present size. The whole screen is painted anew."""
        with suppress(OSError, curses.error):  # it is going away
            size = os.get_terminal_size(sys.stdout.fileno())
            if size.lines and size.columns:  # it knows its size
                curses.resize_term(size.lines, size.columns)
        self.redraw()

    def redraw(self) -> None:
        """Forget what was painted: the next `paint` writes everything."""
        self._painted = None

    def paint(self, picture: Picture) -> None:
        """Show a picture of the screen's size; while the terminal is not ours, once it is."""
        self._picture = picture
        if self._here:
            self._paint(picture)

    def title(self, text: str) -> None:
        """Give the terminal's window a title, until the terminal is given back."""
        if text != self._title:
            self._title = text
            if self._here:
                self.write_raw(self.terminal.title(text))

    def write_raw(self, data: bytes) -> None:
        """Write what is no text and moves no cursor: curses need not know of it."""
        with suppress(OSError):  # the terminal has gone; the program is told so by a signal
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]

    # ---------------------------------------------------------------- what is typed

    def keys(self) -> list[str]:
        """Return the keys that wait, by name; never blocks."""
        return name_keys(self.raw())

    def raw(self) -> list[str]:
        """Return what waits to be read as curses gives it; never blocks.

        Characters, and for keys that terminfo describes their names: "KEY_LEFT", or "kLFT5" for
        those (here Ctrl-Left) that only its extensions describe.
        """
        raw: list[str] = []
        while True:
            try:
                got = self._window.get_wch()
            except curses.error:
                return raw
            if isinstance(got, int):
                raw.append(curses.keyname(got).decode("ascii", "replace"))
            else:
                raw.append(got)

    # ---------------------------------------------------------------- whose it is

    def step_aside(self, text: str, *, already: bool) -> None:
        """Give the terminal back and write text on it, so that a long line can be copied whole."""
        if not already:
            self.leave()
        sys.stdout.write(f"\n{text}\n\nEnter goes back to the chat.\n")
        sys.stdout.flush()

    def come_back(self) -> None:
        """Take the terminal again once Enter was pressed, which is to be read here."""
        os.read(sys.stdin.fileno(), 4096)
        self._take()

    def suspend(self) -> None:
        """Stop, with all that was started together with this program, until told to go on.

        What the terminal does by itself at Ctrl-Z for programs that do not read every key.
        """
        self._stop(partial(os.kill, 0, signal.SIGTSTP))

    def leave(self) -> None:
        """Give the terminal back as it was."""
        if not self._here:
            return
        self.write_raw(self.terminal.paste(on=False))
        if self._title:
            self.write_raw(self.terminal.title(""))
        with suppress(curses.error):
            if not curses.tigetstr("smcup"):  # what is painted would stay behind
                self._window.clear()
                self._window.refresh()
            curses.endwin()
        self._here = False  # not before: a signal in between finds that there is still to do

    def _take(self) -> None:
        """Take the terminal again, whatever is on it."""
        self._here = True
        before = self.size
        with suppress(curses.error):
            curses.reset_prog_mode()
        self.write_raw(self.terminal.paste(on=True))
        if self._title:
            self.write_raw(self.terminal.title(self._title))
        self.resize()
        if self._picture:
            self._paint(self._picture)
        if self.size != before:  # nobody tells those who are not in front
            signal.raise_signal(signal.SIGWINCH)

    def on_stop(self, number: int, _frame: FrameType | None) -> None:
        """Stop without the terminal; handles SIGTSTP."""
        self._stop(partial(signal.raise_signal, number))

    def on_continue(self, _number: int, _frame: FrameType | None) -> None:
        """Take the terminal anew if the process was stopped without a warning; handles SIGCONT."""
        if self._here:
            self.leave()
            self._take()

    def on_end(self, number: int, _frame: FrameType | None) -> None:
        """Give the terminal back and end by the same signal; handles SIGTERM and its like."""
        self.leave()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def _stop(self, stop: Callable[[], None]) -> None:
        """Give the terminal back, `stop` by SIGTSTP, and take the terminal again."""
        was_here = self._here
        self.leave()
        with _handling({signal.SIGTSTP: signal.SIG_DFL}):
            stop()  # returns when the process goes on, or at once if nobody could tell it to
        if was_here:
            self._take()

    # ---------------------------------------------------------------- painting

    def _paint(self, picture: Picture) -> None:
        if self._painted is None:
            self._window.clear()
        for y, (row, painted) in enumerate(zip_longest(picture.rows, self._painted or [])):
            if row != painted:
                self._paint_row(y, row or [], painted or [])
        self._painted = picture.rows
        width, height = self.size
        y, x = picture.cursor
        self._window.move(min(y, height - 1), min(x, width - 1))
        self._window.refresh()

    def _paint_row(self, y: int, row: Row, painted: Row) -> None:
        # Each span in a window of its own: where this terminal takes a character for wider than
        # it was measured, neither what stands beside it nor the next row is written over. Writing
        # the last cell of a window always reports an error after the writing; so does a terminal
        # that has just become smaller than the picture.
        pairs = zip(row, painted, strict=False)
        alike = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        x = sum(cells(text) for text, _ in row[:alike])
        with suppress(curses.error):
            self._window.move(y, x)
            self._window.clrtoeol()
        for text, style in row[alike:]:
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
        return text if self.terminal.utf8 else text.encode(encoding, "replace").decode(encoding)


@contextmanager
def open_screen(colours: Mapping[str, Look] | None = None) -> Iterator[Screen]:
    """Take the terminal for the length of the block, and put it back afterwards.

    `colours` are the person's own looks for styles (`tchat.ui.tui.styles`). Raises `StartupError`.
    """
    _check_terminal()
    # Curses would handle SIGTSTP too, if it found it as it is by default.
    with _handling({signal.SIGTSTP: signal.SIG_IGN}), _curses() as window:
        screen = Screen(window, colours)
        with _handling(_handlers(screen)):
            try:
                yield screen
            finally:
                screen.leave()


@contextmanager
def _curses() -> Iterator[curses.window]:
    """Have the terminal in curses' hands for the length of the block, every key read as it is."""
    curses.set_escdelay(_ESCAPE_MS)  # what follows an Escape is awaited without curses (`keys`)
    window = curses.initscr()
    try:
        curses.noecho()
        curses.raw()
        curses.nonl()  # so that Enter and Ctrl-J are two keys
        curses.def_prog_mode()
        yield window
    finally:
        if not curses.isendwin():
            curses.endwin()


def _check_terminal() -> None:
    """Raise `StartupError` unless this is a terminal that can be painted."""
    try:
        curses.setupterm()
        if curses.tigetstr("cup"):
            return
        reason = "its cursor cannot be moved"
    except curses.error as error:
        reason = str(error).removeprefix("setupterm: ")
    name = os.environ.get("TERM", "")
    raise StartupError(
        Code.CANNOT_START,
        f"This terminal cannot show a full screen (TERM is {name!r}: {reason}); use --plain.",
    )


def _handlers(screen: Screen) -> dict[int, Handler]:
    """Return what handles signals while the terminal is taken.

    The program may have made an ordinary end of those that end it, which is better.
    """
    ends = (signal.SIGTERM, signal.SIGHUP)
    handlers: dict[int, Handler] = {
        number: screen.on_end for number in ends if signal.getsignal(number) is signal.SIG_DFL
    }
    return handlers | {signal.SIGTSTP: screen.on_stop, signal.SIGCONT: screen.on_continue}


@contextmanager
def _handling(handlers: Mapping[int, Handler]) -> Iterator[None]:
    """Have signals handled so for the length of the block."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _styles(own: Mapping[str, Look] | None) -> dict[str, int]:
    """Return the attributes that stand for the names of styles on this terminal."""
    looks = theme(_take_colours(), own)
    colours = {look.colour for look in looks.values() if look.colour is not None}
    pairs: dict[int | None, int] = {None: 0}
    for number, colour in enumerate(colours, start=1):
        curses.init_pair(number, colour, -1)
        pairs[colour] = curses.color_pair(number)
    return {
        style: reduce(or_, (_ATTRIBUTES[name] for name in look.attributes), pairs[look.colour])
        for style, look in looks.items()
    }


def _take_colours() -> int:
    """Begin to use colours if there are any, and return how many: 256, 16, 8 or 0."""
    colours = colours_of(curses.tigetnum("colors"), os.environ)
    if colours:
        try:
            curses.start_color()
            curses.use_default_colors()
        except curses.error:  # it cannot go back to the colours it has by itself
            return 0
    return colours

"""The terminal under curses: painting, bytes of input, release, suspend; the only curses module.

Curses paints, and switches the terminal's modes. It does not read: its own decoding of keys knows
neither pastes nor reports, and loses characters that it gets in pieces. `read` gives the bytes that
have arrived, and `input_decoder` what turns them into keys.

Painting compares each row with what was painted there before, and writes from the first span that
differs; curses in turn compares cells, and sends the terminal only those that changed.

The terminal is released (given back as it was) however the program ends: `open_screen` is a context
manager, and a signal that would end the process at once releases the terminal first, unless the
program handles that signal itself. The terminal is also released while the process is stopped
(SIGTSTP), and acquired again when it continues (SIGCONT), whatever others have written on it
meanwhile. Python runs signal handlers between any two steps of the program, in the middle of
painting too: therefore releasing, acquiring and painting the whole picture are written so that each
may interrupt another at any point.
"""

from __future__ import annotations

import curses
import os
import signal
import sys
import termios
import unicodedata
from contextlib import contextmanager, suppress
from functools import partial, reduce
from itertools import takewhile, zip_longest
from operator import or_
from typing import TYPE_CHECKING, Any

from tchat.errors import Code, StartupError
from tchat.ui.text.cells import cells
from tchat.ui.tui.decoder import InputDecoder
from tchat.ui.tui.keys import CAPABILITIES
from tchat.ui.tui.rows import encodable_row
from tchat.ui.tui.styles import choose_depth, theme
from tchat.ui.tui.terminal import detect_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from tchat.ui.tui.rows import Row
    from tchat.ui.tui.styles import Look
    from tchat.ui.tui.view import Picture

    Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None

_READ_SIZE = 65536
_ATTRIBUTES = {
    "bold": curses.A_BOLD,
    "dim": curses.A_DIM,
    "italic": curses.A_ITALIC,
    "underline": curses.A_UNDERLINE,
    "reverse": curses.A_REVERSE,
}


class Screen:
    """A terminal under curses' control.

    `terminal` has its capabilities. `looks` are the person's own looks for styles.
    """

    def __init__(self, window: curses.window, looks: Mapping[str, Look] | None = None) -> None:
        self._window = window
        self.terminal = detect_terminal(os.environ, utf8=window.encoding.lower() == "utf-8")
        self._styles = _style_attributes(looks)
        self._painted: list[Row] | None = None
        self._picture: Picture | None = None
        self._title = ""
        self._acquired = True
        self._page_modes: list[Any] | None = None
        window.keypad(True)  # which has the terminal send what terminfo says of its keys
        curses.typeahead(-1)  # no looking for input while painting
        self.write_raw(self.terminal.paste_mode(on=True))
        self.resize()  # curses trusts LINES and COLUMNS, which may describe another terminal

    # ---------------------------------------------------------------- output

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in cells."""
        height, width = self._window.getmaxyx()
        return width, height

    def resize(self) -> None:
        """Adopt the terminal's present size. The next `paint` writes the whole screen."""
        with suppress(OSError, curses.error):  # the terminal is going away
            size = os.get_terminal_size(sys.stdout.fileno())
            if size.lines and size.columns:  # 0 where the size is not known, as on a serial line
                curses.resize_term(size.lines, size.columns)
        self.redraw()

    def redraw(self) -> None:
        """Forget what was painted, so that the next `paint` writes everything."""
        self._painted = None

    def paint(self, picture: Picture) -> None:
        """Paint a picture of the screen's size; a released terminal gets it when acquired."""
        self._picture = picture
        if self._acquired:
            self._paint(picture)

    def title(self, text: str) -> None:
        """Set the terminal's window title, until the terminal is released."""
        if text != self._title:
            self._title = text
            if self._acquired:
                self.write_raw(self.terminal.title(text))

    def write_raw(self, data: bytes) -> None:
        """Write a sequence past curses: it must not print text or move the cursor."""
        with suppress(OSError):  # the terminal has gone; a signal tells the program so
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]

    # ---------------------------------------------------------------- input

    def read(self) -> bytes | None:
        """Return the bytes of input that are waiting, or None once the terminal has gone.

        Blocks while there are none, unless another program has switched that off. In raw mode
        Ctrl-D is a byte like any other.
        """
        try:
            return os.read(sys.stdin.fileno(), _READ_SIZE) or None
        except BlockingIOError:
            return b""
        except OSError:
            return None

    def input_decoder(self) -> InputDecoder:
        """Return a decoder for this terminal's keys and the locale's encoding."""
        sent = {name: curses.tigetstr(name) for name in CAPABILITIES}
        keys = {keys: CAPABILITIES[name] for name, keys in sent.items() if keys}
        return InputDecoder(self._window.encoding, keys)

    # ---------------------------------------------------------------- release and suspend

    def print_for_copying(self, text: str, *, already: bool) -> None:
        """Release the terminal and print text on it, so that a long line can be copied whole.

        `already` says that an earlier text is still shown there. Until `resume`, keys are neither
        echoed nor turned into signals: Ctrl-C would end the program, and what is typed next would
        run in the shell.
        """
        if not already:
            # Until the modes of the page are set, Ctrl-C and Ctrl-\ are signals.
            with _handling({signal.SIGINT: signal.SIG_IGN, signal.SIGQUIT: signal.SIG_IGN}):
                self.release()
                self._begin_page()
        sys.stdout.write(f"\n{text}\n\nPress Enter to return to the chat.\n")
        sys.stdout.flush()

    def resume(self) -> None:
        """Acquire the terminal again after `print_for_copying`, once a key was pressed.

        The key is still to be read.
        """
        self._page_modes = None
        self._acquire()

    def _begin_page(self) -> None:
        """Have the released terminal pass on every key at once, as it is."""
        with suppress(termios.error):  # the terminal has gone
            modes = termios.tcgetattr(sys.stdin.fileno())
            self._page_modes = [*modes[:6], list(modes[6])]
            modes[0] &= ~(termios.ICRNL | termios.IXON)
            modes[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN)
            modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, modes)

    def _end_page(self) -> bool:
        """Give back the modes from before `_begin_page`; return whether it had changed them."""
        modes, self._page_modes = self._page_modes, None
        if modes is not None:
            with suppress(termios.error):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, modes)
        return modes is not None

    def suspend(self) -> None:
        """Stop the whole process group until told to continue, as the terminal does at Ctrl-Z.

        The terminal does not do this itself: in raw mode Ctrl-Z is an ordinary key.
        """
        self._stop(partial(os.kill, 0, signal.SIGTSTP))

    def release(self) -> None:
        """Give the terminal back as it was."""
        self._end_page()
        if not self._acquired:
            return
        self.write_raw(self.terminal.paste_mode(on=False))
        if self._title:
            self.write_raw(self.terminal.title(""))
        with suppress(curses.error):
            if not curses.tigetstr("smcup"):  # no alternate screen: the picture would stay
                self._window.clear()
                self._window.refresh()
            curses.endwin()
        self._acquired = False  # last: a signal before this has to release the terminal again

    def _acquire(self) -> None:
        """Acquire the terminal again, whatever is on it."""
        self._acquired = True  # first: a signal after this has to release the terminal
        before = self.size
        with suppress(curses.error):
            curses.reset_prog_mode()
        self.write_raw(self.terminal.paste_mode(on=True))
        if self._title:
            self.write_raw(self.terminal.title(self._title))
        self.resize()
        if self._picture:
            self._paint(self._picture)
        if self.size != before:  # SIGWINCH is only sent to the process group in the foreground
            signal.raise_signal(signal.SIGWINCH)

    def on_stop(self, number: int, _frame: FrameType | None) -> None:
        """Release the terminal and stop; handles SIGTSTP."""
        self._stop(partial(signal.raise_signal, number))

    def on_continue(self, _number: int, _frame: FrameType | None) -> None:
        """Acquire the terminal again after a stop without warning (SIGSTOP); handles SIGCONT."""
        if self._acquired:
            self.release()
            self._acquire()
        elif self._end_page():
            self._begin_page()

    def on_end(self, number: int, _frame: FrameType | None) -> None:
        """Release the terminal and end by the same signal; handles SIGTERM and SIGHUP."""
        self.release()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def _stop(self, stop: Callable[[], None]) -> None:
        """Release the terminal, `stop` by SIGTSTP, and acquire the terminal again."""
        was_acquired, has_page = self._acquired, self._page_modes is not None
        self.release()
        with _handling({signal.SIGTSTP: signal.SIG_DFL}):
            # Returns when the process continues; at once in an orphaned process group, which
            # nobody could continue.
            stop()
        if was_acquired:
            self._acquire()
        elif has_page:
            self._begin_page()

    # ---------------------------------------------------------------- painting

    def _paint(self, picture: Picture) -> None:
        if self._painted is None:
            self._window.clear()
        for y, (row, painted) in enumerate(zip_longest(picture.rows, self._painted or [])):
            if row != painted:
                self._paint_row(y, self._encodable(row or []), self._encodable(painted or []))
        self._painted = picture.rows
        width, height = self.size
        y, x = picture.cursor
        self._window.move(min(y, height - 1), min(x, width - 1))
        self._window.refresh()

    def _paint_row(self, y: int, row: Row, painted: Row) -> None:
        # Each span gets its own curses window: a character that curses takes for wider than it
        # was measured then overwrites neither the next span nor the next row. Curses raises an
        # error after writing the last cell of a window, and on a terminal that has just become
        # smaller than the picture.
        pairs = zip(row, painted, strict=False)
        alike = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        x = sum(cells(text) for text, _ in row[:alike])
        with suppress(curses.error):
            self._window.move(y, x)
            self._window.clrtoeol()
        for text, style in row[alike:]:
            width = cells(text)
            with suppress(curses.error):
                target = self._window.derwin(1, max(width, 1), y, x)
                target.addstr(_composed(text), self._styles.get(style, 0))
            x += width

    def _encodable(self, row: Row) -> Row:
        """Return a row with similar characters where the terminal's encoding lacks some."""
        return row if self.terminal.utf8 else encodable_row(row, self._window.encoding)


@contextmanager
def open_screen(looks: Mapping[str, Look] | None = None) -> Iterator[Screen]:
    """Acquire the terminal while the block runs, and release it afterwards.

    `looks` are the person's own looks for styles (`styles`). Raises `StartupError`.
    """
    _check_terminal()
    # Curses installs its own handler of SIGTSTP if it finds the default one.
    with _handling({signal.SIGTSTP: signal.SIG_IGN}), _curses() as window:
        screen = Screen(window, looks)
        with _handling(_signal_handlers(screen)):
            try:
                yield screen
            finally:
                screen.release()


@contextmanager
def _curses() -> Iterator[curses.window]:
    """Run curses while the block runs, in raw mode and without echo."""
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
    """Raise `StartupError` unless the terminal can move its cursor, so that it can be painted."""
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


def _signal_handlers(screen: Screen) -> dict[int, Handler]:
    """Return the signal handlers for the time in which the terminal is acquired.

    If the program itself handles SIGTERM or SIGHUP, to end in an orderly way, they are left alone.
    """
    ends = (signal.SIGTERM, signal.SIGHUP)
    handlers: dict[int, Handler] = {
        number: screen.on_end for number in ends if signal.getsignal(number) is signal.SIG_DFL
    }
    return handlers | {signal.SIGTSTP: screen.on_stop, signal.SIGCONT: screen.on_continue}


@contextmanager
def _handling(handlers: Mapping[int, Handler]) -> Iterator[None]:
    """Install signal handlers while the block runs."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _composed(text: str) -> str:
    """Return `text` composed (NFC).

    Curses drops what joins a wide character: the parts of Hangul syllables, marks on kana.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _style_attributes(own: Mapping[str, Look] | None) -> dict[str, int]:
    """Return the curses attributes of each style on this terminal."""
    looks = theme(_start_colours(), own)
    colours = {look.colour for look in looks.values() if look.colour is not None}
    pairs: dict[int | None, int] = {None: 0}
    for number, colour in enumerate(colours, start=1):
        curses.init_pair(number, colour, -1)
        pairs[colour] = curses.color_pair(number)
    return {
        style: reduce(or_, (_ATTRIBUTES[name] for name in look.attributes), pairs[look.colour])
        for style, look in looks.items()
    }


def _start_colours() -> int:
    """Switch colours on if there are any, and return how many to use: 256, 16, 8 or 0."""
    depth = choose_depth(curses.tigetnum("colors"), os.environ)
    if depth:
        try:
            curses.start_color()
            curses.use_default_colors()
        except curses.error:  # the terminal cannot restore its default colours
            return 0
    return depth

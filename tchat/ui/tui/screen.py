"""Terminal control: paint rows, read input, set modes, suspend and resume; the only curses module.

Curses switches the terminal's modes and clears its screen, nothing else. It does not decode keys,
because its decoder recognises neither pastes nor reports, and loses characters that arrive in
pieces: `read` returns the bytes, and the decoder of `input_decoder` turns them into keys. Curses
does not paint either, because it has its own table of widths: `painting` compares each row with
what was painted there before, and only the differences are sent.

At the start and after a stop, the terminal is asked how wide it draws some sequences
(`width_probe`), and then the whole screen is painted over the questions.

The terminal is released (given back as it was) however the program ends: `open_screen` is a context
manager, and a signal that would end the process at once releases the terminal first, unless the
program handles that signal itself. The terminal is also released while the process is stopped
(SIGTSTP), and acquired again when it continues (SIGCONT), whatever others have written on it
meanwhile. Python may run a signal handler between any two steps of the program, even in the middle
of painting. So releasing, acquiring and painting are reentrant: each may interrupt another at any
point.
"""

from __future__ import annotations

import curses
import os
import re
import select
import signal
import sys
import termios
import time
from contextlib import contextmanager, suppress
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

from tchat.errors import Code, StartupError
from tchat.ui.text.cells import cells
from tchat.ui.text.widths import SAFE, profile, use_profile
from tchat.ui.tui.decoder import CursorPosition, InputDecoder
from tchat.ui.tui.keys import CAPABILITIES
from tchat.ui.tui.painting import Capabilities, RowPainter
from tchat.ui.tui.rows import encodable_row
from tchat.ui.tui.styles import choose_depth, theme
from tchat.ui.tui.terminal import detect_terminal
from tchat.ui.tui.width_probe import LOWEST_ROW, WidthProbe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

    from tchat.ui.tui.rows import Row
    from tchat.ui.tui.styles import Look
    from tchat.ui.tui.terminal import Terminal
    from tchat.ui.tui.view import Picture

    Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None

_READ_SIZE = 65536
_ANSWER_SECONDS = 0.3
"""How long the end of the program waits for answers: not noticeable, but longer than most links."""
_PAGE_HINT = "Press Enter to return to the chat."
# The terminfo capability of each attribute, and the number that it has in no_color_video.
_ATTRIBUTES = {
    "bold": ("bold", 32),
    "dim": ("dim", 16),
    "italic": ("sitm", 0),
    "underline": ("smul", 2),
    "reverse": ("rev", 4),
}
_PADDING = re.compile(rb"\$<[0-9.]+[*/]*>")
_WRAP, _NO_WRAP = b"\x1b[?7h", b"\x1b[?7l"


class Screen:
    """A terminal under curses' control.

    `terminal` has its capabilities. `looks` are the person's own looks for styles.
    """

    def __init__(self, window: curses.window, looks: Mapping[str, Look] | None = None) -> None:
        self._window = window
        self.terminal = detect_terminal(os.environ, utf8=window.encoding.lower() == "utf-8")
        self._capabilities = _capabilities(self.terminal, window.encoding, looks)
        self._decoder = _input_decoder(window.encoding, marks_pastes=self.terminal.xterm_like)
        self._probe = WidthProbe()
        self._unasked = self.terminal.xterm_like and self.terminal.utf8
        use_profile(SAFE)
        self._painted: list[Row] | None = None
        self._cursor: tuple[int, int] | None = None
        self._picture: Picture | None = None
        self._title = ""
        self._acquired = True
        self._page = ""
        self._page_modes: list[Any] | None = None
        self._acquisitions = 0
        window.keypad(True)  # the terminal then sends the key sequences that terminfo has
        curses.typeahead(-1)  # do not check for input while painting
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
        self._painted = self._cursor = None

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
        """Write bytes at once; while the chat is shown, none that print text or move the cursor."""
        with suppress(OSError):  # the terminal has gone; a signal tells the program so
            while data:
                try:
                    data = data[os.write(sys.stdout.fileno(), data) :]
                except BlockingIOError:  # another program has made the terminal non-blocking
                    select.select([], [sys.stdout], [])

    # ---------------------------------------------------------------- input

    def read(self) -> bytes | None:
        """Return the input bytes that have arrived, or None once the terminal has gone.

        Blocks while there are none; returns nothing if another program has made the terminal
        non-blocking. In raw mode, Ctrl-D is an ordinary byte.
        """
        try:
            return os.read(sys.stdin.fileno(), _READ_SIZE) or None
        except BlockingIOError:
            return b""
        except OSError:
            return None

    def input_decoder(self) -> InputDecoder:
        """Return the decoder for this terminal's keys and the locale's encoding."""
        return self._decoder

    def learn(self, position: CursorPosition) -> bool:
        """Use a cursor position report; return whether the screen has to be drawn again."""
        learnt = self._probe.answer(position, time.monotonic())
        if learnt is None or learnt == profile():
            return False
        use_profile(learnt)
        self.redraw()
        return True

    # ---------------------------------------------------------------- release and suspend

    def print_for_copying(self, text: str, about: Sequence[str] = (), *, already: bool) -> None:
        """Print text on a page without the chat, so that a long line can be copied whole.

        The sentences `about` it come first, as many as the page has room for. `already` says that
        an earlier text is still shown there. Until `resume`, keys are neither echoed nor turned
        into signals: Ctrl-C would end the program, and what is typed next would run in the shell.
        The page covers the chat, and is gone with it: an invite is a secret, and does not stay on
        the terminal's normal screen.
        """
        shown = _page_text(text, about, *self.size)
        if already:
            self._page += shown
            self.write_raw(self._page_bytes(shown))
            return
        self._page, self._acquired = shown, False
        # Until the modes of the page are set, Ctrl-C and Ctrl-\ are signals.
        with _handling({signal.SIGINT: signal.SIG_IGN, signal.SIGQUIT: signal.SIG_IGN}):
            self._begin_page()

    def resume(self) -> None:
        """Show the chat again after `print_for_copying`."""
        self._page, self._page_modes = "", None
        self._acquire()

    def _begin_page(self) -> None:
        """Show the page, and make the terminal deliver every key at once and unchanged."""
        with suppress(curses.error):
            curses.reset_prog_mode()
            self._window.clear()
            self._window.refresh()
            curses.reset_shell_mode()  # which wraps lines and ends them as a shell does
        with suppress(termios.error):  # the terminal has gone
            modes = termios.tcgetattr(sys.stdin.fileno())
            self._page_modes = [*modes[:6], list(modes[6])]
            modes[0] &= ~(termios.ICRNL | termios.IXON)
            modes[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN)
            modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, modes)
        self.write_raw(self._page_bytes(self._page))

    def redraw_page(self) -> None:
        """Write the page again after a resize: terminals cut long lines, or wrap them anew."""
        if self._page:
            self._end_page()
            self._begin_page()

    def _page_bytes(self, text: str) -> bytes:
        return text.encode(self._window.encoding, "replace")

    def _end_page(self) -> bool:
        """Restore the modes from before `_begin_page`; return whether it had changed them."""
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
        has_page = self._end_page()
        if not (self._acquired or has_page):
            return
        self.write_raw(self.terminal.paste_mode(on=False))
        self._discard_answers()
        if self._title:
            self.write_raw(self.terminal.title(""))
        with suppress(curses.error):
            if not curses.tigetstr("smcup"):  # no alternate screen: the picture would stay
                self._window.clear()
                self._window.refresh()
            curses.endwin()
        self._acquired = False  # last: a signal before this has to release the terminal again

    def _discard_answers(self) -> None:
        """Read the answers that are under way: the shell would take them for typing.

        They are, if the program ends or stops within a second after the questions.
        """
        decoder = InputDecoder()  # a signal may have interrupted the other one
        end = min(self._probe.deadline, time.monotonic() + _ANSWER_SECONDS)
        with suppress(OSError, ValueError):  # the terminal has gone
            while self._probe.awaits(now := time.monotonic()) and now < end:
                if not select.select([sys.stdin], [], [], end - now)[0]:
                    return
                if (data := self.read()) is None:
                    return
                for item in decoder.feed(data, now):
                    if isinstance(item, CursorPosition):
                        self._probe.answer(item, now)

    def _acquire(self) -> None:
        """Acquire the terminal again, whatever is on it."""
        self._acquired = True  # first: a signal after this has to release the terminal
        self._acquisitions += 1
        self._unasked = self.terminal.xterm_like and self.terminal.utf8
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
        elif self._page_modes is not None:
            self.release()
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
            # `stop` returns when the process continues. In an orphaned process group, which nobody
            # could continue, it returns at once.
            stop()
        if was_acquired:
            self._acquire()
        elif has_page:
            self._begin_page()

    # ---------------------------------------------------------------- painting

    def _paint(self, picture: Picture) -> None:
        acquisitions = self._acquisitions
        if self._painted is None:
            self._window.clear()
            self._window.refresh()
            self._ask_widths()
        width, height = self.size
        painter = RowPainter(self._capabilities, width, height)
        rows = self._encodable(picture.rows)
        painter.paint(rows, self._painted or [])
        self._painted = rows
        y, x = picture.cursor
        cursor = min(y, height - 1), min(x, width - 1)
        changes = painter.finish(cursor, moved=cursor != self._cursor)
        if changes and acquisitions == self._acquisitions:
            self._cursor = cursor
            self.write_raw(changes)
        if acquisitions != self._acquisitions:  # stopped meanwhile: the old screen is gone
            self.redraw()
            self._paint(picture)

    def _ask_widths(self) -> None:
        """Ask how the terminal draws sequences, once each time that it is acquired."""
        if not self._unasked or self.size[1] < LOWEST_ROW:
            return
        self._unasked = False
        move, erase = self._capabilities.move, self._capabilities.erase
        questions = self._probe.ask(move, time.monotonic())
        erased = b"".join(move(y, 0) + erase for y in range(LOWEST_ROW))
        self.write_raw(questions + erased)

    def _encodable(self, rows: list[Row]) -> list[Row]:
        """Return rows with similar characters where the terminal's encoding lacks some."""
        if self.terminal.utf8:
            return rows
        return [encodable_row(row, self._window.encoding) for row in rows]


@contextmanager
def open_screen(looks: Mapping[str, Look] | None = None) -> Iterator[Screen]:
    """Acquire the terminal while the block runs, and release it afterwards.

    `looks` are the person's own looks for styles (`styles`). Raises `StartupError`.
    """
    check_terminal()
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


def check_terminal() -> None:
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
        f"This terminal cannot show a full screen (TERM is {name!r}: {reason}).",
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


def _input_decoder(encoding: str, *, marks_pastes: bool) -> InputDecoder:
    """Return a decoder that knows what terminfo says of the terminal's keys."""
    sent = {name: curses.tigetstr(name) for name in CAPABILITIES}
    names = {keys: CAPABILITIES[name] for name, keys in sent.items() if keys}
    return InputDecoder(encoding, names, marks_pastes=marks_pastes)


def _capabilities(
    terminal: Terminal, encoding: str, own: Mapping[str, Look] | None
) -> Capabilities:
    """Return the sequences that paint on this terminal."""
    cup = curses.tigetstr("cup") or b""
    wrap, no_wrap = _sequence("smam"), _sequence("rmam")
    if not (wrap and no_wrap):  # terminfo lacks these sequences of tmux and screen
        wrap, no_wrap = (_WRAP, _NO_WRAP) if terminal.xterm_like else (b"", b"")
    return Capabilities(
        move=lambda y, x: _PADDING.sub(b"", curses.tparm(cup, y, x)),
        erase=_sequence("el"),
        wrap=wrap,
        no_wrap=no_wrap,
        plain=_sequence("sgr0"),
        styles=_style_sequences(own),
        combines=terminal.xterm_like,
        scroll=_scroll if all(map(curses.tigetstr, ("csr", "ind", "ri"))) else None,
        encoding=encoding,
    )


def _scroll(top: int, bottom: int, up: int) -> bytes:
    """Return the sequence that scrolls some rows by `up` rows, down if it is negative."""
    region = _sequence("csr", top, bottom)
    edge = _sequence("cup", bottom if up > 0 else top, 0)
    moved = _sequence("ind" if up > 0 else "ri") * abs(up)
    return region + edge + moved + _sequence("csr", 0, curses.LINES - 1)


def _sequence(name: str, *parameters: int) -> bytes:
    """Return the sequence of a terminfo capability, without padding; empty if there is none."""
    capability = curses.tigetstr(name)
    return _PADDING.sub(b"", curses.tparm(capability, *parameters)) if capability else b""


def _style_sequences(own: Mapping[str, Look] | None) -> dict[str, bytes]:
    """Return the sequence that sets the attributes and the colour of each style."""
    # Attributes that the terminal cannot show together with colours.
    without = max(curses.tigetnum("ncv"), 0)
    sequences = {}
    for style, look in theme(_colour_depth(), own).items():
        parts = [_ATTRIBUTES[name] for name in look.attributes]
        colour = b"" if look.colour is None else _sequence("setaf", look.colour)
        shown = [name for name, number in parts if not (colour and number & without)]
        sequences[style] = b"".join(map(_sequence, shown)) + colour
    return sequences


def _colour_depth() -> int:
    """Return how many colours to use: 256, 16, 8 or 0."""
    has_default = bool(_sequence("op"))  # restores the terminal's default colours
    return choose_depth(curses.tigetnum("colors"), os.environ) if has_default else 0


def _page_text(text: str, about: Sequence[str], width: int, height: int) -> str:
    """Return a page with a text for copying, without sentences that would push it out of sight.

    The last sentence introduces the text.
    """
    for sentences in (about, about[-1:]):
        lines = ["", *sentences, *[""] * bool(sentences), text, "", _PAGE_HINT]
        # The cursor stands below the last line.
        if sum(max(ceil(cells(line) / width), 1) for line in lines) < height:
            return "".join(f"{line}\n" for line in lines)
    return f"{text}\n\n{_PAGE_HINT}\n"

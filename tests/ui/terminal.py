"""A program in a real pseudo-terminal, and an emulator that shows what it paints."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from array import array
from typing import TYPE_CHECKING

import pyte

from tests.prepared import take_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

GUARD_SECONDS = 30.0

_LIBC = ctypes.CDLL(None)
_LIBC.ptsname.restype = ctypes.c_char_p
_TERMINAL_VARIABLES = {
    *("NO_COLOR", "COLUMNS", "LINES", "ESCDELAY", "TMUX", "STY", "TERM_PROGRAM", "LC_TERMINAL"),
    *("KITTY_WINDOW_ID", "WT_SESSION", "ConEmuANSI"),
}


class Emulator(pyte.Screen):
    """A screen that measures characters as the C library does, and so as curses expects.

    A character without width joins the cell before it; pyte alone would end the text there.
    `measure` may give a character another width than the C library, to be another terminal.
    """

    measure: Callable[[str], int | None] = staticmethod(lambda _: None)

    def draw(self, data: str) -> None:
        """Put characters where the cursor is."""
        for character in data:
            other = self.measure(character)
            width = _LIBC.wcwidth(ord(character)) if other is None else other
            assert ord(character) >= 0xA0 or width >= 0, f"a control was written: {character!a}"
            width = 1 if width < 0 else width  # a box for what its table does not have
            if width:
                super().draw("x" if width == 1 else "漢")
            line, x = self.buffer[self.cursor.y], self.cursor.x - max(width, 1)
            before = "" if width else line[x].data
            line[x] = line[x]._replace(data=before + character)

    def repeat(self, count: int) -> None:
        """Put the last character there again and again (REP)."""
        self.draw(self.buffer[self.cursor.y][self.cursor.x - 1].data * count)

    def scroll_up(self, count: int) -> None:
        """Move all rows within the margins up (SU)."""
        row, self.cursor.y = self.cursor.y, self.margins.top if self.margins else 0
        self.delete_lines(count)
        self.cursor.y = row

    def scroll_down(self, count: int) -> None:
        """Move all rows within the margins down (SD)."""
        row, self.cursor.y = self.cursor.y, self.margins.top if self.margins else 0
        self.insert_lines(count)
        self.cursor.y = row

    @property
    def display(self) -> list[str]:
        """The text of each row."""
        return ["".join(self.cells(y, 0, self.columns)) for y in range(self.lines)]

    def cells(self, y: int, start: int, end: int) -> list[str]:
        """Return the contents of cells of a row; the right half of a wide character is empty."""
        return [self.buffer[y][x].data for x in range(start, end)]


def _count_unread(terminal: int) -> int:
    """Return how many bytes of input the program has not read."""
    count = array("i", [0])
    fcntl.ioctl(terminal, termios.FIONREAD, count)
    return count[0]


class _Stream(pyte.ByteStream):
    csi = pyte.ByteStream.csi | {"b": "repeat", "S": "scroll_up", "T": "scroll_down"}
    events = pyte.ByteStream.events | {"repeat", "scroll_up", "scroll_down"}


class Terminal:
    """`python -m tchat` with `arguments`, in a terminal of `width` by `height` cells.

    Or another `program`. `extra` is added to its environment, from which everything that
    describes the terminal of the tests themselves is removed. `pause` is typed after each Enter,
    for the pause of a person: the full-screen client takes text that follows without one for
    pasted. A key without a meaning there ends the line as a pause does.
    """

    def __init__(
        self,
        arguments: list[str],
        home: str,
        width: int = 80,
        height: int = 24,
        *,
        program: Sequence[str] = (sys.executable, "-m", "tchat"),
        pause: str = "",
        **extra: str,
    ) -> None:
        environment = {
            name: text for name, text in os.environ.items() if name not in _TERMINAL_VARIABLES
        }
        environment |= {"TERM": "xterm-256color", "TCHAT_HOME": home}
        environment |= {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **extra}
        self.screen = Emulator(width, height)
        self.raw = b""
        self._pause = pause
        self._stream = _Stream(self.screen)
        self._end, other = pty.openpty()
        termios.tcsetwinsize(other, (height, width))
        self._process = subprocess.Popen(
            [*program, *arguments],
            env=environment,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(other)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._hang_up()

    @property
    def text(self) -> str:
        """The text of the screen, row by row."""
        return "\n".join(row.rstrip() for row in self.screen.display)

    def type(self, text: str) -> None:
        r"""Press keys; "\r" is Enter."""
        self.send(text.replace("\r", f"\r{self._pause}").encode())

    def send(self, data: bytes) -> None:
        """Send bytes as they are: pasted text, reports, parts of characters."""
        while data:
            data = data[os.write(self._end, data) :]

    def resize(self, width: int, height: int) -> None:
        """Change the terminal's size; the program gets SIGWINCH."""
        self.screen.resize(height, width)
        termios.tcsetwinsize(self._end, (height, width))

    def signal(self, number: int) -> None:
        """Send a signal to the program."""
        self._process.send_signal(number)

    def sees(self, *texts: str) -> None:
        """Wait until the screen shows all of `texts`."""
        self.until(lambda: all(text in self.text for text in texts), f"{texts}")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Receive output until the condition holds."""
        guard = time.monotonic() + GUARD_SECONDS
        while not condition():
            assert time.monotonic() < guard, f"never came: {what}\n{self.text}"
            assert self._receive(), f"the program ended before: {what}\n{self.text}"

    def close(self) -> int:
        """Close the terminal, so that the program gets SIGHUP; return as `end` does."""
        self._hang_up()
        return self._process.wait()

    def end(self) -> int:
        """Wait until the program has ended and return its exit status, or a signal as -number."""
        guard = time.monotonic() + GUARD_SECONDS
        while self._receive():
            assert time.monotonic() < guard, f"never ended:\n{self.text}"
        return self._process.wait()

    def _hang_up(self) -> None:
        if self._end >= 0:
            os.close(self._end)
            self._end = -1

    @property
    def flags(self) -> int:
        """The terminal's local flags (termios)."""
        return int(termios.tcgetattr(self._end)[3])

    @property
    def output_flags(self) -> int:
        """The terminal's output flags (termios)."""
        return int(termios.tcgetattr(self._end)[1])

    def wait_handled(self, data: bytes) -> None:
        """Send bytes, and wait until the program has handled them.

        They are sent several times: the program reads again once it has handled what it read
        before, and they reach it a moment after they were sent.
        """
        name = _LIBC.ptsname(self._end)
        for _ in range(10):
            self.send(data)
            program = os.open(name, os.O_RDONLY | os.O_NOCTTY)
            try:
                self.until(lambda: not _count_unread(program), "a program that reads")  # noqa: B023
            finally:
                os.close(program)

    def _receive(self) -> bool:
        """Receive output if there is some; return False once the program has ended."""
        ready, _, _ = select.select([self._end], [], [], 0.5)
        if ready:
            try:
                data = os.read(self._end, 65536)
            except OSError as error:
                if error.errno != errno.EIO:  # nobody has the other end open
                    raise
                return False
            self.raw += data
            self._stream.feed(data)
        return True

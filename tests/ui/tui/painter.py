"""A program around a `Screen` and nothing else, for tests of the screen in a real terminal.

    python painter.py [STYLE=LOOK ...]

It shows its size, a row for each style, and lines that keys add: n adds a line; e one of emoji and
other scripts; m one whose last letter has marks and is in the last column; i one, and stops while
painting it; u repaints everything; o changes the end of the last line; t sets the window title;
w rings the bell beside curses; a prints text for copying; x raises an exception; q quits; Ctrl-Z
suspends. It follows SIGWINCH.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TYPE_CHECKING

from tchat.streams import run_reporting
from tchat.ui.text.cells import pad_right
from tchat.ui.tui.decoder import CursorPosition
from tchat.ui.tui.rows import Row
from tchat.ui.tui.screen import Screen, open_screen
from tchat.ui.tui.styles import STYLES, parse_looks
from tchat.ui.tui.view import Picture

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = ["disk", "full", "again", "who", "has", "the", "key", "of", "rack", "seven", "lunch"]
EMOJI = [
    *("r\u200ds", "\U0001f3f3\ufe0f\u200d\U0001f308", "❤\ufe0f", "1\ufe0f\u20e3", "👍🏽", "☝🏽"),
    *(
        "👨\u200d👩\u200d👧\u200d👦",
        "👩🏽\u200d🚀",
        "🇨🇭🇨",
        "क्ष हिन्दी",
        "مرحبا",
        "\u1112\u1161\u11ab",
    ),
    *("\u0301x", "x🏽", "가\u302e", "می\u200cخواهم", "㉈", "你好"),  # noqa: RUF001
]
PEOPLE = ["★ alice", "● bob", "○ carol"]


class Interrupted(list[Row]):
    """Rows that stop the process once, in the middle of being painted."""

    interrupted = False

    def __iter__(self) -> Iterator[Row]:
        for y in range(len(self)):
            if y == len(self) // 2 and not self.interrupted:
                self.interrupted = True
                signal.raise_signal(signal.SIGTSTP)
            yield self[y]


class Painter:
    """The lines shown, and what keys do to them."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.lines: list[list[str]] = []
        self.over = False
        self.aside = False
        self.interrupt = False
        self.repainted = 0
        self.decoder = screen.input_decoder()

    def paint(self) -> None:
        width, height = self.screen.size
        head = f" size {width}x{height}, process {os.getpid()}."
        rows: list[Row] = [[(head.ljust(width)[:width], "title")]]
        if not self.lines:
            rows += [[(f"style {style}", style)] for style in STYLES]
        rows += [self.row(y, *line) for y, line in enumerate(self.lines[-(height - 2) :])]
        rows = rows[: height - 1]
        rows += [[("", "text")]] * (height - 1 - len(rows)) + [self.last_row()]
        if self.interrupt:
            self.interrupt, rows = False, Interrupted(rows)
        self.screen.paint(Picture(rows, (height - 1, 2)))

    def last_row(self) -> Row:
        """Return the row that is painted last: once it is there, all others are."""
        done = f"{len(self.lines)} lines, repainted {self.repainted} times"
        return [("> ", "prompt"), (done, "dim")]

    def row(self, y: int, start: str, end: str) -> Row:
        person = PEOPLE[y] if y < len(PEOPLE) else ""
        return [
            *[(start, "name1"), (" │ ", "rule"), (pad_right(end, 40), "text")],
            *[("│", "rule"), (person, "dim")],
        ]

    def add_line(self, kind: str) -> None:
        number = len(self.lines)
        words = " ".join(WORDS[(number * step) % len(WORDS)] for step in range(1, 5))
        emoji = f"{EMOJI[number % len(EMOJI)]} " * (number % 9)
        start = "x" * (self.screen.size[0] - 1) + "ด้" if kind == "m" else f"line {number}"
        self.lines.append([start, emoji if kind == "e" else words])

    def press(self, key: str) -> None:
        match key:
            case "n" | "e" | "m":
                self.add_line(key)
            case "i":
                self.press("n")
                self.interrupt = True
            case "o":
                self.lines[-1][1] = "something else"
            case "t":
                self.screen.title("a title\x1b]0;owned\x07")
            case "w":
                self.screen.write_raw(b"\a")
            case "a":
                self.screen.print_for_copying("COPY THIS", already=self.aside)
                self.aside = True
            case "x":
                raise ZeroDivisionError
            case "q":
                self.over = True
            case "C-z":
                self.screen.suspend()

    def follow(self) -> None:
        """Handle keys, and follow the terminal's size."""
        signals, awake = os.pipe()
        os.set_blocking(awake, False)
        signal.set_wakeup_fd(awake)
        self.paint()
        while not self.over:
            ready, _, _ = select.select([sys.stdin, signals], [], [])
            if signals in ready and signal.SIGWINCH in os.read(signals, 4096):
                self.screen.resize()
                self.paint()
            if sys.stdin in ready:
                self.handle_keys()
                self.paint()

    def handle_keys(self) -> None:
        for key in self.decoder.feed(self.screen.read() or b"") + self.decoder.flush():
            if self.aside and isinstance(key, str):
                self.aside = False
                self.screen.resume()
            elif key == "u":
                self.repainted += 1
                self.screen.redraw()
            elif isinstance(key, str):
                self.press(key)
            elif isinstance(key, CursorPosition):
                self.screen.learn(key)


def main() -> None:
    wishes = parse_looks(dict(wish.split("=") for wish in sys.argv[1:]), "the command line")
    signal.signal(signal.SIGWINCH, lambda number, frame: None)
    with open_screen(wishes) as screen:
        Painter(screen).follow()
    print("the end")


if __name__ == "__main__":
    sys.exit(run_reporting(main))

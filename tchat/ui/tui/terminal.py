"""What a terminal can be expected to obey, by what it says of itself in the environment.

Beyond what terminfo describes there are commands that most terminals of today know: a title for
the window, paste that can be told from typing, notifications on the desktop. The old ones would
print some of them as text, so those that are not known to be of the family get none. A terminal
within another (tmux, GNU screen) keeps to itself what it does not know, unless it is wrapped in a
command that says: hand this on. Over SSH little more than TERM is left to judge by.

Calling a person back to the terminal: the bell, and a notification on the desktop. Pure.

The bell is always rung: it marks the window or the pane as well, and it is what gets through
where a notification does not (tmux has to be told to hand one on, `allow-passthrough`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.core.text import clean_line
from tchat.ui.text.cells import clip

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tchat.client.config.settings import Notifications

_LEAST_SECONDS = 1.0
_TITLE_CELLS = 40
_BODY_CELLS = 200


class Notifier:
    """Makes the bytes that call a person, at most once a second."""

    def __init__(self, terminal: Terminal, setting: Notifications = "auto") -> None:
        self._terminal = terminal
        self._setting = setting
        self._last = float("-inf")

    def call(self, title: str, body: str, now: float) -> bytes:
        """Return what to write to the terminal; nothing if it is too soon or switched off.

        `now` is in seconds, of any clock that does not go back.
        """
        if self._setting == "off" or now - self._last < _LEAST_SECONDS:
            return b""
        self._last = now
        return BEL if self._setting == "bell" else BEL + notification(self._terminal, title, body)


def notification(terminal: Terminal, title: str, body: str) -> bytes:
    """Return what shows a notification on the desktop; nothing where none can be expected."""
    # A title ends at the first semicolon.
    head = terminal.text(title.replace(";", ","), _TITLE_CELLS)
    rest = terminal.text(body, _BODY_CELLS)
    if terminal.notification == 777:
        return terminal.outside(terminal.command(b"777;notify;" + head + b";" + rest))
    if terminal.notification == 9:
        # Begins with a letter of ours: what begins with a digit may be another command.
        return terminal.outside(terminal.command(b"9;tchat " + head + b": " + rest))
    return b""


ESC, BEL, END = b"\x1b", b"\x07", b"\x1b\\"

_FAMILY = (
    *("xterm", "tmux", "screen", "rxvt", "alacritty", "foot", "kitty", "wezterm", "ghostty"),
    *("konsole", "gnome", "vte", "contour", "mintty", "iterm", "st-"),
)
_TITLE_CELLS = 80
# GNU screen keeps at most 256 bytes of what it is to hand on, in its oldest versions.
_SCREEN_PIECE = 240


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal: whether it is of xterm's family, what it stands in, and what it reads.

    `within` is "tmux", "screen" or empty; `notification` the number of the command (OSC) by which
    it can be told to notify, 9 or 777, or 0; `utf8` says whether text goes to it in UTF-8.
    """

    modern: bool
    within: str
    notification: int
    utf8: bool = True

    def paste(self, *, on: bool) -> bytes:
        """Return what makes it mark what is pasted, or no longer."""
        return (b"\x1b[?2004h" if on else b"\x1b[?2004l") if self.modern else b""

    def title(self, text: str) -> bytes:
        """Return what gives its window a title; without text, the one that it has by itself."""
        return self.command(b"2;" + self.text(text, _TITLE_CELLS)) if self.modern else b""

    def command(self, inside: bytes) -> bytes:
        """Return an operating system command (ECMA-48 OSC)."""
        return ESC + b"]" + inside + BEL

    def outside(self, sequence: bytes) -> bytes:
        """Return a sequence so that it gets to the terminal that this one stands in, if any."""
        if self.within == "tmux":
            return ESC + b"Ptmux;" + sequence.replace(ESC, ESC + ESC) + END
        if self.within == "screen":
            starts = range(0, len(sequence), _SCREEN_PIECE)
            return b"".join(ESC + b"P" + sequence[n : n + _SCREEN_PIECE] + END for n in starts)
        return sequence

    def text(self, text: str, width: int) -> bytes:
        """Return at most `width` cells of a text, in which there is nothing that is obeyed."""
        line = clip(clean_line(text[: 8 * width]), width)
        # In other encodings the bytes of UTF-8 can be commands: 0x9C ends what it stands in.
        return line.encode() if self.utf8 else line.encode("ascii", "replace")


def terminal_of(environment: Mapping[str, str], *, utf8: bool = True) -> Terminal:
    """Return the terminal of a process with that environment."""
    modern = environment.get("TERM", "").startswith(_FAMILY)
    return Terminal(modern, _within(environment), _notification(environment) * modern, utf8)


def _within(environment: Mapping[str, str]) -> str:
    if environment.get("TMUX") or environment.get("TERM", "").startswith("tmux"):
        return "tmux"
    return "screen" if environment.get("STY") else ""


def _notification(environment: Mapping[str, str]) -> int:
    """Return the command for notifications that a terminal of the family obeys, or 0.

    9 is only sent to those that mean it: to others (ConEmu) some of it means to run a program.
    777 is obeyed by most of the rest, and passed over by those that do not know it.
    """
    program = environment.get("TERM_PROGRAM", "")
    if "iTerm" in program + environment.get("LC_TERMINAL", ""):
        return 9
    if "KITTY_WINDOW_ID" in environment or environment.get("TERM") == "xterm-kitty":
        return 9
    mute = program in ("Apple_Terminal", "vscode")
    return 0 if mute or not environment.keys().isdisjoint(("WT_SESSION", "ConEmuANSI")) else 777

"""Terminal detection, escape sequences, and rate-limited bell and desktop notifications.

Most terminals of today know control sequences that terminfo does not describe: for the window
title, bracketed paste, desktop notifications. Old terminals would print some of them as
text, so terminals that are not known to be of xterm's family get none. The kind of terminal can
only be guessed from the environment; over SSH little more than TERM is available.

A terminal multiplexer (tmux, GNU screen) swallows sequences that it does not know, unless they are
wrapped in a passthrough sequence. The bell is always rung with a notification: it marks the window
or pane too, and arrives where a notification does not (tmux drops those unless `allow-passthrough`
is set).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.core.text import clean_line
from tchat.ui.text.cells import clip
from tchat.ui.text.fallback import encodable, widen_ellipses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tchat.client.config.settings import Notifications

_ESC, _BEL, _ST = b"\x1b", b"\x07", b"\x1b\\"

_XTERM_FAMILY = (
    *("xterm", "tmux", "screen", "rxvt", "alacritty", "foot", "kitty", "wezterm", "ghostty"),
    *("konsole", "gnome", "vte", "contour", "mintty", "iterm", "st-"),
)
_WINDOW_TITLE_CELLS = 80
_NOTIFICATION_TITLE_CELLS = 40
_NOTIFICATION_BODY_CELLS = 200
_MIN_NOTIFICATION_INTERVAL = 3.0
# The oldest versions of GNU screen keep at most 256 bytes of a string to pass through.
_SCREEN_CHUNK = 240


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal's capabilities, and the sequences that use them.

    `xterm_like`: it supports titles and bracketed paste. `multiplexer` is "tmux", "screen"
    or empty. `notification` is the number of the OSC command that shows a desktop notification, 9
    or 777, or 0 for none. `utf8` says whether text is sent to it in UTF-8.
    """

    xterm_like: bool
    multiplexer: str
    notification: int
    utf8: bool = True

    def paste_mode(self, *, on: bool) -> bytes:
        """Return the sequence for bracketed paste, which tells pasted text from typing."""
        return (b"\x1b[?2004h" if on else b"\x1b[?2004l") if self.xterm_like else b""

    def title(self, text: str) -> bytes:
        """Return the sequence to set the window title; empty text restores the terminal's own."""
        if not self.xterm_like:
            return b""
        return self.osc(b"2;" + self.encode_text(text, _WINDOW_TITLE_CELLS))

    def notify(self, title: str, body: str) -> bytes:
        """Return the sequence to show a desktop notification; empty if it is unlikely to work."""
        # A title ends at the first semicolon.
        head = self.encode_text(title.replace(";", ","), _NOTIFICATION_TITLE_CELLS)
        rest = self.encode_text(body, _NOTIFICATION_BODY_CELLS)
        if self.notification == 777:
            return self.pass_through(self.osc(b"777;notify;" + head + b";" + rest))
        if self.notification == 9:
            # A fixed word comes first: after "9;" a digit may begin another command (ConEmu).
            return self.pass_through(self.osc(b"9;tchat " + head + b": " + rest))
        return b""

    def osc(self, payload: bytes) -> bytes:
        """Return an operating system command (ECMA-48 OSC)."""
        return _ESC + b"]" + payload + _BEL

    def pass_through(self, sequence: bytes) -> bytes:
        """Return a sequence wrapped so that a multiplexer, if any, hands it on (passthrough)."""
        if self.multiplexer == "tmux":
            return _ESC + b"Ptmux;" + sequence.replace(_ESC, _ESC + _ESC) + _ST
        if self.multiplexer == "screen":
            starts = range(0, len(sequence), _SCREEN_CHUNK)
            return b"".join(_ESC + b"P" + sequence[n : n + _SCREEN_CHUNK] + _ST for n in starts)
        return sequence

    def encode_text(self, text: str, width: int) -> bytes:
        """Return at most `width` cells of a text, sanitized so that no byte is a control."""
        # Cut before cleaning, so that a long text costs no more than what is shown of it.
        line = clean_line(text[: 8 * width])
        if self.utf8:
            return clip(line, width).encode()
        # In other encodings UTF-8's bytes can be controls: 0x9C would end the sequence early.
        return encodable(widen_ellipses(clip(line, width)), "ascii").encode("ascii")


class Notifier:
    """Rings the bell and shows desktop notifications, at most once in three seconds."""

    def __init__(self, terminal: Terminal, setting: Notifications = "auto") -> None:
        self._terminal = terminal
        self._setting = setting
        self._last = float("-inf")

    def notify(self, title: str, body: str, now: float) -> bytes:
        """Return the sequence to write; empty if it is too soon or notifications are off.

        `now` is in seconds of a monotonic clock.
        """
        if self._setting == "off" or now - self._last < _MIN_NOTIFICATION_INTERVAL:
            return b""
        self._last = now
        return _BEL if self._setting == "bell" else _BEL + self._terminal.notify(title, body)


def detect_terminal(environment: Mapping[str, str], *, utf8: bool = True) -> Terminal:
    """Return the terminal that a process's environment describes."""
    xterm_like = environment.get("TERM", "").startswith(_XTERM_FAMILY)
    notification = _notification_command(environment) if xterm_like else 0
    return Terminal(xterm_like, _multiplexer(environment), notification, utf8)


def _multiplexer(environment: Mapping[str, str]) -> str:
    if environment.get("TMUX") or environment.get("TERM", "").startswith("tmux"):
        return "tmux"
    return "screen" if environment.get("STY") else ""


def _notification_command(environment: Mapping[str, str]) -> int:
    """Return the number of the OSC command with which this xterm-like terminal notifies, or 0.

    9 is only sent to terminals that are known to support it: in others (ConEmu), some OSC 9
    commands run a program. Most of the rest support 777, or ignore it.
    """
    program = environment.get("TERM_PROGRAM", "")
    if "iTerm" in program + environment.get("LC_TERMINAL", ""):
        return 9
    if "KITTY_WINDOW_ID" in environment or environment.get("TERM") == "xterm-kitty":
        return 9
    mute = program in ("Apple_Terminal", "vscode")
    return 0 if mute or not environment.keys().isdisjoint(("WT_SESSION", "ConEmuANSI")) else 777

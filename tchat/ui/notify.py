"""Calling a person back to the terminal: the bell, and a notification on the desktop. Pure.

The bell is always rung: it marks the window or the pane as well, and it is what gets through
where a notification does not (tmux has to be told to hand one on, `allow-passthrough`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.ui.terminals import BEL

if TYPE_CHECKING:
    from tchat.client.config import Notifications
    from tchat.ui.terminals import Terminal

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

r"""Texts of the chat as IRC texts, and back: actions, colours, several lines.

In IRC, `\x01ACTION waves\x01` is what `/me waves` is in tchat, and control characters set colours
and styles, which tchat does not have.
"""

from __future__ import annotations

import re

MOST_LINES = 100
"""After so many lines of a message, the others are shown as one, which is split where it must."""

_CTCP = "\x01"
_ACTION = f"{_CTCP}ACTION "
_STYLES = re.compile(
    r"\x03(?:\d{1,2}(?:,\d{1,2})?)?|\x04(?:[0-9A-Fa-f]{6}(?:,[0-9A-Fa-f]{6})?)?"
    r"|[\x02\x0f\x11\x16\x1d\x1e\x1f]"
)


def text_from_irc(text: str) -> str | None:
    """Return the text to post for that of a PRIVMSG; None for a CTCP request, which is no text."""
    if text.startswith(_ACTION):
        return "/me " + plain(text.removeprefix(_ACTION)).strip()
    return None if text.startswith(_CTCP) else plain(text)


def plain(text: str) -> str:
    """Return a text without colours, styles and CTCP delimiters."""
    return _STYLES.sub("", text).replace(_CTCP, "")


def action(text: str) -> str:
    """Return a line as an action."""
    return f"{_ACTION}{text}{_CTCP}"


def lines_of(text: str) -> list[str]:
    """Return the lines of a text of the chat; IRC has no empty ones, so they have a space.

    Empty lines at the end, such as that of a file that was piped into `tchat say`, are left out.
    """
    lines = [line.rstrip("\r") or " " for line in plain(text).split("\n")]
    while len(lines) > 1 and lines[-1] == " ":
        lines.pop()
    return lines


def message_lines(text: str) -> list[str]:
    """Return the lines of a message; after `MOST_LINES`, the others with ↵ between them.

    A message may have 16,000 lines, each of which would be a line of IRC of thirty times its size.
    """
    lines = lines_of(text)
    if len(lines) <= MOST_LINES:
        return lines
    return [*lines[: MOST_LINES - 1], "↵".join(line.strip() for line in lines[MOST_LINES - 1 :])]


def snippet(text: str, length: int = 60) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(plain(text).split())
    return line if len(line) <= length else f"{line[:length].rstrip()}…"

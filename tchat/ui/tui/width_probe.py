"""Ask a terminal how wide it draws sequences of code points (DSR 6, cursor position reports). Pure.

Each sequence is written at the left edge of a row of its own, and then the terminal is asked for
the position of its cursor. In an answer, the row identifies the sequence, in whatever order the
answers come, and the column gives its width. The rows have to be painted over afterwards.

The screen is painted without waiting for the answers. The widths change only if all answers come
before a deadline; later, the text would move under a person who is reading. A late answer is
ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.ui.text.widths import SAFE, WidthProfile

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.ui.tui.decoder import CursorPosition

DEADLINE_SECONDS = 1.0
"""Longer than a link to the other side of the earth takes, and the client's own start."""

# A report from row 1 has the bytes of F3 with a modifier.
_FIRST_ROW = 2
_ASK = b"\x1b[6n"
_SEQUENCES = {
    "selector": "\u2764\ufe0f",
    "keycap": "1\ufe0f\u20e3",
    "toned": "\U0001f44d\U0001f3fd",
    "family": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "rainbow": "\U0001f3f3\ufe0f\u200d\U0001f308",
    "spacing": "\u0915\u0940",
}
LOWEST_ROW = _FIRST_ROW + len(_SEQUENCES) - 1
"""The number of rows that a screen needs for the questions."""


class WidthProbe:
    """The questions to one terminal, and what its answers say; `deadline` ends the wait for them.

    Times are in seconds, of any one clock.
    """

    def __init__(self) -> None:
        self._widths: dict[str, int] = {}
        self.deadline = float("-inf")

    def ask(self, move: Callable[[int, int], bytes], now: float) -> bytes:
        """Return the questions; `move` gives the sequence that moves the cursor, from 0."""
        self._widths = {}
        self.deadline = now + DEADLINE_SECONDS
        texts = enumerate(_SEQUENCES.values(), start=_FIRST_ROW - 1)
        return b"".join(move(y, 0) + text.encode() + _ASK for y, text in texts)

    def awaits(self, now: float) -> bool:
        """Return whether answers may still be under way."""
        return now <= self.deadline and len(self._widths) < len(_SEQUENCES)

    def answer(self, position: CursorPosition, now: float) -> WidthProfile | None:
        """Return the terminal's profile if this is the last answer missing, and in time."""
        index = position.row - _FIRST_ROW
        if now > self.deadline or not 0 <= index < len(_SEQUENCES):
            return None
        name = list(_SEQUENCES)[index]
        if name in self._widths:
            return None
        self._widths[name] = position.column - 1
        return _profile_of(self._widths) if len(self._widths) == len(_SEQUENCES) else None


def _profile_of(widths: dict[str, int]) -> WidthProfile:
    """Return the profile for measured widths; an impossible width counts as unknown."""
    # Old versions of tmux join any character that follows a joiner, depending on when it arrives.
    # They are recognised by the rainbow flag, which becomes as narrow as its first part.
    joined = widths["family"] == widths["rainbow"] == 2
    return WidthProfile(
        selector=2 if widths["selector"] == 2 else SAFE.selector,
        keycap=2 if widths["keycap"] == 2 else SAFE.keycap,
        toned=widths["toned"] == 2,
        joined=joined,
        spacing=0 if widths["spacing"] == 1 else SAFE.spacing,
    )

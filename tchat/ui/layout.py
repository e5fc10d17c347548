"""How a screen is divided.

title                                   the window, its topic, who is online, the connection
messages                     │ people   the newest at the bottom; people only where it is wide
status                                  the windows, what waits, how far a file is on its way
prompt and input                        one row, or as many as are typed and can be spared
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.ui.prompt import prompt_rows

if TYPE_CHECKING:
    from tchat.ui.model import Model

SMALLEST = (20, 5)
"""The narrowest and the lowest screen that can be of use."""

BARS = 2
"""Rows of the title and the status."""

_WIDE = 64
_VERY_WIDE = 110
_PEOPLE = 18
_MORE_PEOPLE = 26


def fits(width: int, height: int) -> bool:
    """Return whether a screen is large enough to show anything."""
    return width >= SMALLEST[0] and height >= SMALLEST[1]


def people_width(model: Model, width: int) -> int:
    """Return how wide the pane of members is, without the line at its left; 0 if there is none."""
    if width < _WIDE or model.bare or model.direct or not (model.show_people and model.people):
        return 0
    return _MORE_PEOPLE if width >= _VERY_WIDE else _PEOPLE


def most_typed(height: int) -> int:
    """Return how many rows the prompt may take."""
    return max(height // 3, 2)


def pane_size(model: Model, width: int, height: int) -> tuple[int, int]:
    """Return the width and height of the pane of messages on a screen that is large enough."""
    typed = len(prompt_rows(model, width, most_typed(height)).rows)
    people = people_width(model, width)
    return width - people - bool(people), height - BARS - typed

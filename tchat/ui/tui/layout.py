"""Screen layout: divides width and height between title, messages, members, status and prompt.

header                                  the window, its topic, who is online, the connection
messages                     │ members  the newest at the bottom; members only on a wide screen
status                                  the windows, what needs attention, file transfers
prompt and input                        one row, or as many as are typed and can be spared

Drawing and scrolling use the same layout, so that a page is as long as the pane that is drawn. The
messages get the rows that the other parts leave, and always at least one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tchat.ui.tui.bars import header_rows
from tchat.ui.tui.prompt import Prompt, prompt_rows

if TYPE_CHECKING:
    from tchat.ui.tui.model import Model
    from tchat.ui.tui.rows import Row

SMALLEST = (20, 5)
"""Width and height of the smallest usable screen."""

_STATUS_ROWS = 1
_WIDE = 64
_VERY_WIDE = 110
_MEMBERS_WIDTH = 18
_MEMBERS_WIDTH_VERY_WIDE = 26


class Layout(NamedTuple):
    """The finished parts above and below the messages, and the sizes of the panes between them.

    `members_width` does not count the vertical line at its left, and is 0 if they are not shown.
    """

    header: list[Row]
    prompt: Prompt
    message_width: int
    members_width: int
    pane_height: int


def layout_of(model: Model, width: int, height: int) -> Layout | None:
    """Return the layout of a screen of `width` by `height` cells; None if that is too small."""
    if width < SMALLEST[0] or height < SMALLEST[1]:
        return None
    # A question is shown nowhere else, so it may take more rows than a text that is typed.
    prompt = prompt_rows(model, width, max(height // (2 if model.question else 3), 2))
    spare = height - _STATUS_ROWS - len(prompt.rows)
    header = header_rows(model, width)[: spare - 1]
    members = _members_width(model, width)
    return Layout(header, prompt, width - members - bool(members), members, spare - len(header))


def _members_width(model: Model, width: int) -> int:
    if width < _WIDE or model.bare or model.direct or not (model.show_people and model.people):
        return 0
    return _MEMBERS_WIDTH_VERY_WIDE if width >= _VERY_WIDE else _MEMBERS_WIDTH

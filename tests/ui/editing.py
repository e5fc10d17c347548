"""Keys pressed in an input line, by the default bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.ui.tui.keymap import bind

if TYPE_CHECKING:
    from tchat.ui.tui.lineedit import LineEdit

KEYS = bind({})


def press(edit: LineEdit, *keys: str) -> str:
    """Press keys, and return the line with | for the cursor; other text is inserted."""
    for key in keys:
        if key in KEYS:
            edit.do(KEYS[key])
        else:
            edit.insert(key)
    return "".join(edit.before) + "|" + "".join(edit.after)

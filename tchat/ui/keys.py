"""Keys by their names: what a terminal sends, as the words that bindings use.

A character is itself; others are "Enter", "Tab", "Up", "PageUp" …, with "C-" for Control and
"M-" for Alt, which a terminal sends as Escape and the key behind it.
"""

from __future__ import annotations

ESCAPE = "\x1b"

_CONTROLS = {
    "\r": "Enter",
    "\t": "Tab",
    "\x7f": "Backspace",
    "\x08": "Backspace",
    ESCAPE: "Escape",
}

_SPECIAL = {
    "KEY_UP": "Up",
    "KEY_DOWN": "Down",
    "KEY_LEFT": "Left",
    "KEY_RIGHT": "Right",
    "KEY_HOME": "Home",
    "KEY_END": "End",
    "KEY_PPAGE": "PageUp",
    "KEY_NPAGE": "PageDown",
    "KEY_DC": "Delete",
    "KEY_BACKSPACE": "Backspace",
    "KEY_ENTER": "Enter",
    "KEY_BTAB": "S-Tab",
    "KEY_RESIZE": "Resize",
}


def name_keys(raw: list[str]) -> list[str]:
    """Return the names of keys as curses gave them: characters, and "KEY_…" for special ones."""
    names: list[str] = []
    alt = False
    for item in raw:
        if item == ESCAPE and not alt:
            alt = True
            continue
        name = _name(item)
        if name:
            names.append(f"M-{name}" if alt else name)
        alt = False
    return [*names, "Escape"] if alt else names


def _name(item: str) -> str:
    if item.startswith("KEY_"):
        return _SPECIAL.get(item, "")
    if item in _CONTROLS:
        return _CONTROLS[item]
    if item < " ":
        return f"C-{chr(ord(item) + 96)}" if item != "\x1f" else "C-_"
    return item

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


# What terminals send for keys that their terminfo entry did not announce (ECMA-48, xterm).
_SEQUENCES = {
    "[A": "Up",
    "[B": "Down",
    "[C": "Right",
    "[D": "Left",
    "[F": "End",
    "[H": "Home",
    "[1~": "Home",
    "[3~": "Delete",
    "[4~": "End",
    "[5~": "PageUp",
    "[6~": "PageDown",
    "[Z": "S-Tab",
}


def name_keys(raw: list[str]) -> list[str]:
    """Return the names of keys as curses gave them: characters, and "KEY_…" for special ones.

    A sequence that means no key here is dropped whole, so that it cannot be taken for typing.
    """
    names: list[str] = []
    rest = list(raw)
    while rest:
        item = rest.pop(0)
        if item != ESCAPE:
            names += filter(None, [_name(item)])
        elif not rest:
            names.append("Escape")
        elif rest[0] in ("[", "O") and len(rest) > 1:
            names += filter(None, [_SEQUENCES.get("[" + _take_sequence(rest))])
        elif name := _name(rest.pop(0)):
            names.append(f"M-{name}")
    return names


def _take_sequence(rest: list[str]) -> str:
    """Remove a control sequence from the front of `rest`; return it without its introducer."""
    del rest[0]
    taken = ""
    while rest and len(rest[0]) == 1:
        taken += rest.pop(0)
        if "@" <= taken[-1] <= "~":
            break
    return taken


def _name(item: str) -> str:
    if item.startswith("KEY_"):
        return _SPECIAL.get(item, "")
    if item in _CONTROLS:
        return _CONTROLS[item]
    if item < " ":
        return f"C-{chr(ord(item) + 96)}" if item != "\x1f" else "C-_"
    return item

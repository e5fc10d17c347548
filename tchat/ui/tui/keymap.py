"""What keys do, as one table: the dispatch, `/help keys` and the README are made from it.

A key's action is offered to the input line first (`LineEdit.do`); what the line declines is the
window's. So one key can mean two things without a rule for each: an action in `OTHERWISE` is the
line's while there is something in it, and becomes another one on an empty line.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

from tchat.errors import Code, Refused
from tchat.ui.tui.keys import format_key, parse_key

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Binding:
    """Keys, the action they have by default, and who knows how to do it."""

    keys: tuple[str, ...]
    action: str
    help: str
    where: Literal["line", "window"] = "line"


BINDINGS: tuple[Binding, ...] = (
    Binding(("Enter",), "enter", "send the message, run the command", "window"),
    Binding(("M-Enter", "C-j", "S-Enter"), "newline", "begin a new line in the message"),
    Binding(
        ("Tab",), "complete", "complete a command, a name or a path; again: the next", "window"
    ),
    Binding(("S-Tab",), "complete-back", "complete; again: the one before", "window"),
    # Moving.
    Binding(("Left", "C-b"), "left", "one character to the left"),
    Binding(("Right", "C-f"), "right", "one character to the right"),
    Binding(("M-b", "C-Left", "M-Left"), "word-left", "one word to the left"),
    Binding(("M-f", "C-Right", "M-Right"), "word-right", "one word to the right"),
    Binding(("C-a", "Home"), "line-start", "to the start of the line"),
    Binding(("C-e",), "line-end", "to the end of the line"),
    Binding(("End",), "end-or-bottom", "to the end of the line; on an empty one: newest messages"),
    Binding(("Up",), "up", "the line above; from the first: what you sent before"),
    Binding(("Down",), "down", "the line below; from the last: what you sent after"),
    Binding(("C-r",), "search-history", "search what you sent; again: further back"),
    Binding(("C-g",), "abort", "end that search, the line as it was"),
    # Changing.
    Binding(("Backspace", "C-h"), "backspace", "delete the character before the cursor"),
    Binding(("Delete",), "delete", "delete the character behind the cursor"),
    Binding(("C-d",), "delete-or-leave", "the same; on an empty line: leave"),
    Binding(("C-w",), "kill-to-space", "cut back to a space"),
    Binding(("M-Backspace",), "kill-word-back", "cut the word before the cursor"),
    Binding(("M-d",), "kill-word", "cut the word behind the cursor"),
    Binding(("C-u",), "kill-to-start", "cut to the start of the line"),
    Binding(("C-k",), "kill-to-end", "cut to the end of the line"),
    Binding(("C-y",), "yank", "insert what was cut last"),
    Binding(("M-y",), "yank-older", "after that: what was cut before it instead"),
    Binding(("C-t",), "transpose", "exchange the two characters at the cursor"),
    Binding(("C-_",), "undo", "undo"),
    Binding(("M-_",), "redo", "undo what was undone"),
    Binding(("C-c",), "interrupt", "clear the line; on an empty one: how to leave", "window"),
    # The window.
    Binding(("PageUp",), "page-up", "earlier messages", "window"),
    Binding(("PageDown",), "page-down", "later messages", "window"),
    Binding(("Escape",), "bottom", "the newest messages; or end a search or question", "window"),
    Binding(("M-u",), "first-unread", "the first unread message", "window"),
    Binding(("C-s",), "search-text", "search the messages", "window"),
    Binding(("C-n",), "next-window", "the next window", "window"),
    Binding(("C-p",), "previous-window", "the previous window", "window"),
    *(
        Binding((f"M-{number}",), f"window-{number}", "the window of that number", "window")
        for number in range(1, 10)
    ),
    Binding(("M-a",), "next-activity", "the next window with news, highlights first", "window"),
    Binding(("M-/",), "last-window", "the window before this one", "window"),
    Binding(("F7", "F8"), "members", "show or hide the members", "window"),
    Binding(("M-l",), "bare-view", "messages alone, to copy from", "window"),
    Binding(("F9",), "approve-next", "approve the first who asks to join", "window"),
    Binding(("C-l", "Resize"), "redraw", "paint the screen anew", "window"),
    Binding(("C-z",), "suspend", "back to the shell, until fg", "window"),
    Binding((), "leave", "leave", "window"),
)
"""Every action, in the order of the help; one without keys can still be given some."""

OTHERWISE = {"end-or-bottom": "bottom", "delete-or-leave": "leave"}
"""What actions of the line become where it declines them: on an empty line."""

ACTIONS = frozenset(binding.action for binding in BINDINGS)

_NOT_ON_KEYBOARDS = "Resize"
_MOST_KEYS_SHOWN = 3


def bind(overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the action of each key: the table's, with a configuration file's on top.

    Keys are written "C-x" or "Ctrl-X"; the action "" takes a key's away. Raises `Refused`
    (bad_config) for an action that there is not, and for a key that cannot be or is typing.
    """
    bound = {parse_key(key) or key: binding.action for binding in BINDINGS for key in binding.keys}
    for written, action in overrides.items():
        key = parse_key(written)
        if not key:
            raise Refused(
                Code.BAD_CONFIG,
                f"keys: {written!r} is no key that can be bound; "
                "write C-x, M-x, C-M-x, F5, S-Tab, PageUp.",
            )
        if action and action not in ACTIONS:
            raise Refused(Code.BAD_CONFIG, f"keys: {_unknown(action)}")
        bound[key] = action
    return {key: action for key, action in bound.items() if action}


def key_rows() -> list[tuple[str, str]]:
    """Return the default keys as people write them, with what they do, a row for each action."""
    rows: dict[str, list[str]] = {}
    for binding in BINDINGS:
        written = [format_key(key) for key in binding.keys if key != _NOT_ON_KEYBOARDS]
        rows.setdefault(binding.help, []).extend(written)
    return [(_listed(keys), text) for text, keys in rows.items() if keys]


def _listed(keys: list[str]) -> str:
    return f"{keys[0]} … {keys[-1]}" if len(keys) > _MOST_KEYS_SHOWN else ", ".join(keys)


def _unknown(action: str) -> str:
    close = get_close_matches(action, ACTIONS, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"there is no action {action!r}{hint}"


DEFAULTS = bind({})
"""The action of each key where nothing else was configured."""

"""Key bindings: one row per action with its default keys, its help, and the function it runs.

The dispatch, `/help keys`, the configuration and the README's table are made from these rows.

A key's action is offered to the input line first (`LineEdit.do`), which declines actions that are
not about editing; then the row's function runs on the app. So one key can have two meanings: an
action in `OTHERWISE` edits a line that has text, and becomes another action on an empty line.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from tchat.core.text import clean_line
from tchat.errors import Code, Refused
from tchat.ui.chat.commands import Confirmation
from tchat.ui.chat.completion import offers
from tchat.ui.commands.people import approve
from tchat.ui.tui.keys import format_key, parse_key
from tchat.ui.tui.scroll import down, first_new, page, up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tchat.ui.chat.chat import Chat
    from tchat.ui.chat.window import Window
    from tchat.ui.tui.hint import FirstRequest
    from tchat.ui.tui.model import Model, WindowView
    from tchat.ui.tui.screen import Screen


_SEARCH = "/search "
_HOW_TO_QUIT = "Press Ctrl-D twice to quit, or type /quit; you stay a member."


class KeyContext(Protocol):
    """The app's interface to the actions of keys."""

    chat: Chat
    screen: Screen
    model: Model
    asked_to_quit: bool
    at_top: bool
    first_request: FirstRequest

    @property
    def view(self) -> WindowView:
        """The view of the current window."""

    def refreshed(self) -> Model:
        """Return the model as of now."""

    def scroll_to_line(self, index: int) -> None:
        """Scroll the current window to a line, with some lines before it above."""

    def scroll_to_output(self, index: int) -> None:
        """Show the lines from `index` on: all of them, or else as many as fit."""

    def show_hint(self, text: str) -> None:
        """Show a sentence in the status bar until the next key, or for a few seconds."""

    def quit(self) -> None:
        """End the chat; a second time, at once."""


# ---------------------------------------------------------------- input


def enter(app: KeyContext) -> None:
    """Send the message, run the command, or answer the question."""
    window = app.chat.current
    is_answer = app.chat.is_yes_or_no(app.view.edit.text)  # nobody wants to recall a "y"
    line = app.view.edit.submit(remembers=not is_answer)
    if line.strip() or app.chat.asked is not None:
        _to_newest(app)
    # Their number would not tell where the output begins: /unignore inserts lines above it.
    before, edit = app.view.added, app.view.edit
    app.chat.enter(line)
    if app.chat.asked is None:  # otherwise the next line is the answer
        edit.bring_back()
    if window is app.chat.current and before < app.view.added:
        app.scroll_to_output(len(window.lines) - (app.view.added - before))


def complete(app: KeyContext, *, back: bool = False) -> None:
    """Complete the word before the cursor; again, to the next match."""
    app.view.edit.complete(partial(offers, app.chat), back=back)


def interrupt(app: KeyContext) -> None:
    """Clear the line; on an empty line, cancel the question and say how to quit."""
    if app.view.edit.text:
        app.view.edit.discard()
    else:
        app.chat.cancel_question()
        app.view.edit.bring_back()
        app.show_hint(_HOW_TO_QUIT)


def ask_to_quit(app: KeyContext) -> None:
    """Ask whether to quit."""
    app.asked_to_quit = True
    app.chat.unanswered = "Quit?"


# ---------------------------------------------------------------- scrolling


def page_up(app: KeyContext) -> None:
    """Scroll up; at the top, load older messages."""
    model, size = app.refreshed(), app.screen.size
    if app.at_top:
        app.chat.current.load_history()
    app.view.position = up(model, page(model, *size), *size)


def page_down(app: KeyContext) -> None:
    """Scroll down."""
    model, size = app.refreshed(), app.screen.size
    app.view.position = down(model, page(model, *size), *size)
    if app.view.position is None:
        _to_newest(app)


def bottom(app: KeyContext) -> None:
    """Show the newest messages, and cancel the question together with its half-typed answer."""
    if app.chat.question is not None:
        app.chat.cancel_question()
        app.view.edit.discard()  # otherwise the answer would be in front of the next message
    elif app.view.edit.text == _SEARCH:
        app.view.edit.clear()
    app.view.edit.bring_back()
    _to_newest(app)


def _to_newest(app: KeyContext) -> None:
    app.view.to_bottom()
    app.chat.current.attend()


def first_unread(app: KeyContext) -> None:
    """Scroll to the first unread message."""
    if not app.chat.current.new_from:
        app.show_hint("Nothing is unread here.")
        return
    if (index := first_new(app.refreshed())) is not None:
        app.scroll_to_line(index)


def search_text(app: KeyContext) -> None:
    """Begin a search of the messages; a line that was being typed comes back after it."""
    if not app.view.edit.text.startswith(_SEARCH):
        if not isinstance(app.chat.question, Confirmation):
            app.chat.cancel_question()
        app.view.edit.put_aside(_SEARCH)


# ---------------------------------------------------------------- windows


def _step(app: KeyContext, by: int) -> None:
    windows = app.chat.windows
    app.chat.switch_to(windows[(windows.index(app.chat.current) + by) % len(windows)])


def _switch_to(number: int, app: KeyContext) -> None:
    if number <= len(app.chat.windows):
        app.chat.switch_to(app.chat.windows[number - 1])


def next_activity(app: KeyContext) -> None:
    """Switch to a window with unread messages; first to one with mentions or requests to join.

    After those, it opens what waits without a window. What the person has had in front already is
    skipped, so that pressing the key again and again comes to an end.
    """

    def is_personal(window: Window) -> bool:
        return window.mentions + window.new_requests > 0

    others = (window for window in app.chat.windows if window is not app.chat.current)
    active = [window for window in others if window.has_news]
    personal = filter(is_personal, active)
    if (first := next(personal, None)) is not None:
        app.chat.switch_to(first)
    elif app.chat.open_waiting():
        pass
    elif active:
        app.chat.switch_to(active[0])
    else:
        app.show_hint("Nothing is new in any other window.")


def members(app: KeyContext) -> None:
    """Show or hide the member list."""
    app.model.show_people = not app.model.show_people


def bare_view(app: KeyContext) -> None:
    """Show the messages alone, as text to copy; or everything again."""
    app.model.bare = not app.model.bare


def approve_next(app: KeyContext) -> None:
    """Approve the first request here; if only another window has any, switch to it.

    Not if somebody else was first a moment ago: the key may have been meant for that person. Nor if
    the server has not answered the last approval yet.
    """
    app.refreshed()
    window = app.chat.current
    elsewhere = next((one for one in app.chat.windows if one.waiting_for_approval), None)
    if window.waiting_for_approval:
        first = window.requests[0]
        if app.first_request.is_new(trio.current_time()):
            name = clean_line(first)
            app.show_hint(f"Nothing was done: {name} was not first until now; F9 approves {name}.")
        elif window.commanding and app.first_request.approved == first:
            app.show_hint(f"{clean_line(first)} is approved already; the server has not answered.")
        else:
            app.first_request.approved = first
            approve(app.chat, window, f"@{first}")
    elif elsewhere is not None:
        app.chat.switch_to(elsewhere)
    else:
        window.require_admin()
        app.show_hint("Nobody asks to join.")


# ---------------------------------------------------------------- the table


@dataclass(frozen=True, slots=True)
class Binding:
    """An action, its default keys and its help; without `run`, only the input line handles it."""

    keys: tuple[str, ...]
    action: str
    help: str
    run: Callable[[KeyContext], None] | None = None


BINDINGS: tuple[Binding, ...] = (
    Binding(("Enter",), "enter", "send the message, or run the command", enter),
    Binding(("M-Enter", "C-j", "S-Enter"), "newline", "begin a new line in the message"),
    Binding(
        ("Tab",),
        "complete",
        "complete a command, name or path; again: show the next match",
        complete,
    ),
    Binding(
        ("S-Tab",),
        "complete-back",
        "complete a command, name or path; again: show the previous match",
        partial(complete, back=True),
    ),
    # Moving the cursor.
    Binding(("Left", "C-b"), "left", "move one character to the left"),
    Binding(("Right", "C-f"), "right", "move one character to the right"),
    Binding(("M-b", "C-Left", "M-Left"), "word-left", "move one word to the left"),
    Binding(("M-f", "C-Right", "M-Right"), "word-right", "move one word to the right"),
    Binding(("C-a", "Home"), "line-start", "move to the start of the line"),
    Binding(("C-e",), "line-end", "move to the end of the line"),
    Binding(
        ("End",),
        "end-or-bottom",
        "move to the end of the line; on an empty line: show the newest messages",
    ),
    Binding(("Up",), "up", "move to the line above; on the first line: recall your previous input"),
    Binding(("Down",), "down", "move to the line below; on the last line: recall your next input"),
    Binding(("C-r",), "search-history", "search your earlier input; again: show an older match"),
    Binding(("C-g",), "abort", "cancel the search of your input, and restore the line"),
    # Changing the text.
    Binding(("Backspace", "C-h"), "backspace", "delete the character before the cursor"),
    Binding(("Delete",), "delete", "delete the character after the cursor"),
    Binding(
        ("C-d",), "delete-or-leave", "delete the character after the cursor; on an empty line: quit"
    ),
    Binding(("C-w",), "kill-to-space", "cut back to the previous space"),
    Binding(("M-Backspace",), "kill-word-back", "cut the word before the cursor"),
    Binding(("M-d",), "kill-word", "cut the word after the cursor"),
    Binding(("C-u",), "kill-to-start", "cut to the start of the line"),
    Binding(("C-k",), "kill-to-end", "cut to the end of the line"),
    Binding(("C-y",), "yank", "paste the text that was cut last"),
    Binding(("M-y",), "yank-older", "after Ctrl-Y: replace the pasted text with an earlier cut"),
    Binding(("C-t",), "transpose", "swap the two characters at the cursor"),
    Binding(("C-_",), "undo", "undo the last change of the line"),
    Binding(("M-_",), "redo", "redo the change that was undone last"),
    Binding(
        ("C-c",),
        "interrupt",
        "clear the line (Up brings it back); on an empty line: show how to quit",
        interrupt,
    ),
    # Scrolling and windows.
    Binding(("PageUp",), "page-up", "scroll to earlier messages", page_up),
    Binding(("PageDown",), "page-down", "scroll to later messages", page_down),
    Binding(
        ("Escape",), "bottom", "go to the newest messages; cancel a search or question", bottom
    ),
    Binding(("M-u",), "first-unread", "go to the first unread message", first_unread),
    Binding(("C-s",), "search-text", "search the messages", search_text),
    Binding(("C-n",), "next-window", "switch to the next window", lambda app: _step(app, 1)),
    Binding(
        ("C-p",), "previous-window", "switch to the previous window", lambda app: _step(app, -1)
    ),
    *(
        Binding(
            (f"M-{number}",),
            f"window-{number}",
            "switch to the window with that number",
            partial(_switch_to, number),
        )
        for number in range(1, 10)
    ),
    Binding(
        ("M-a",),
        "next-activity",
        "switch to a window with new messages or requests, mentions first; or open what waits",
        next_activity,
    ),
    Binding(
        ("M-<",),
        "last-window",
        "switch back to the window that you were in before",
        lambda app: app.chat.switch_back(),
    ),
    Binding(("F7", "F8"), "members", "show or hide the member list", members),
    Binding(
        ("M-l",),
        "bare-view",
        "show only the messages, for copying; again: show everything",
        bare_view,
    ),
    Binding(("F9",), "approve-next", "approve the first request to join", approve_next),
    Binding(("C-l",), "redraw", "redraw the screen", lambda app: app.screen.redraw()),
    Binding(
        ("C-z",),
        "suspend",
        "suspend the program; `fg` in the shell resumes it",
        lambda app: app.screen.suspend(),
    ),
    Binding((), "leave", "ask whether to quit", ask_to_quit),
)
"""Every action, in the order of the help; the configuration can bind keys to all of them.

Action names are part of the configuration file format: do not rename them.
"""

OTHERWISE = {"end-or-bottom": "bottom", "delete-or-leave": "leave"}
"""The actions that replace actions of the input line while the line is empty."""

ACTIONS = {binding.action: binding for binding in BINDINGS}
"""The rows by the names of their actions."""

_MOST_KEYS_SHOWN = 3
_KEYS_WIDTH = 16


def run_action(app: KeyContext, action: str) -> None:
    """Run the function of an action that the input line has declined, if it has one."""
    run = ACTIONS[OTHERWISE.get(action, action)].run
    if run is not None:
        run(app)


def bind(overrides: Mapping[str, str]) -> dict[str, str]:
    """Return the action of each key: the defaults, overridden by a configuration file's.

    Keys are written "C-x" or "Ctrl-X"; the action "" unbinds a key. Raises `Refused` (bad_config)
    for an unknown action, and for a key that does not exist or that types a character.
    """
    bound = {parse_key(key): binding.action for binding in BINDINGS for key in binding.keys}
    for written, action in overrides.items():
        key = parse_key(written)
        if not key:
            raise Refused(
                Code.BAD_CONFIG,
                f"keys: {written!r} is not a key that can be bound; "
                "write C-x, M-x, C-M-x, F5, S-Tab, PageUp.",
            )
        if action and action not in ACTIONS:
            raise Refused(Code.BAD_CONFIG, f"keys: {_unknown(action)}")
        bound[key] = action
    return {key: action for key, action in bound.items() if action}


def key_rows() -> list[tuple[str, str]]:
    """Return the default keys as people write them, and their help, a row for each action."""
    rows: dict[str, list[str]] = {}
    for binding in BINDINGS:
        written = [format_key(key) for key in binding.keys]
        rows.setdefault(binding.help, []).extend(written)
    return [(_listed(keys), text) for text, keys in rows.items() if keys]


def key_lines() -> list[str]:
    """Return the help of the keys in two columns; more keys than fit are a line of their own."""
    lines: list[str] = []
    for keys, text in key_rows():
        fits = len(keys) <= _KEYS_WIDTH
        lines += [] if fits else [keys]
        lines.append(f"{keys if fits else '':<{_KEYS_WIDTH}}  {text}")
    return lines


def _listed(keys: list[str]) -> str:
    return f"{keys[0]} … {keys[-1]}" if len(keys) > _MOST_KEYS_SHOWN else ", ".join(keys)


def _unknown(action: str) -> str:
    close = get_close_matches(action, ACTIONS, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"there is no action {action!r}{hint}"

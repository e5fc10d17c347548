"""The key map: default bindings, configured bindings, and the list of keys in /help."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tchat.errors import Code, Refused
from tchat.ui.commands.table import COMMANDS
from tchat.ui.tui.keymap import ACTIONS, BINDINGS, OTHERWISE, bind, key_lines, key_rows
from tchat.ui.tui.keys import parse_key
from tchat.ui.tui.lineedit import _ACTIONS
from tchat.ui.tui.model import WindowView

DEFAULTS = bind({})


def test_every_action_has_a_handler() -> None:
    edits = {binding.action for binding in BINDINGS if binding.run is None}
    assert edits <= set(_ACTIONS) <= ACTIONS.keys()
    assert OTHERWISE.keys() <= set(_ACTIONS)
    assert all(ACTIONS[action].run for action in OTHERWISE.values())


def test_actions_and_keys_are_unique() -> None:
    assert len(ACTIONS) == len(BINDINGS)
    keys = [parse_key(key) for binding in BINDINGS for key in binding.keys]
    doubles = {key for key in keys if keys.count(key) > 1}
    assert doubles == {"Backspace"}  # which is also Ctrl-H
    assert all(keys)
    assert DEFAULTS.keys() == set(keys)


@pytest.mark.parametrize(
    ("key", "action"),
    [
        ("Enter", "enter"),
        ("C-j", "newline"),
        ("M-Backspace", "kill-word-back"),
        ("C-d", "delete-or-leave"),
        ("C-n", "next-window"),
        ("M-9", "window-9"),
        ("M-u", "first-unread"),
        ("F9", "approve-next"),
    ],
)
def test_keys_have_their_actions(key: str, action: str) -> None:
    assert DEFAULTS[key] == action


def test_configured_keys_override_the_defaults() -> None:
    bound = bind({"C-x": "kill-word", "Alt-B": "", "Ctrl-H": "leave", "M-!": "approve-next"})
    assert bound["C-x"] == "kill-word"
    assert "M-b" not in bound
    assert bound["Backspace"] == "leave"
    assert bound["M-!"] == "approve-next"
    changed = {"C-x", "M-b", "Backspace", "M-!"}
    others = DEFAULTS.keys() - changed
    assert {key: bound[key] for key in others} == {key: DEFAULTS[key] for key in others}


@pytest.mark.parametrize(
    ("written", "action", "sentence"),
    [
        ("C-x", "kill-wrd", "did you mean kill-word?"),
        ("C-x", "qqq", "no action 'qqq'"),
        ("a", "leave", "'a' is not a key"),
        ("Hyper-x", "leave", "'Hyper-x' is not a key"),
        ("Resize", "", "'Resize' is not a key"),
    ],
)
def test_invalid_bindings_are_explained(written: str, action: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence.replace("?", r"\?")) as refused:
        bind({written: action})
    assert refused.value.code == Code.BAD_CONFIG


def test_help_writes_keys_as_people_do() -> None:
    rows = dict(key_rows())
    assert rows["Ctrl-W"] == "cut back to the previous space"
    assert rows["Alt-1 … Alt-9"] == "switch to the window with that number"
    assert rows["Alt-Enter, Ctrl-J, Shift-Enter"] == "begin a new line in the message"
    assert rows["Ctrl-L"] == "redraw the screen"
    assert len(key_rows()) == len([b for b in BINDINGS if b.keys]) - 8


@pytest.mark.parametrize("asked", [True, False])
def test_escape_clears_the_answer_to_a_question(asked: bool) -> None:
    """Otherwise the answer would be posted at the beginning of the next message."""
    view = WindowView()
    view.edit.insert("bob")
    window = SimpleNamespace(attend=lambda: None)
    cancelled: list[bool] = []
    chat = SimpleNamespace(
        question=COMMANDS.find("kick") if asked else None,
        current=window,
        cancel_question=lambda: cancelled.append(True),
    )
    ACTIONS["bottom"].run(SimpleNamespace(chat=chat, view=view))  # type: ignore[misc]
    assert cancelled == [True] * asked
    assert view.edit.text == ("" if asked else "bob")


def test_help_of_keys_has_two_columns() -> None:
    """The second column has one beginning, also in a line below its keys."""
    lines = key_lines()
    assert "Alt-Enter, Ctrl-J, Shift-Enter" in lines
    assert "                  begin a new line in the message" in lines
    assert {line[16:18] for line in lines if len(line) > 30} == {"  "}

"""The input line, key by key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.ui.lineedit import _ACTIONS, LineEdit


def typed(*keys: str) -> LineEdit:
    """Return the line after some keys; several characters at once are typed as text."""
    edit = LineEdit()
    for key in keys:
        if not edit.press(key):
            edit.insert(key)
    return edit


def shown(edit: LineEdit) -> str:
    return "".join(edit.before) + "|" + "".join(edit.after)


@pytest.mark.parametrize(
    ("keys", "result"),
    [
        (["hello"], "hello|"),
        (["hello", "Left", "Left"], "hel|lo"),
        (["hello", "C-a", "Delete"], "|ello"),
        (["hello", "Backspace"], "hell|"),
        (["你好", "Backspace"], "你|"),
        (["cafe", "\u0301", "Backspace"], "caf|"),
        (["one two", "C-w"], "one |"),
        (["one two", "M-b", "C-k"], "one |"),
        (["one two", "C-u", "C-y", "C-y"], "one twoone two|"),
        (["one two", "C-a", "M-f"], "one| two"),
        (["one", "C-c"], "|"),
        (["Left", "Right", "Backspace", "Delete", "C-w"], "|"),
    ],
)
def test_keys_edit(keys: list[str], result: str) -> None:
    assert shown(typed(*keys)) == result


def test_history_goes_back_and_forth_and_keeps_the_draft() -> None:
    edit = typed("first")
    edit.take()
    edit.insert("second")
    edit.take()
    edit.insert("draft")
    recalled = []
    for key in ("Up", "Up", "Up", "Down", "Down", "Down"):
        edit.press(key)
        recalled.append(edit.text)
    assert recalled == ["second", "first", "first", "second", "draft", "draft"]


def test_the_same_line_twice_is_remembered_once() -> None:
    edit = LineEdit()
    for _ in range(2):
        edit.insert("again")
        edit.take()
    assert edit.history == ["again"]


def test_tab_goes_through_what_fits() -> None:
    edit = typed("/me b")
    seen = []
    for _ in range(3):
        edit.complete(lambda before: (len(before) - 1, ["bob", "bea"]))
        seen.append(edit.text)
    assert seen == ["/me bob", "/me bea", "/me bob"]


def test_any_other_key_ends_the_completion() -> None:
    edit = typed("b")
    edit.complete(lambda _: (0, ["bob", "bea"]))
    edit.press("Left")
    edit.press("End")
    edit.complete(lambda before: (len(before), ["!"]))
    assert edit.text == "bob!"


def test_nothing_to_offer_changes_nothing() -> None:
    edit = typed("x")
    edit.complete(lambda _: (0, []))
    assert shown(edit) == "x|"


@given(st.lists(st.sampled_from([*_ACTIONS, "a", "你", " ", "\u0301", "👍"]), max_size=40))
def test_any_keys_leave_a_line_that_can_be_taken(keys: list[str]) -> None:
    edit = typed(*keys)
    text = edit.text
    assert "".join(edit.before) + "".join(edit.after) == text
    assert edit.take() == text
    assert shown(edit) == "|"

"""What was entered before: recalled line by line, and searched."""

from __future__ import annotations

import pytest

from tchat.ui.tui.lineedit import LineEdit
from tests.ui.editing import press


def entered(*lines: str) -> LineEdit:
    """Return an empty line behind which those lines were entered."""
    edit = LineEdit()
    for line in lines:
        edit.insert(line)
        edit.take()
    return edit


# ------------------------------------------------------------------ line by line


def test_history_goes_back_and_forth_and_keeps_the_draft() -> None:
    edit = entered("first", "second")
    edit.insert("draft")
    recalled = [press(edit, key) for key in ("Up", "Up", "Up", "Down", "Down", "Down")]
    assert recalled == ["second|", "first|", "first|", "second|", "draft|", "draft|"]


def test_the_history_is_reached_from_the_first_and_the_last_line_only() -> None:
    edit = entered("before", "one\ntwo")
    assert press(edit, "Up") == "one\ntwo|"
    assert press(edit, "Up") == "one|\ntwo"
    assert press(edit, "Up") == "before|"
    assert press(edit, "Down") == "one\ntwo|"
    assert press(edit, "Up", "Down") == "one\ntwo|"
    assert press(edit, "Down") == "|"


def test_a_line_from_the_history_begins_a_new_column() -> None:
    edit = entered("ab\nabcdef")
    assert press(edit, "x\ny", "Up", "Up", "Up") == "ab|\nabcdef"


def test_what_was_changed_in_an_older_line_stays_until_a_line_is_entered() -> None:
    edit = entered("first", "second")
    assert press(edit, "Up", "!", "Up", "Down") == "second!|"
    edit.take()
    assert press(edit, "Up", "Up") == "second|"


def test_the_same_line_twice_is_remembered_once() -> None:
    assert entered("again", "again").history == ["again"]


def test_undoing_a_recall_is_being_there_again() -> None:
    edit = entered("first", "second")
    assert press(edit, "draft", "Up", "Up", "C-_") == "second|"
    assert press(edit, "Down") == "draft|"


# ------------------------------------------------------------------ searching it


def found(edit: LineEdit, *keys: str) -> tuple[str | None, str]:
    press(edit, *keys)
    return edit.searching, edit.text


def test_a_search_finds_the_newest_and_then_older_ones() -> None:
    edit = entered("deploy now", "hello", "deploy later", "bye")
    assert found(edit, "draft", "C-r") == ("", "draft")
    assert found(edit, "d", "e", "p") == ("dep", "deploy later")
    assert found(edit, "C-r") == ("dep", "deploy now")
    assert found(edit, "C-r") == ("dep", "deploy now")
    assert edit.search_failed
    assert found(edit, "Backspace") == ("de", "deploy later")
    assert not edit.search_failed


def test_a_search_goes_on_from_what_it_found() -> None:
    edit = entered("deploy now", "hello", "deploy later")
    assert found(edit, "C-r", "dep", "C-r", "loy") == ("deploy", "deploy now")


@pytest.mark.parametrize("end", ["enter", "line-end"])
def test_a_search_ends_with_what_it_found(end: str) -> None:
    edit = entered("deploy now", "bye")
    press(edit, "draft", "C-r", "dep")
    assert edit.do(end)
    assert found(edit) == (None, "deploy now")
    assert found(edit, "C-_") == (None, "draft")


@pytest.mark.parametrize("end", ["abort", "bottom", "interrupt"])
def test_a_search_that_is_given_up_gives_the_draft_back(end: str) -> None:
    edit = entered("deploy now")
    press(edit, "my draft", "Left", "C-r", "dep")
    assert edit.do(end)
    assert edit.searching is None
    assert press(edit) == "my draf|t"


def test_a_key_that_does_something_does_it_to_what_was_found() -> None:
    edit = entered("deploy now")
    assert press(edit, "C-r", "now", "C-w") == "deploy |"


def test_from_what_was_found_the_history_goes_on() -> None:
    edit = entered("first", "second", "third")
    assert press(edit, "draft", "C-r", "sec", "C-e", "Up") == "first|"
    assert press(edit, "Down", "Down", "Down") == "draft|"


def test_an_empty_search_again_is_for_what_was_sought_last() -> None:
    edit = entered("deploy now", "bye")
    press(edit, "C-r", "dep", "C-g")
    assert found(edit, "C-r", "C-r") == ("dep", "deploy now")


def test_a_search_for_what_was_never_said_leaves_the_draft() -> None:
    edit = entered("hello")
    assert found(edit, "draft", "C-r", "xyz") == ("xyz", "draft")
    assert edit.search_failed
    assert press(edit, "C-e") == "draft|"


def test_taking_the_line_takes_what_was_found() -> None:
    edit = entered("deploy now", "bye")
    press(edit, "C-r", "dep")
    assert edit.take() == "deploy now"
    assert edit.searching is None

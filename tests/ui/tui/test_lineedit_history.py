"""The input history: recalled entry by entry, and searched."""

from __future__ import annotations

import pytest

from tchat.ui.tui.lineedit import LineEdit
from tests.ui.tui.editing import press


def entered(*lines: str) -> LineEdit:
    """Return an empty line after those lines were submitted."""
    edit = LineEdit()
    for line in lines:
        edit.insert(line)
        edit.submit()
    return edit


# ------------------------------------------------------------------ recall


def test_recall_goes_both_ways_and_keeps_the_draft() -> None:
    edit = entered("first", "second")
    edit.insert("draft")
    recalled = [press(edit, key) for key in ("Up", "Up", "Up", "Down", "Down", "Down")]
    assert recalled == ["second|", "first|", "first|", "second|", "draft|", "draft|"]


def test_recall_starts_at_first_or_last_line() -> None:
    edit = entered("before", "one\ntwo")
    assert press(edit, "Up") == "one\ntwo|"
    assert press(edit, "Up") == "one|\ntwo"
    assert press(edit, "Up") == "before|"
    assert press(edit, "Down") == "one\ntwo|"
    assert press(edit, "Up", "Down") == "one\ntwo|"
    assert press(edit, "Down") == "|"


def test_recalled_line_starts_a_new_column() -> None:
    edit = entered("ab\nabcdef")
    assert press(edit, "x\ny", "Up", "Up", "Up") == "ab|\nabcdef"


def test_edited_history_entry_lasts_until_submit() -> None:
    edit = entered("first", "second")
    assert press(edit, "Up", "!", "Up", "Down") == "second!|"
    edit.submit()
    assert press(edit, "Up", "Up") == "second|"


def test_repeated_line_is_remembered_once() -> None:
    assert entered("again", "again").history == ["again"]


def test_undo_of_recall_restores_the_history_position() -> None:
    edit = entered("first", "second")
    assert press(edit, "draft", "Up", "Up", "C-_") == "second|"
    assert press(edit, "Down") == "draft|"


# ------------------------------------------------------------------ search


def found(edit: LineEdit, *keys: str) -> tuple[str | None, str]:
    press(edit, *keys)
    return edit.searching, edit.text


def test_search_finds_the_newest_first() -> None:
    edit = entered("deploy now", "hello", "deploy later", "bye")
    assert found(edit, "draft", "C-r") == ("", "draft")
    assert found(edit, "d", "e", "p") == ("dep", "deploy later")
    assert found(edit, "C-r") == ("dep", "deploy now")
    assert found(edit, "C-r") == ("dep", "deploy now")
    assert edit.search_failed
    assert found(edit, "Backspace") == ("de", "deploy later")
    assert not edit.search_failed


def test_search_continues_from_its_match() -> None:
    edit = entered("deploy now", "hello", "deploy later")
    assert found(edit, "C-r", "dep", "C-r", "loy") == ("deploy", "deploy now")


@pytest.mark.parametrize("end", ["enter", "line-end"])
def test_accepted_search_leaves_the_match(end: str) -> None:
    edit = entered("deploy now", "bye")
    press(edit, "draft", "C-r", "dep")
    assert edit.do(end)
    assert found(edit) == (None, "deploy now")
    assert found(edit, "C-_") == (None, "draft")


@pytest.mark.parametrize("end", ["abort", "bottom", "interrupt"])
def test_aborted_search_restores_the_draft(end: str) -> None:
    edit = entered("deploy now")
    press(edit, "my draft", "Left", "C-r", "dep")
    assert edit.do(end)
    assert edit.searching is None
    assert press(edit) == "my draf|t"


def test_editing_action_accepts_the_match() -> None:
    edit = entered("deploy now")
    assert press(edit, "C-r", "now", "C-w") == "deploy |"


def test_recall_continues_from_the_match() -> None:
    edit = entered("first", "second", "third")
    assert press(edit, "draft", "C-r", "sec", "C-e", "Up") == "first|"
    assert press(edit, "Down", "Down", "Down") == "draft|"


def test_repeated_empty_search_uses_the_last_pattern() -> None:
    edit = entered("deploy now", "bye")
    press(edit, "C-r", "dep", "C-g")
    assert found(edit, "C-r", "C-r") == ("dep", "deploy now")


def test_failed_search_leaves_the_draft() -> None:
    edit = entered("hello")
    assert found(edit, "draft", "C-r", "xyz") == ("xyz", "draft")
    assert edit.search_failed
    assert press(edit, "C-e") == "draft|"


def test_search_without_a_pattern_shows_the_draft() -> None:
    edit = entered("deploy now")
    assert found(edit, "draft", "C-r", "d") == ("d", "deploy now")
    assert found(edit, "Backspace") == ("", "draft")


def test_submit_accepts_the_match() -> None:
    edit = entered("deploy now", "bye")
    press(edit, "C-r", "dep")
    assert edit.submit() == "deploy now"
    assert edit.searching is None

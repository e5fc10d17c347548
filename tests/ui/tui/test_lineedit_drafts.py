"""No draft is lost: lines that are cleared, searched over, or make room for another one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.ui.tui.lineedit import LINE_LIMIT, LineEdit


def typed(text: str, *history: str) -> LineEdit:
    edit = LineEdit(history)
    edit.insert(text)
    return edit


def test_interrupted_line_is_in_the_history() -> None:
    edit = typed("a draft")
    edit.do("interrupt")
    assert (edit.text, edit.unsent()) == ("", [])
    edit.do("up")
    assert edit.text == "a draft"
    edit.do("down")
    edit.do("undo")
    assert edit.text == "a draft"


def test_interrupted_search_and_entry_keep_the_draft() -> None:
    edit = typed("a draft", "older")
    edit.do("up")
    edit.do("interrupt")
    assert edit.history == ["older"]
    assert "a draft" in edit.unsent()


@pytest.mark.parametrize("end", ["abort", "bottom", "interrupt"])
def test_cancelled_history_search_restores_the_draft(end: str) -> None:
    edit = typed("a draft", "older")
    edit.do("search-history")
    edit.insert("old")
    assert (edit.text, edit.unsent()) == ("older", ["a draft"])
    edit.do(end)
    assert edit.text == "a draft"


def test_sent_history_entry_brings_the_draft_back() -> None:
    for keys in (["search-history", "o", "enter"], ["up"]):
        edit = typed("a draft", "older")
        for key in keys:
            if not edit.do(key):
                edit.insert(key)
        assert edit.submit() == "older"
        edit.bring_back()
        assert edit.text == "a draft"


def test_begun_command_brings_the_draft_back() -> None:
    edit = typed("a draft")
    edit.put_aside("/search ")
    edit.insert("word")
    assert edit.unsent() == ["a draft", "/search word"]
    assert edit.submit() == "/search word"
    edit.bring_back()
    assert (edit.text, edit.unsent()) == ("a draft", ["a draft"])


def test_two_lines_put_aside_come_back_in_turn() -> None:
    edit = typed("one")
    edit.put_aside("two")
    edit.put_aside("three")
    for text in ("two", "one", ""):
        edit.submit()
        edit.bring_back()
        assert edit.text == text


def refused(text: str) -> LineEdit:
    edit = typed(text)
    edit.submit()
    edit.put_aside(text)
    edit.selected = True
    return edit


@pytest.mark.parametrize("text", ["n", "new text"])
def test_typing_replaces_a_selected_line(text: str) -> None:
    edit = refused("/msg nobody psst")
    assert edit.unsent() == ["/msg nobody psst"]
    edit.insert(text)
    assert edit.text == text
    assert edit.history == ["/msg nobody psst"]
    edit.undo()
    assert edit.text == "/msg nobody psst"


@pytest.mark.parametrize("action", ["right", "backspace", "newline", "yank", "line-start", "undo"])
def test_editing_keeps_a_selected_line(action: str) -> None:
    edit = refused("hello")
    edit.do(action)
    assert not edit.selected
    edit.insert("x")
    assert len(edit.text) >= len("hello") or action == "undo"


def test_selected_line_is_sent_as_it_is() -> None:
    edit = refused("hello")
    assert edit.submit() == "hello"
    edit.insert("x")
    assert edit.text == "x"


def test_long_paste_replaces_a_selected_line() -> None:
    edit = refused("a" * LINE_LIMIT)
    edit.insert("b" * LINE_LIMIT)
    assert edit.text == "b" * LINE_LIMIT


def test_draft_returns_only_to_an_empty_line() -> None:
    edit = typed("one")
    edit.put_aside("two")
    edit.bring_back()
    assert edit.text == "two"
    edit.discard()
    assert (edit.text, edit.history) == ("one", ["two"])


def test_restored_texts_come_back_in_turn() -> None:
    edit = LineEdit()
    edit.restore(["one", "two"])
    assert (edit.text, edit.waiting, edit.unsent()) == ("two", 1, ["one", "two"])
    assert edit.submit() == "two"
    edit.bring_back()
    assert (edit.text, edit.waiting, edit.unsent()) == ("one", 0, ["one"])


def test_recalled_entry_is_no_draft_until_edited() -> None:
    edit = typed("", "older")
    edit.do("up")
    assert edit.unsent() == []
    edit.insert(" and newer")
    assert edit.unsent() == ["older and newer"]


KEYS = ("up", "down", "search-history", "abort", "bottom", "interrupt", "enter", "yank")
DEEDS = st.lists(
    st.sampled_from(KEYS) | st.sampled_from(["+old", "+x", "aside", "back", "complete"]),
    max_size=25,
)


@given(DEEDS)
def test_no_sequence_of_keys_loses_a_draft(deeds: list[str]) -> None:
    """It is in the line, comes back, was sent, or is in the history."""
    edit = typed("A DRAFT", "older", "oldest")
    sent: list[str] = []
    for deed in deeds:
        if deed == "enter" and not edit.do("enter"):
            sent.append(edit.submit())
            edit.bring_back()
        elif deed in KEYS:
            edit.do(deed)
        elif deed == "aside":
            edit.put_aside("/search ")
        elif deed == "back":
            edit.bring_back()
        elif deed == "complete":
            edit.complete(lambda before: (len(before), ["word "]))
        else:
            edit.insert(deed[1:])
    assert any("A DRAFT" in text for text in [*edit.unsent(), *edit.history, *sent])

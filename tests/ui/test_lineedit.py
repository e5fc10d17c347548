"""The input line, key by key."""

from __future__ import annotations

import pytest

from tchat.errors import Code, Refused
from tchat.ui.tui.lineedit import LINE_LIMIT, LineEdit
from tests.ui.editing import KEYS, press

FAMILY, FLAG, THUMB = "👨‍👩‍👧", "🇩🇪", "👍🏽"


# ------------------------------------------------------------------ what keys do


@pytest.mark.parametrize(
    ("keys", "result"),
    [
        (["hello"], "hello|"),
        (["hello", "Left", "C-b"], "hel|lo"),
        (["hello", "Home", "Right", "C-f"], "he|llo"),
        (["hello", "C-a", "Delete"], "|ello"),
        (["hello", "Home", "End"], "hello|"),
        (["hello", "C-a", "C-a", "C-d"], "|ello"),
        (["hello", "C-a", "C-e", "C-e", "Backspace"], "hell|"),
        (["one two", "C-w"], "one |"),
        (["one two  ", "C-w"], "one |"),
        (["see a/b.c", "C-w"], "see |"),
        (["see a/b.c", "M-Backspace"], "see a/b.|"),
        (["see a/b.c", "M-b", "M-b"], "see a/|b.c"),
        (["one two", "C-Left", "C-Left", "M-Right"], "one| two"),
        (["one two", "C-a", "M-f", "M-f", "M-f"], "one two|"),
        (["one two", "C-a", "M-d"], "| two"),
        (["one two", "M-b", "C-k"], "one |"),
        (["one two", "C-u", "C-y", "C-y"], "one twoone two|"),
        (["ab", "C-t"], "ba|"),
        (["abc", "Left", "Left", "C-t"], "ba|c"),
        (["abc", "C-a", "C-t"], "|abc"),
        (["a", "C-t"], "a|"),
        (["one", "C-c"], "|"),
        (["Left", "Right", "Backspace", "Delete", "C-w", "C-k", "C-y", "M-y", "C-_", "M-_"], "|"),
    ],
)
def test_keys_edit(keys: list[str], result: str) -> None:
    assert press(LineEdit(), *keys) == result


@pytest.mark.parametrize(
    "character",
    ["你", "e\u0301", FLAG, FAMILY, THUMB, "1\ufe0f\u20e3", "م\u064f\u0651", "\u1112\u1161\u11ab"],
)
def test_one_key_takes_what_a_person_takes_for_a_character(character: str) -> None:
    edit = LineEdit()
    for code_point in f"a{character}b":
        edit.insert(code_point)
    assert press(edit, "Left", "Left") == f"a|{character}b"
    assert press(edit, "C-t") == f"{character}a|b"
    assert press(edit, "Left", "Backspace") == "|ab"
    assert press(edit, "C-_", "Left", "Delete") == "|ab"


@pytest.mark.parametrize(
    ("typed", "there"), [("🇫🇷", "🇪🇺🇩🇪"), ("👨\u200d👧", "👩"), ("e\u0301", "x")]
)
def test_what_is_typed_by_code_points_stays_together(typed: str, there: str) -> None:
    edit = LineEdit()
    edit.insert(there)
    press(edit, "Home")
    for code_point in typed:
        edit.insert(code_point)
    assert press(edit) == f"{typed}|{there}"
    assert press(edit, "Backspace") == f"|{there}"


def test_a_row_of_flags_is_paired_anew_when_the_cursor_moves_away() -> None:
    edit = LineEdit()
    press(edit, "🇪🇺🇩🇪🇫🇷🇪🇸🇮🇹 x", "Home", "🇬")
    assert edit.after[:5] == ["🇪🇺", "🇩🇪", "🇫🇷", "🇪🇸", "🇮🇹"]
    press(edit, "Left")
    assert edit.after == ["🇬🇪", "🇺🇩", "🇪🇫", "🇷🇪", "🇸🇮", "🇹", " ", "x"]


def test_what_joins_across_the_cursor_is_one_character_when_it_has_moved_away() -> None:
    edit = LineEdit()
    assert press(edit, "🇩x🇪", "Left", "Backspace") == "🇩|🇪"
    assert press(edit, "Left") == "|🇩🇪"
    assert press(edit, "Right") == "🇩🇪|"
    assert press(edit, "C-_") == "🇩x|🇪"


@pytest.mark.parametrize(("key", "action"), [("C-d", "delete-or-leave"), ("End", "end-or-bottom")])
def test_on_an_empty_line_some_keys_are_the_windows(key: str, action: str) -> None:
    edit = LineEdit()
    assert not edit.do(KEYS[key])
    assert not edit.do("interrupt")
    edit.insert("a")
    press(edit, "Home")
    assert edit.do(action)
    assert edit.text == ("" if key == "C-d" else "a")


def test_what_the_line_does_not_know_is_the_windows() -> None:
    edit = LineEdit()
    edit.insert("draft")
    assert not edit.do("page-up")
    assert not edit.do("no-such-action")
    assert press(edit) == "draft|"


def test_a_line_has_a_limit_that_loses_nothing() -> None:
    edit = LineEdit()
    edit.insert("a" * (LINE_LIMIT - 1))
    with pytest.raises(Refused) as refused:
        edit.insert("bc")
    assert refused.value.code == Code.TEXT_TOO_LONG
    assert len(edit.text) == LINE_LIMIT - 1
    edit.insert("b")
    assert len(edit.text) == LINE_LIMIT


# ------------------------------------------------------------------ several lines


@pytest.mark.parametrize(
    ("keys", "result"),
    [
        (["one", "C-j", "two", "Up"], "one|\ntwo"),
        (["one", "M-Enter", "three", "Up", "Down"], "one\nthree|"),
        (["three", "C-j", "x", "C-j", "three", "Up", "Up"], "three|\nx\nthree"),
        (["你好", "C-j", "abc", "Up"], "你|好\nabc"),
        (["a\nb c", "Home"], "a\n|b c"),
        (["a\nb c", "C-a", "C-a"], "a\n|b c"),
        (["a b\nc", "Up", "Up", "C-a", "End", "End"], "a b|\nc"),
        (["a b\nc", "C-u"], "a b\n|"),
        (["a b\nc", "C-u", "C-u", "C-u"], "|"),
        (["a b\nc", "Up", "C-a", "C-k", "C-k"], "|c"),
        (["ab\nc", "Up", "C-e", "C-t"], "ba|\nc"),
        (["ab\nc", "C-a", "C-t"], "ab\n|c"),
    ],
)
def test_keys_know_the_lines_of_a_text(keys: list[str], result: str) -> None:
    assert press(LineEdit(), *keys) == result


def test_a_run_of_moves_keeps_its_column_over_shorter_lines() -> None:
    edit = LineEdit()
    edit.insert("long line\nx\nlong line")
    assert press(edit, "Left", "Up", "Up") == "long lin|e\nx\nlong line"
    assert press(edit, "Left", "Down", "Down") == "long line\nx\nlong li|ne"


# ------------------------------------------------------------------ cutting


@pytest.mark.parametrize(
    ("keys", "result"),
    [
        (["one two three", "C-w", "C-w", "C-y"], "one two three|"),
        (["one two", "C-a", "M-d", "M-d", "C-y"], "one two|"),
        (["one two", "M-b", "C-k", "C-u", "C-y"], "one two|"),
        (["one two", "C-w", "Left", "Right", "C-w", "C-y"], "one |"),
        (["a b", "C-w", "C-w", "C-k", "C-y"], "a b|"),
    ],
)
def test_cuts_in_a_row_are_one(keys: list[str], result: str) -> None:
    assert press(LineEdit(), *keys) == result


def test_the_ring_turns_after_a_yank() -> None:
    edit = LineEdit()
    press(edit, "one", "C-u", "two", "C-u", "three", "C-u")
    turned = [press(edit, key) for key in ("C-y", "M-y", "M-y", "M-y")]
    assert turned == ["three|", "two|", "one|", "three|"]
    assert press(edit, "!", "M-y") == "three!|"


def test_what_the_ring_was_turned_to_is_yanked_next() -> None:
    edit = LineEdit()
    assert press(edit, "one", "C-u", "two", "C-u", "C-y", "M-y", " ", "C-y") == "one one|"


def test_a_cut_of_nothing_opens_no_entry() -> None:
    edit = LineEdit()
    assert press(edit, "one", "C-u", "two", "C-k", "C-u", "C-y") == "two|"
    assert press(edit, "C-a", "C-u", "C-k", "C-y") == "two|"


# ------------------------------------------------------------------ undo


def typed(edit: LineEdit, text: str) -> LineEdit:
    for character in text:
        edit.insert(character)
    return edit


def test_typing_is_undone_a_word_at_a_time() -> None:
    edit = typed(LineEdit(), "one two  three")
    undone = [press(edit, "C-_") for _ in range(4)]
    assert undone == ["one two  |", "one |", "|", "|"]
    redone = [press(edit, "M-_") for _ in range(4)]
    assert redone == ["one |", "one two  |", "one two  three|", "one two  three|"]


def test_a_word_without_end_is_undone_in_parts() -> None:
    edit = typed(LineEdit(), "你" * 30)
    assert press(edit, "C-_") == "你" * 20 + "|"


def test_a_paste_is_undone_at_once_and_apart_from_typing() -> None:
    edit = typed(LineEdit(), "see ")
    edit.insert("one two\nthree")
    typed(edit, "!")
    assert [press(edit, "C-_") for _ in range(3)] == ["see one two\nthree|", "see |", "|"]


def test_a_yank_of_one_character_is_not_typing() -> None:
    edit = LineEdit()
    press(edit, "x", "C-u", "y", "C-u")
    typed(edit, "ab")
    assert press(edit, "C-y", "M-y") == "abx|"
    assert press(edit, "C-_") == "ab|"


def test_undo_puts_the_cursor_back_too() -> None:
    edit = typed(LineEdit(), "one two")
    assert press(edit, "Left", "Left", "C-k", "C-_") == "one t|wo"
    assert press(edit, "C-c", "C-_") == "one t|wo"


def test_a_change_after_undo_leaves_nothing_to_redo() -> None:
    edit = typed(LineEdit(), "one")
    assert press(edit, "C-_", "two", "M-_") == "two|"


# ------------------------------------------------------------------ completion


def names(before: str) -> tuple[int, list[str]]:
    start = before.rfind(" ") + 1
    fitting = [n for n in ("bea ", "bob ", "bruno ") if n.startswith(before[start:])]
    return start, fitting


def test_tab_goes_through_what_fits_and_back() -> None:
    edit = LineEdit()
    edit.insert("/me b")
    seen = []
    for back in (False, False, False, False, True, True):
        edit.complete(names, back=back)
        seen.append(edit.text.strip()[4:])
    assert seen == ["bea", "bob", "bruno", "bea", "bruno", "bob"]


def test_backwards_begins_with_the_last() -> None:
    edit = LineEdit()
    edit.insert("b")
    edit.complete(names, back=True)
    assert edit.text == "bruno "


def test_a_completion_keeps_what_is_behind_the_cursor() -> None:
    edit = LineEdit()
    press(edit, "hi br!", "Left")
    edit.complete(names)
    assert press(edit) == "hi bruno |!"


def test_a_completion_is_one_step_however_often_tab_was_pressed() -> None:
    edit = typed(LineEdit(), "hi b")
    for _ in range(5):
        edit.complete(names)
    assert press(edit, "C-_") == "hi b|"


def test_an_offer_that_is_there_already_is_no_step() -> None:
    edit = typed(LineEdit(), "@b")
    seen = []
    for _ in range(3):
        edit.complete(lambda _: (1, ["b", "bob"]))
        seen.append(edit.text)
    assert seen == ["@b", "@bob", "@b"]
    assert press(edit, "C-_") == "|"


def test_any_other_key_ends_the_completion() -> None:
    for key in ("Left", "M-x", "o"):
        edit = LineEdit()
        edit.insert("b")
        edit.complete(names)
        press(edit, key)
        press(edit, "End")
        edit.complete(lambda before: (len(before), ["!"]))
        assert edit.text.endswith("!")
        assert edit.text.startswith("bea ")


def test_a_completion_begins_in_the_middle_of_a_character_if_it_is_told_to() -> None:
    edit = LineEdit()
    edit.insert("e\u0301")
    edit.complete(lambda _: (1, ["x"]))
    assert press(edit) == "ex|"


def test_nothing_to_offer_changes_nothing() -> None:
    edit = LineEdit()
    edit.insert("x")
    edit.complete(lambda _: (0, []))
    assert press(edit) == "x|"

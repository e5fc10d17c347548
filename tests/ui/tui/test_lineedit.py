"""The input line: moving, cutting, undo and completion, key by key."""

from __future__ import annotations

import pytest

from tchat.errors import Code, Refused
from tchat.ui.tui.lineedit import LINE_LIMIT, LineEdit
from tests.ui.tui.editing import press

FAMILY, FLAG, THUMB = "👨‍👩‍👧", "🇩🇪", "👍🏽"


# ------------------------------------------------------------------ keys


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
def test_keys_edit_the_line(keys: list[str], result: str) -> None:
    assert press(LineEdit(), *keys) == result


@pytest.mark.parametrize(
    "character",
    ["你", "e\u0301", FLAG, FAMILY, THUMB, "1\ufe0f\u20e3", "م\u064f\u0651", "\u1112\u1161\u11ab"],
)
def test_keys_move_and_delete_by_grapheme(character: str) -> None:
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
def test_typed_code_points_join_into_one_grapheme(typed: str, there: str) -> None:
    edit = LineEdit()
    edit.insert(there)
    press(edit, "Home")
    for code_point in typed:
        edit.insert(code_point)
    assert press(edit) == f"{typed}|{there}"
    assert press(edit, "Backspace") == f"|{there}"


def test_flags_are_paired_again_after_moving_away() -> None:
    edit = LineEdit()
    press(edit, "🇪🇺🇩🇪🇫🇷🇪🇸🇮🇹 x", "Home", "🇬")
    assert edit.after[:5] == ["🇪🇺", "🇩🇪", "🇫🇷", "🇪🇸", "🇮🇹"]
    press(edit, "Left")
    assert edit.after == ["🇬🇪", "🇺🇩", "🇪🇫", "🇷🇪", "🇸🇮", "🇹", " ", "x"]


def test_grapheme_across_the_cursor_joins_after_moving_away() -> None:
    edit = LineEdit()
    assert press(edit, "🇩x🇪", "Left", "Backspace") == "🇩|🇪"
    assert press(edit, "Left") == "|🇩🇪"
    assert press(edit, "Right") == "🇩🇪|"
    assert press(edit, "C-_") == "🇩x|🇪"


@pytest.mark.parametrize(("key", "action"), [("C-d", "delete-or-leave"), ("End", "end-or-bottom")])
def test_empty_line_leaves_some_actions_to_the_window(key: str, action: str) -> None:
    edit = LineEdit()
    assert not edit.do(action)
    assert not edit.do("interrupt")
    edit.insert("a")
    press(edit, "Home")
    assert edit.do(action)
    assert edit.text == ("" if key == "C-d" else "a")


def test_unknown_actions_are_left_to_the_window() -> None:
    edit = LineEdit()
    edit.insert("draft")
    assert not edit.do("page-up")
    assert not edit.do("no-such-action")
    assert press(edit) == "draft|"


def test_insert_beyond_the_limit_changes_nothing() -> None:
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
def test_keys_work_within_lines_of_a_text(keys: list[str], result: str) -> None:
    assert press(LineEdit(), *keys) == result


def test_vertical_moves_measure_tabs() -> None:
    """A tab reaches to the next tab stop; the cursor is before it or after it."""
    edit = LineEdit()
    edit.insert("\tgcc\n0123456789012\n\t\tx")
    assert press(edit, "Up") == "\tgcc\n0123456789012|\n\t\tx"
    edit.set("\tgcc\n012345678")
    assert press(edit, "Up") == "\tg|cc\n012345678"
    edit.set("\tgcc\n01234")
    assert press(edit, "Up") == "|\tgcc\n01234"


def test_vertical_moves_keep_their_column() -> None:
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
def test_consecutive_cuts_are_one_entry(keys: list[str], result: str) -> None:
    assert press(LineEdit(), *keys) == result


def test_kill_ring_rotates_after_a_yank() -> None:
    edit = LineEdit()
    press(edit, "one", "C-u", "two", "C-u", "three", "C-u")
    turned = [press(edit, key) for key in ("C-y", "M-y", "M-y", "M-y")]
    assert turned == ["three|", "two|", "one|", "three|"]
    assert press(edit, "!", "M-y") == "three!|"


def test_yank_inserts_the_entry_rotated_to() -> None:
    edit = LineEdit()
    assert press(edit, "one", "C-u", "two", "C-u", "C-y", "M-y", " ", "C-y") == "one one|"


def test_empty_cut_makes_no_entry() -> None:
    edit = LineEdit()
    assert press(edit, "one", "C-u", "two", "C-k", "C-u", "C-y") == "two|"
    assert press(edit, "C-a", "C-u", "C-k", "C-y") == "two|"


# ------------------------------------------------------------------ undo


def typed(edit: LineEdit, text: str) -> LineEdit:
    for character in text:
        edit.insert(character)
    return edit


def test_typing_is_undone_word_by_word() -> None:
    edit = typed(LineEdit(), "one two  three")
    undone = [press(edit, "C-_") for _ in range(4)]
    assert undone == ["one two  |", "one |", "|", "|"]
    redone = [press(edit, "M-_") for _ in range(4)]
    assert redone == ["one |", "one two  |", "one two  three|", "one two  three|"]


def test_long_word_is_undone_in_parts() -> None:
    edit = typed(LineEdit(), "你" * 30)
    assert press(edit, "C-_") == "你" * 20 + "|"


def test_paste_is_one_undo_step() -> None:
    edit = typed(LineEdit(), "see ")
    edit.insert("one two\nthree")
    typed(edit, "!")
    assert [press(edit, "C-_") for _ in range(3)] == ["see one two\nthree|", "see |", "|"]


def test_yank_of_one_character_is_a_step() -> None:
    edit = LineEdit()
    press(edit, "x", "C-u", "y", "C-u")
    typed(edit, "ab")
    assert press(edit, "C-y", "M-y") == "abx|"
    assert press(edit, "C-_") == "ab|"


def test_undo_restores_the_cursor() -> None:
    edit = typed(LineEdit(), "one two")
    assert press(edit, "Left", "Left", "C-k", "C-_") == "one t|wo"
    assert press(edit, "C-c", "C-_") == "one t|wo"


def test_change_after_undo_prevents_redo() -> None:
    edit = typed(LineEdit(), "one")
    assert press(edit, "C-_", "two", "M-_") == "two|"


# ------------------------------------------------------------------ completion


def names(before: str) -> tuple[int, list[str]]:
    start = before.rfind(" ") + 1
    fitting = [n for n in ("bea ", "bob ", "bruno ") if n.startswith(before[start:])]
    return start, fitting


def test_completion_cycles_forwards_and_back() -> None:
    edit = LineEdit()
    edit.insert("/me b")
    seen = []
    for back in (False, False, False, False, True, True):
        edit.complete(names, back=back)
        seen.append(edit.text.strip()[4:])
    assert seen == ["bea", "bob", "bruno", "bea", "bruno", "bob"]


def test_completion_backwards_begins_with_the_last_offer() -> None:
    edit = LineEdit()
    edit.insert("b")
    edit.complete(names, back=True)
    assert edit.text == "bruno "


def test_completion_keeps_text_after_the_cursor() -> None:
    edit = LineEdit()
    press(edit, "hi br!", "Left")
    edit.complete(names)
    assert press(edit) == "hi bruno |!"


def test_completion_is_one_undo_step() -> None:
    edit = typed(LineEdit(), "hi b")
    for _ in range(5):
        edit.complete(names)
    assert press(edit, "C-_") == "hi b|"


def test_unchanged_completion_is_no_undo_step() -> None:
    edit = typed(LineEdit(), "@b")
    seen = []
    for _ in range(3):
        edit.complete(lambda _: (1, ["b", "bob"]))
        seen.append(edit.text)
    assert seen == ["@b", "@bob", "@b"]
    assert press(edit, "C-_") == "|"


def test_any_other_key_ends_the_completion() -> None:
    for key in ("Left", "C-g", "o"):
        edit = LineEdit()
        edit.insert("b")
        edit.complete(names)
        press(edit, key, "End")
        edit.complete(lambda before: (len(before), ["!"]))
        assert edit.text.endswith("!")
        assert edit.text.startswith("bea ")


def test_completion_may_start_inside_a_grapheme() -> None:
    edit = LineEdit()
    edit.insert("e\u0301")
    edit.complete(lambda _: (1, ["x"]))
    assert press(edit) == "ex|"


def test_completion_without_offers_changes_nothing() -> None:
    edit = LineEdit()
    edit.insert("x")
    edit.complete(lambda _: (0, []))
    assert press(edit) == "x|"

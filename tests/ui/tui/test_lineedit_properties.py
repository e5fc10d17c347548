"""Properties of the input line that hold after any sequence of edits."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from tchat.ui.text.cells import graphemes
from tchat.ui.tui.keymap import BINDINGS
from tchat.ui.tui.lineedit import LineEdit

# Characters that join each other in all ways: marks, flags, families, Hangul, Indic scripts.
JOINING = (
    "a \n\u0301\u200d\ufe0f👨👩👍🏽🇩🇪🇫🇷1\u20e3कषि\u094dท\u0e33\u1112\u1161\u11ab한م\u0651\u0600你"
)

HISTORY = ["first", "two\nlines", "🇩🇪🇫🇷"]

texts = st.text(st.sampled_from(JOINING), max_size=12)
actions = [binding.action for binding in BINDINGS if binding.action not in ("undo", "redo")]
deeds = st.one_of(
    st.sampled_from(actions).map(lambda action: ("do", action)),
    texts.map(lambda text: ("insert", text)),
    st.sampled_from(JOINING).map(lambda text: ("insert", text)),
    st.tuples(st.just("complete"), st.lists(texts, max_size=3).map("|".join)),
)
some_deeds = st.lists(deeds, max_size=25)


def do(edit: LineEdit, deed: tuple[str, str]) -> None:
    sort, what = deed
    if sort == "do":
        edit.do(what)
    elif sort == "insert":
        edit.insert(what)
    else:
        edit.complete(lambda before: (len(before) // 2, what.split("|")))


def after(done: list[tuple[str, str]]) -> LineEdit:
    edit = LineEdit(HISTORY)
    for deed in done:
        do(edit, deed)
    return edit


def state(edit: LineEdit) -> tuple[list[str], list[str]]:
    return list(edit.before), list(edit.after)


@given(some_deeds)
def test_each_side_of_the_cursor_holds_whole_graphemes(done: list[tuple[str, str]]) -> None:
    # Only text around the cursor may join across it, until the cursor moves.
    edit = LineEdit(HISTORY)
    for deed in done:
        do(edit, deed)
        assert edit.before == graphemes("".join(edit.before)), deed
        assert edit.after == graphemes("".join(edit.after)), deed


@given(some_deeds, st.integers(1, 20))
def test_moving_the_cursor_restores_grapheme_boundaries(
    done: list[tuple[str, str]], count: int
) -> None:
    edit = after(done)
    text = edit.text
    edit.move(-len(edit.before))
    assert (edit.before, edit.after) == ([], graphemes(text))
    edit.move(count)
    assert edit.before + edit.after == graphemes(text)
    edit.move(len(edit.after))
    assert (edit.before, edit.after) == (graphemes(text), [])


@given(some_deeds)
def test_submit_returns_the_text_and_empties_it(done: list[tuple[str, str]]) -> None:
    edit = after(done)
    text = edit.text
    assert edit.submit() == text
    assert state(edit) == ([], [])
    assert edit.searching is None


@given(some_deeds)
def test_undo_all_empties_and_redo_all_restores(
    done: list[tuple[str, str]],
) -> None:
    edit = after(done)
    edit.do("enter")  # ends a search
    text = edit.text
    for _ in range(2 * len(done) + 1):
        edit.do("undo")
    assert state(edit) == ([], [])
    for _ in range(2 * len(done) + 1):
        edit.do("redo")
    assert edit.text == text


@given(some_deeds, deeds)
def test_undo_after_a_change_restores_text_and_cursor(
    done: list[tuple[str, str]], deed: tuple[str, str]
) -> None:
    edit = after(done)
    edit.do("enter")
    edit.do("undo")
    edit.do("redo")  # so that what is typed now does not join an earlier step
    before = state(edit)
    do(edit, deed)
    edit.do("enter")
    assume("".join(before[0] + before[1]) != edit.text and deed != ("do", "yank-older"))
    edit.do("undo")
    assert state(edit) == before


@given(some_deeds, st.sampled_from(sorted(a for a in actions if a.startswith("kill"))))
def test_cut_and_yank_change_nothing(done: list[tuple[str, str]], cut: str) -> None:
    edit = after(done)
    edit.do("enter")
    edit.do("abort")  # so that the cut is an entry of its own
    text = edit.text
    edit.do(cut)
    assume(edit.text != text)
    edit.do("yank")
    assert edit.text == text
    edit.do("undo")
    edit.do("undo")
    assert edit.text == text

"""Scrolling: positions stay where they are whatever arrives, is loaded, or is resized."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.ui.tui import scroll
from tchat.ui.tui.model import Model, Position
from tchat.ui.tui.view import draw
from tests.ui.pictures import changed, message, model, pane, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.ui.chat.lines import Line

SIZE = (40, 8)
"""A screen whose message pane has five rows."""


def ten(**more: object) -> Model:
    return changed(model(*(message(f"m{n}", seq=n + 1) for n in range(10))), **more)


def texts(made: Model, size: tuple[int, int] = SIZE) -> list[str]:
    """Return the texts in the pane, without their left columns; "day" for a day line."""
    rows = pane(made, *size)
    return ["day" if row.startswith("──") else row.split(" │ ")[-1] for row in rows]


def test_newest_lines_are_shown_until_one_scrolls() -> None:
    assert texts(ten()) == ["m5", "m6", "m7", "m8", "m9"]
    assert draw(ten(), *SIZE).position is None


def test_up_moves_by_rows() -> None:
    made = ten()
    made.position = scroll.up(made, 2, *SIZE)
    assert made.position == Position(7)
    assert texts(made) == ["m3", "m4", "m5", "m6", "m7"]


def test_line_can_be_partly_in_sight() -> None:
    made = model(message("m0"), message("word " * 15), message("m2"))
    made.position = scroll.up(made, 2, 40, 6)
    assert made.position == Position(1, hidden=1)
    assert texts(made, (40, 6)) == ["m0", "word word word word word", "word word word word word"]


def test_down_returns_to_the_bottom() -> None:
    made = ten(position=Position(5))
    made.position = scroll.down(made, 3, *SIZE)
    assert made.position == Position(8)
    assert scroll.down(made, 3, *SIZE) is None


def test_page_overlaps_with_the_last() -> None:
    made = ten()
    assert scroll.page(made, *SIZE) == 3
    made.position = scroll.up(made, scroll.page(made, *SIZE), *SIZE)
    assert texts(made) == ["m2", "m3", "m4", "m5", "m6"]


def test_up_stops_at_the_first_line() -> None:
    made = ten(past="more")
    assert not draw(made, *SIZE).top
    made.position = scroll.up(made, 1000, *SIZE)
    assert draw(made, *SIZE).top
    assert shown(made, *SIZE)[1:6] == [
        " PageUp: earlier messages",
        "── Sunday 22 November 2026 ─────────────",
        "12:00   bob │ m0",
        "12:00     · │ m1",
        "12:00     · │ m2",
    ]


def test_lines_that_fit_do_not_scroll() -> None:
    made = model(message("m0"), message("m1"))
    assert scroll.up(made, 5, *SIZE) is None
    assert draw(made, *SIZE).top


@pytest.mark.parametrize("size", [(10, 3), SIZE])
def test_empty_window_has_no_position(size: tuple[int, int]) -> None:
    made = model()
    assert scroll.up(made, 3, *size) is None
    assert scroll.down(made, 3, *size) is None
    assert scroll.to_line(made, 3, *size) is None


def test_new_lines_do_not_move_the_viewport() -> None:
    made = ten(position=Position(7))
    before = texts(made)
    made.lines += [message("m10"), message("m11")]
    made.pending = [message("m12", "alice", fate="pending")]
    made.below = 2
    assert texts(made) == before
    assert "↓ 2 new: End" in "\n".join(shown(made, *SIZE))


def test_earlier_lines_shift_the_index_alone() -> None:
    made = ten(position=Position(7))
    before = texts(made)
    made.lines[:0] = [message(f"older {n}") for n in range(50)]
    made.position = Position(57)
    assert texts(made) == before


def test_resize_keeps_the_lowest_line() -> None:
    made = model(*(message(f"m{n} {'word ' * 20}") for n in range(20)))
    made.position = Position(10, hidden=2)
    for size in [(80, 24), (40, 10), (20, 5), (200, 12)]:
        assert draw(made, *size).position in {Position(10, hidden) for hidden in (0, 1, 2)}


def test_growing_pane_is_filled_from_below() -> None:
    made = ten(position=Position(3))
    assert texts(made, (40, 12)) == ["day", *(f"m{n}" for n in range(8))]
    assert draw(made, 40, 12).position == Position(7)


@pytest.mark.parametrize("position", [Position(99), Position(10), Position(9), Position(9, -3)])
def test_position_below_the_last_line_is_bottom(position: Position) -> None:
    assert draw(ten(position=position), *SIZE).position is None


@pytest.mark.parametrize("position", [Position(-5), Position(0, 99), Position(0)])
def test_position_above_the_first_line_is_top(position: Position) -> None:
    assert texts(ten(position=position)) == ["day", "m0", "m1", "m2", "m3"]


def test_line_is_shown_with_some_lines_above() -> None:
    made = ten()
    made.position = scroll.to_line(made, 4, *SIZE)
    assert texts(made) == ["m3", "m4", "m5", "m6", "m7"]
    made.position = scroll.to_line(made, 0, *SIZE)
    assert texts(made) == ["day", "m0", "m1", "m2", "m3"]
    assert scroll.to_line(made, 9, *SIZE) is None


def test_output_that_fits_is_shown_to_its_end() -> None:
    made = ten()
    assert scroll.to_output(made, 5, *SIZE) is None
    assert scroll.to_output(made, 9, *SIZE) is None


def test_longer_output_begins_at_the_top() -> None:
    made = ten()
    made.position = scroll.to_output(made, 4, *SIZE)
    assert texts(made) == ["m4", "m5", "m6", "m7", "m8"]
    made.position = scroll.to_output(made, 0, *SIZE)
    assert texts(made) == ["m0", "m1", "m2", "m3", "m4"]


def test_first_unread_line_is_found() -> None:
    made = ten(new_from=8)
    made.lines.insert(7, message("no event"))
    assert scroll.first_new(made) == 8
    assert scroll.first_new(ten(new_from=1)) == 0
    assert scroll.first_new(ten(new_from=11)) is None
    assert scroll.first_new(ten(new_from=0)) is None


class Counted(list["Line"]):
    """Lines that count accesses to single ones, and refuse to be iterated over."""

    looks = 0

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        self.looks += 1
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Line]:
        raise AssertionError("all lines were iterated over")


@pytest.mark.parametrize("where", [None, Position(50_000), Position(0)])
def test_lines_out_of_sight_cost_nothing(where: Position | None) -> None:
    few, many = (
        Counted([message(f"m{n}", seq=n + 1) for n in range(number)])
        for number in (100_000, 200_000)
    )
    looks = []
    for lines in (few, many):
        made = replace(model(), lines=lines, position=where, new_from=50_000)
        draw(made, 80, 24)
        scroll.up(made, 20, 80, 24)
        scroll.to_line(made, 77_777, 80, 24)
        looks.append(lines.looks)
    assert looks[0] == looks[1] < 3000


@given(
    st.lists(st.text("ab \n漢", max_size=90), min_size=1, max_size=12),
    st.tuples(st.integers(20, 90), st.integers(5, 30)),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_down_reverses_up(
    line_texts: list[str], size: tuple[int, int], start: int, by: int
) -> None:
    made = model(*map(message, line_texts), people=2)
    made.position = before = scroll.up(made, start, *size)
    made.position = scroll.up(made, by, *size)
    if not draw(made, *size).top:
        assert scroll.down(made, by, *size) == before
    assert draw(made, *size).position == made.position

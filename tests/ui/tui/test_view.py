"""The whole screen: golden pictures of it, and properties that hold for any model and size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.client.files.queue import Progress
from tchat.core.text import clean_line, clean_text
from tchat.ui.chat.lines import Line
from tchat.ui.tui.model import Model, Person, Position, Tab
from tchat.ui.tui.styles import STYLES
from tchat.ui.tui.view import draw
from tests.hostile_text import EVERYTHING, HOSTILE, Case, unsafe_characters
from tests.ui.pictures import is_exact, message, model, notice, styles, text_of
from tests.ui.screens import FOLDER, file_of, text_of_sheet
from tests.ui.screens.catalogue import SHEETS, morning

if TYPE_CHECKING:
    from tests.ui.screens import Sheet

SIZES = [(200, 60), (80, 24), (64, 10), (40, 10), (20, 5)]


@pytest.mark.parametrize("sheet", SHEETS, ids=lambda sheet: sheet.__name__)
def test_screen_looks_like_its_golden_picture(sheet: Sheet) -> None:
    """After an intended change run `python -m tests.ui.screens`, and read the diff."""
    assert text_of_sheet(sheet) == file_of(sheet).read_text(encoding="utf-8")


def test_every_golden_picture_has_a_sheet() -> None:
    assert set(FOLDER.glob("*.txt")) == set(map(file_of, SHEETS))


def test_name_has_one_colour_everywhere() -> None:
    made = model(message("hello", "bob"), message("waves", "Bob", sort="action"), people=3)
    assert len(styles(made, "bob") | styles(made, "Bob")) == 1


@pytest.mark.parametrize("size", [(10, 3), (19, 10), (80, 4), (1, 1)])
def test_too_small_screen_says_so(size: tuple[int, int]) -> None:
    drawn = draw(morning(), *size)
    assert text_of(drawn.rows[0]).startswith("too small"[: size[0] - 1])
    assert is_exact(drawn, *size)


# ---------------------------------------------------------------------- hostile text


def everywhere(text: str) -> Model:
    """Return a window with a text in every place, sanitized as it is when it is received."""
    line, name = clean_line(text), clean_line(text)[:32] or "x"
    made = model(message(clean_text(text), name, reply=line, mention=True, edited=True))
    made.lines += [notice(line), message(clean_text(text), name, sort="action", deleted=True)]
    made.pending = [message(clean_text(text), name, fate="failed")]
    made.user, made.title, made.topic, made.connection = name, f"#{name}", line[:200], line
    made.people = [Person(name, admin=True, online=True, away=line)] * 3
    made.tabs = [Tab(n, f"#{name}", unread=n, current=n == 2) for n in range(1, 4)]
    made.edit.insert(text)
    return made


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
@pytest.mark.parametrize("size", SIZES)
def test_hostile_text_stays_in_its_cells(case: Case, size: tuple[int, int]) -> None:
    for made in (everywhere(case.text), everywhere(f"https://{case.text}.example.org/ ")):
        for bare in (False, True):
            made.bare = bare
            drawn = draw(made, *size)
            assert is_exact(drawn, *size)
            assert [unsafe_characters(text_of(row)) for row in drawn.rows] == [[]] * size[1]


@pytest.mark.parametrize("size", SIZES)
def test_hostile_question_fills_the_screen_exactly(size: tuple[int, int]) -> None:
    made = everywhere(EVERYTHING)
    made.question = clean_line(EVERYTHING)
    assert is_exact(draw(made, *size), *size)


@pytest.mark.parametrize("size", SIZES)
def test_crowd_and_many_windows_fill_the_screen_exactly(size: tuple[int, int]) -> None:
    made = model(message("hello", "漢" * 32), topic="漢" * 200)
    made.people = [Person("漢" * 32, admin=n == 0, online=n % 2 == 0) for n in range(2000)]
    made.tabs = [Tab(n, "@" + "漢" * 32, n, n // 3, n == 7) for n in range(1, 201)]
    assert is_exact(draw(made, *size), *size)


# ---------------------------------------------------------------------- any model

times = st.integers(0, 4_000_000_000_000)
names = st.text(max_size=32).map(clean_line)
phrases = st.text(max_size=80).map(clean_line)
counts = st.integers(0, 2000)
lines = st.builds(
    Line,
    at=times,
    sort=st.sampled_from(["message", "action", "notice", "error"]),
    text=st.text(max_size=200).map(clean_text) | st.just("a https://example.org/" + "b" * 99),
    who=names,
    seq=st.integers(0, 9),
    reply=st.just("") | phrases,
    mention=st.booleans(),
    edited=st.booleans(),
    deleted=st.booleans(),
    fate=st.sampled_from(["", "", "pending", "failed"]),
)
transfers = st.builds(
    Progress,
    number=st.integers(1, 10_000),
    way=st.sampled_from(["up", "down"]),
    name=phrases,
    phase=st.sampled_from(["queued", "checking", "moving", "sharing"]),
    done=st.integers(0, 2**63 - 1),
    size=st.integers(0, 2**63 - 1),
    rate=st.floats(0, 1e15),
    left=st.none() | st.floats(0, 1e15),
)
people = st.builds(Person, name=names, admin=st.booleans(), online=st.booleans(), away=phrases)
tabs = st.builds(
    Tab, number=counts, title=names, unread=counts, mentions=counts, current=st.booleans()
)
models = st.builds(
    Model,
    user=names,
    title=names,
    topic=phrases,
    direct=st.booleans(),
    lines=st.lists(lines, max_size=8),
    pending=st.lists(lines, max_size=3),
    position=st.none() | st.builds(Position, st.integers(-2, 12), st.integers(-2, 50)),
    below=counts,
    new_from=st.integers(0, 9),
    past=st.sampled_from(["more", "loading", "all"]),
    people=st.lists(people, max_size=40),
    show_people=st.booleans(),
    bare=st.booleans(),
    question=phrases,
    connection=phrases,
    security=st.sampled_from(["TLS", "not encrypted"]),
    standing=st.sampled_from(["", "member", "waiting"]),
    requests=st.lists(names, max_size=4),
    unanswered=counts,
    transfers=st.lists(transfers, max_size=4),
    tabs=st.lists(tabs, max_size=12),
)


@given(models, st.text(max_size=80), st.integers(1, 200), st.integers(1, 60))
def test_any_model_fills_any_screen_exactly(
    made: Model, typed: str, width: int, height: int
) -> None:
    made.edit.insert(typed)
    drawn = draw(made, width, height)
    assert is_exact(drawn, width, height)
    assert {style for row in drawn.rows for _, style in row} <= set(STYLES)
    row, column = drawn.cursor
    assert 0 <= row < height
    assert 0 <= column < width

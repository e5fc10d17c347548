"""The whole screen: how it looks, and that nothing can break it."""

from __future__ import annotations

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
from tests.ui.pictures import (
    MINUTE,
    NOON,
    is_exact,
    model,
    picture,
    said,
    screen,
    styles,
    text_of,
    told,
)

SIZES = [(200, 60), (80, 24), (64, 10), (40, 10), (20, 5)]


def a_morning() -> Model:
    """Return a window in which most of what can be has happened."""
    lines = [
        said("see you tomorrow", "erin", NOON - 24 * 60 * MINUTE, seq=1),
        said("hello everyone", "alice", seq=2),
        said("the numbers are in", "bob", NOON + MINUTE, seq=3),
        told("bob shared report.pdf (1.2 MB), file 3", NOON + MINUTE, seq=4),
        said("https://wiki.example.org/releases/2.4", "bob", NOON + 2 * MINUTE, seq=5),
        said(
            "@alice 数字看起来不错 👍",
            "carol",
            NOON + 3 * MINUTE,
            seq=6,
            mention=True,
            reply="bob: the numbers are in",
        ),
        said("مرحبا بالعالم", "dave", NOON + 3 * MINUTE, seq=7),
        said("brews coffee", "erin", NOON + 4 * MINUTE, sort="action", seq=8),
        said("who restarts the build server? It has been red since Friday", "erin", seq=9),
    ]
    made = model(*lines, topic="release planning", new_from=6, past="more")
    made.pending = [said("I will", "alice", NOON + 6 * MINUTE, fate="pending")]
    made.people = [
        Person("alice", admin=True, online=True),
        Person("bob", admin=False, online=True),
        Person("carol", admin=False, online=True, away="lunch"),
        Person("dave", admin=False, online=True),
        Person("erin", admin=False, online=False),
    ]
    made.tabs = [
        Tab(1, "#ops", current=True),
        Tab(2, "#dev", unread=3),
        Tab(3, "@bob", unread=1, mentions=1),
    ]
    made.transfers = [Progress(1, "down", "report.pdf", "moving", 42, 100, 3.1e6, 130.0)]
    made.edit.insert("give me five minutes")
    return made


def test_a_morning_at_80_by_20() -> None:
    assert screen(a_morning(), 80, 20) == picture(
        """
        | #ops  release planning                       admin alice · 4 of 5 online · TLS
        |                                                             │ ★ alice
        | PgUp: earlier messages                                      │ ● bob
        |── Saturday 21 November 2026 ────────────────────────────────┤ ◐ carol
        | 12:00  erin │ see you tomorrow                              │ ● dave
        |── Sunday 22 November 2026 ──────────────────────────────────┤ ○ erin
        | 12:00 alice │ hello everyone                                │
        | 12:01   bob │ the numbers are in                            │
        | 12:01    -- │ bob shared report.pdf (1.2 MB), file 3        │
        | 12:02   bob │ https://wiki.example.org/releases/2.4         │
        |── new ──────────────────────────────────────────────────────┤
        | 12:03 carol » ↳ bob: the numbers are in                     │
        |             │ @alice 数字看起来不错 👍                      │
        | 12:03  dave │ مرحبا بالعالم                                 │
        | 12:04     * │ erin brews coffee                             │
        | 12:00  erin │ who restarts the build server? It has been    │
        |             │ red since Friday                              │
        | 12:06 alice … I will                                        │
        |─ [1 #ops]  2 #dev 3  3 @bob 1! ──── ⇣ report.pdf ▰▰▰▰▱▱▱▱▱▱ 42% 3.1 MB/s 2:10 ─
        |alice ▸ give me five minutes
        """
    )


def test_a_morning_at_40_by_10() -> None:
    assert screen(a_morning(), 40, 10) == picture(
        """
        | #ops  release pl…  4 of 5 online · TLS
        |      carol │ @alice 数字看起来不错 👍
        |12:03  dave │ مرحبا بالعالم
        |12:04     * │ erin brews coffee
        |12:00  erin │ who restarts the build
        |            │ server? It has been red
        |            │ since Friday
        |12:06 alice … I will
        |─ [1]  2 #dev 3  3 @bob 1! ───── ⇣ 42% ─
        |alice ▸ give me five minutes
        """
    )


def test_a_name_has_one_colour_wherever_it_is() -> None:
    made = model(said("hello", "bob"), said("waves", "Bob", sort="action"), people=3)
    assert len(styles(made, "bob") | styles(made, "Bob")) == 1


@pytest.mark.parametrize("size", [(10, 3), (19, 10), (80, 4), (1, 1)])
def test_a_terminal_that_is_too_small_says_so(size: tuple[int, int]) -> None:
    drawn = draw(a_morning(), *size)
    assert text_of(drawn.rows[0]).startswith("too small"[: size[0] - 1])
    assert is_exact(drawn, *size)


# ---------------------------------------------------------------------- hostile text


def everywhere(text: str) -> Model:
    """Return a window that has a text wherever there can be one, cleaned as it comes in."""
    line, name = clean_line(text), clean_line(text)[:32] or "x"
    made = model(said(clean_text(text), name, reply=line, mention=True, edited=True))
    made.lines += [told(line), said(clean_text(text), name, sort="action", deleted=True)]
    made.pending = [said(clean_text(text), name, fate="failed")]
    made.user, made.title, made.topic, made.connection = name, f"#{name}", line[:200], line
    made.people = [Person(name, admin=True, online=True, away=line)] * 3
    made.tabs = [Tab(n, f"#{name}", unread=n, current=n == 2) for n in range(1, 4)]
    made.edit.insert(text)
    return made


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
@pytest.mark.parametrize("size", SIZES)
def test_hostile_text_stays_in_its_place(case: Case, size: tuple[int, int]) -> None:
    for made in (everywhere(case.text), everywhere(f"https://{case.text}.example.org/ ")):
        for bare in (False, True):
            made.bare = bare
            drawn = draw(made, *size)
            assert is_exact(drawn, *size)
            assert [unsafe_characters(text_of(row)) for row in drawn.rows] == [[]] * size[1]


@pytest.mark.parametrize("size", SIZES)
def test_all_of_it_at_once_and_as_a_question(size: tuple[int, int]) -> None:
    made = everywhere(EVERYTHING)
    made.question = clean_line(EVERYTHING)
    assert is_exact(draw(made, *size), *size)


@pytest.mark.parametrize("size", SIZES)
def test_a_crowd_with_long_names_and_many_windows(size: tuple[int, int]) -> None:
    made = model(said("hello", "漢" * 32), topic="漢" * 200)
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
    requests=counts,
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

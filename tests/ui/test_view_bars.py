"""The title and the status: what they say, and what they give up first."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from tchat.client.files.queue import Progress
from tchat.ui.text.cells import cells
from tchat.ui.tui.model import Model, Person, Position, Tab
from tests.ui.pictures import changed, model, said, shown, styles

# ---------------------------------------------------------------------- the title


@pytest.mark.parametrize(
    ("width", "title"),
    [
        (70, " #ops  release planning, Friday a…  admin alice · 2 of 3 online · TLS"),
        (60, " #ops  release planning…  admin alice · 2 of 3 online · TLS"),
        (50, " #ops           admin alice · 2 of 3 online · TLS"),
        (40, " #ops  release pl…  2 of 3 online · TLS"),
        (30, " #ops     2 of 3 online · TLS"),
        (20, " #ops           TLS"),
    ],
)
def test_the_topic_gives_way_first_and_the_state_never(width: int, title: str) -> None:
    assert shown(model(people=3, topic="release planning, Friday at noon"), width)[0] == title


def test_a_lost_connection_stands_out() -> None:
    made = model(people=3, connection="offline: nothing listens there")
    assert shown(made)[0].endswith("2 of 3 online · offline: nothing listens there")
    assert shown(made, 40)[0] == " #ops    offline: nothing listens there"
    assert styles(made, "offline") == {"alert"}


def test_a_connection_that_others_can_read_stands_out() -> None:
    made = model(people=3, security="not encrypted")
    assert shown(made, 30)[0].endswith("not encrypted")
    assert styles(made, "not encrypted") == {"alert"}
    assert styles(model(), "TLS") == {"title"}


def test_one_who_waits_is_told_so() -> None:
    assert "waiting for approval · TLS" in shown(model(standing="waiting"), 40)[0]


@pytest.mark.parametrize(
    ("bob", "said_of_him"),
    [
        (Person("bob", admin=False, online=True), "online · TLS"),
        (Person("bob", admin=False, online=False), "offline · TLS"),
        (Person("bob", admin=False, online=True, away="at lunch"), "away: at lunch · TLS"),
    ],
)
def test_the_title_of_two_says_how_the_other_is(bob: Person, said_of_him: str) -> None:
    made = model(direct=True)
    made.title, made.people = "@bob", [Person("alice", admin=False, online=True), bob]
    row = shown(made, 40)[0]
    assert row.startswith(" @bob ")
    assert row.endswith(f" {said_of_him}")


# ---------------------------------------------------------------------- the windows

TABS = [
    Tab(1, "#ops", current=True),
    Tab(2, "#dev", unread=3),
    Tab(3, "@bob", unread=1, mentions=1),
    Tab(4, "#design"),
]


def busy(**more: object) -> Model:
    return changed(model(said("x"), tabs=TABS), **more)


@pytest.mark.parametrize(
    ("width", "status"),
    [
        (60, "─ [1 #ops]  2 #dev 3  3 @bob 1!  4 #design ─────────────────"),
        (40, "─ [1]  2 #dev 3  3 @bob 1!  4 #design ──"),
        (30, "─ [1]  3 @bob 1!  +2 ─────────"),
        (20, "─ [1]  +3! ─────────"),
    ],
)
def test_windows_where_nothing_happens_are_left_out_first(width: int, status: str) -> None:
    assert shown(busy(), width)[-2] == status


def test_a_window_shows_whether_somebody_is_meant() -> None:
    assert styles(busy(), "@bob 1!") == {"activity.mention"}
    assert styles(busy(), "#dev 3") == {"activity"}
    assert styles(busy(), "4 #design") == {"status"}
    assert styles(busy(), "[1 #ops]") == {"activity.current"}


def test_one_window_needs_no_list() -> None:
    assert shown(model(said("x"), tabs=TABS[:1]))[-2] == "─" * 80


def test_of_two_hundred_windows_those_with_news_are_shown() -> None:
    tabs = [Tab(n, f"#{n}{'漢' * 20}", current=n == 9) for n in range(1, 201)]
    tabs[76] = replace(tabs[76], unread=1)
    row = shown(model(said("x"), tabs=tabs))[-2]
    assert row.startswith("─ 1 #1漢漢漢漢漢漢…  [9 #9漢漢漢漢漢漢…]  77 #77漢漢漢漢漢漢… 1  +197 ─")


# ---------------------------------------------------------------------- what waits


def test_what_waits_is_in_the_status() -> None:
    made = model(said("x"), requests=2, unanswered=3)
    assert shown(made)[-2].startswith("─ 2 ask to join: F9 or /1 ── 3 on the way ──")


def test_one_who_reads_above_is_told_the_way_back() -> None:
    made = model(*(said(f"m{n}") for n in range(30)), position=Position(15))
    assert shown(made)[-2].startswith("─ ↓ more: End ──")
    made.below = 12
    assert shown(made)[-2].startswith("─ ↓ 12 new: End ──")


@pytest.mark.parametrize(
    ("width", "status"),
    [
        (80, "─ [1 #ops]  3 @bob 1!  +2 ── 2 ask to join: F9 or /1 ── 3 on the way ───────────"),
        (60, "─ [1 #ops]  3 @bob 1!  +2 ── 2 ask: F9 ── 3 on the way ─────"),
        (40, "─ [1]  3 @bob 1!  +2 ── 2 ask: F9 ──────"),
        (30, "─ [1]  +3! ── 2 ask: F9 ──────"),
        (20, "─ 2 ask: F9 ────────"),
    ],
)
def test_a_narrow_status_uses_fewer_words(width: int, status: str) -> None:
    assert shown(busy(requests=2, unanswered=3), width)[-2] == status


# ---------------------------------------------------------------------- transfers

MOVING = Progress(1, "up", "report.pdf", "moving", 42, 100, 3.1e6, 130.0)


@pytest.mark.parametrize(
    ("width", "status"),
    [
        (80, "── ⇡ report.pdf ▰▰▰▰▱▱▱▱▱▱ 42% 3.1 MB/s 2:10 ─"),
        (40, "── ⇡ report.pdf 42% 3.1 MB/s 2:10 ─"),
        (30, "── ⇡ report.pdf 42% 2:10 ─"),
        (20, "─ ⇡ report.pdf 42% ─"),
    ],
)
def test_a_transfer_is_at_the_right_of_the_status(width: int, status: str) -> None:
    made = model(said("x"), transfers=[MOVING])
    assert shown(made, width)[-2].endswith(status)


@pytest.mark.parametrize("way", ["up", "down"])
def test_an_arrow_says_which_way_it_goes(way: Literal["up", "down"]) -> None:
    made = model(said("x"), transfers=[replace(MOVING, way=way)])
    assert f" {'⇡' if way == 'up' else '⇣'} report.pdf " in shown(made)[-2]


@pytest.mark.parametrize(
    ("progress", "status"),
    [
        (replace(MOVING, phase="queued"), "─ ⇡ report.pdf queued ─"),
        (replace(MOVING, phase="sharing"), "─ ⇡ report.pdf sharing ─"),
        (replace(MOVING, phase="checking"), "─ ⇡ report.pdf checking 42% ─"),
        (replace(MOVING, phase="checking", done=0), "─ ⇡ report.pdf checking ─"),
        (replace(MOVING, left=None, rate=0.0), "─ ⇡ report.pdf ▰▰▰▰▱▱▱▱▱▱ 42% ─"),
        (replace(MOVING, done=100, left=0.0), "▰▰▰▰▰▰▰▰▰▰ 100% 3.1 MB/s 0:00 ─"),
    ],
)
def test_what_a_transfer_is_doing_is_said(progress: Progress, status: str) -> None:
    assert shown(model(said("x"), transfers=[progress]))[-2].endswith(status)


def test_of_several_transfers_the_furthest_is_shown_with_its_number() -> None:
    queued = replace(MOVING, number=3, phase="queued", done=0)
    moving = [replace(MOVING, done=7), replace(MOVING, number=2, name="b.iso"), queued]
    made = model(said("x"), transfers=moving)
    assert shown(made)[-2].endswith("─ ⇡ 2 b.iso ▰▰▰▰▱▱▱▱▱▱ 42% 3.1 MB/s 2:10 +2 ─")


@pytest.mark.parametrize("width", range(20, 121))
@pytest.mark.parametrize("others", [0, 2])
def test_a_transfer_pushes_nothing_important_out(width: int, others: int) -> None:
    moving = [replace(MOVING, name="数字" * 30)] * (others + 1)
    made = busy(requests=1, unanswered=2, transfers=moving)
    row = shown(made, width)[-2]
    assert cells(row) == width
    assert row.endswith("─")
    assert "1 asks" in row
    assert "[1" in row or width < 30
    assert "42%" in row or width < 60

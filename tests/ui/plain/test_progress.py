"""Lines about transfers say something new each time: a screen reader reads all of them."""

from __future__ import annotations

from tchat.client.files.queue import Progress
from tchat.ui.plain.progress import ProgressFilter, bar_text


def test_each_tenth_is_told_once() -> None:
    news = ProgressFilter()
    told = [
        done
        for done in range(101)
        if news.has(Progress(1, "up", "a", "moving", done, 100, rate=done))
    ]
    assert told == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]


def test_a_standstill_is_told_once() -> None:
    news = ProgressFilter()
    stalls = (None, None, 3.0, 5.0, 7.0, None, None)
    told = [
        news.has(Progress(1, "up", "a", "moving", 42, 100, stalled=stalled)) for stalled in stalls
    ]
    assert told == [True, False, True, False, False, True, False]


def test_transfers_are_told_apart() -> None:
    news = ProgressFilter()
    assert not news.has(Progress(1, "up", "a", "queued"))
    assert news.has(Progress(1, "up", "a", "moving", 5, 10))
    assert news.has(Progress(2, "up", "b", "moving", 5, 10))
    assert not news.has(Progress(1, "up", "a", "moving", 5, 10))


def test_bar_grows_with_the_transfer() -> None:
    bars = [bar_text(Progress(1, "up", "a", "moving", done, 100), 80) for done in (0, 50, 100)]
    assert [bar.partition("[")[2] for bar in bars] == [
        f"{'.' * 30}]",
        f"{'#' * 15}{'.' * 15}]",
        f"{'#' * 30}]",
    ]
    assert all(len(bar) < 80 for bar in bars)


def test_bar_is_left_out_without_room_or_size() -> None:
    assert "[" not in bar_text(Progress(1, "up", "a", "moving", 5, 10), 30)
    assert "[" not in bar_text(Progress(1, "up", "a", "queued"), 80)
    assert "[" not in bar_text(Progress(1, "up", "a", "sharing", 10, 10), 80)

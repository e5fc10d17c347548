"""What came too fast comes again, and nothing that was sent behind it is done before it."""

from __future__ import annotations

from bisect import insort
from collections import deque
from contextlib import suppress

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tchat.core.group.state import WINDOW
from tchat.core.pace import Rate
from tchat.errors import Code, Refused
from tchat.server.groups.ordering import PATIENCE_SECONDS, CommandOrder
from tchat.server.limits import Limits, Rates

TIGHT = Limits(messages=Rate(10, 2))
A_TOKEN_SECONDS = 0.1


class Line:
    """Somebody's way into groups, and the refusals that he met there."""

    def __init__(self) -> None:
        self.order = CommandOrder()
        self.rates = Rates(TIGHT)
        self.refusals: list[Refused] = []

    def sends(self, *numbers: int, group: str = "ops") -> list[int]:
        """Send commands, and return those of them that were done."""
        return [number for number in numbers if self._is_done(group, number)]

    def _is_done(self, group: str, number: int) -> bool:
        try:
            with self.order.turn(group, number):
                self.rates.take("messages", "alice")
        except Refused as refusal:
            self.refusals.append(refusal)
            return False
        return True


@pytest.fixture
def line(mock_clock: MockClock) -> Line:
    return Line()


async def test_what_does_not_come_too_fast_is_done(line: Line) -> None:
    assert line.sends(1, 2) == [1, 2]


async def test_nothing_is_done_before_what_was_refused(line: Line, mock_clock: MockClock) -> None:
    assert line.sends(1, 2, 3) == [1, 2]
    mock_clock.jump(2 * A_TOKEN_SECONDS)
    assert line.sends(4, 5) == []
    assert line.sends(3) == [3]


async def test_all_are_told_when_to_come_again(line: Line, mock_clock: MockClock) -> None:
    line.sends(1, 2, 3)
    mock_clock.jump(A_TOKEN_SECONDS / 2)
    line.sends(4, 3)
    assert [refusal.code for refusal in line.refusals] == 3 * [Code.RATE_LIMITED]
    assert [refusal.wait for refusal in line.refusals] == [100, 100, 50]


async def test_what_stood_behind_comes_in_its_turn(line: Line, mock_clock: MockClock) -> None:
    assert line.sends(1, 2, 3, 4, 5) == [1, 2]
    mock_clock.jump(2 * A_TOKEN_SECONDS)
    assert line.sends(3, 5) == [3]
    assert line.sends(4, 5) == [4]
    mock_clock.jump(A_TOKEN_SECONDS)
    assert line.sends(5) == [5]
    mock_clock.jump(A_TOKEN_SECONDS)
    assert line.sends(6) == [6]


@pytest.mark.parametrize("refused", [True, False])
async def test_one_that_comes_again_and_takes_no_token_makes_way(
    line: Line, mock_clock: MockClock, refused: bool
) -> None:
    assert line.sends(1, 2, 3, 4) == [1, 2]
    with suppress(Refused), line.order.turn("ops", 3):
        if refused:
            raise Refused(Code.NOT_ADMIN, "Only the admin can do this.")
    mock_clock.jump(A_TOKEN_SECONDS)
    assert line.sends(4) == [4]


async def test_nothing_is_even_looked_at_before_what_was_refused(line: Line) -> None:
    assert line.sends(1, 2, 3) == [1, 2]
    with pytest.raises(Refused), line.order.turn("ops", 4):
        pytest.fail("it was decided")


async def test_what_came_before_is_not_held_up(line: Line, mock_clock: MockClock) -> None:
    assert line.sends(7, 8, 9) == [7, 8]
    mock_clock.jump(A_TOKEN_SECONDS)
    assert line.sends(6) == [6]


async def test_another_group_has_a_line_of_its_own(line: Line, mock_clock: MockClock) -> None:
    assert line.sends(1, 2, 3) == [1, 2]
    mock_clock.jump(A_TOKEN_SECONDS)
    assert line.sends(4, group="dev") == [4]


async def test_what_does_not_come_again_loses_its_place(line: Line, mock_clock: MockClock) -> None:
    assert line.sends(1, 2, 3) == [1, 2]
    mock_clock.jump(A_TOKEN_SECONDS + PATIENCE_SECONDS / 2)
    assert line.sends(4) == []  # which is no reason to wait for it any longer
    mock_clock.jump(PATIENCE_SECONDS / 2)
    assert line.sends(4) == [4]


async def test_who_is_refused_again_keeps_the_place(line: Line, mock_clock: MockClock) -> None:
    assert line.sends(1, 2, 3) == [1, 2]
    for group in ("dev", "web"):
        mock_clock.jump(PATIENCE_SECONDS / 2)
        assert line.sends(4, 5, group=group) == [4, 5]
        assert line.sends(3) == []
    mock_clock.jump(PATIENCE_SECONDS / 2)
    assert line.sends(4) == []
    assert line.sends(3) == [3]


async def test_no_more_than_a_window_of_numbers_is_remembered(line: Line) -> None:
    line.sends(*range(1, 3 * WINDOW))
    assert all(len(each.numbers) <= WINDOW + 1 for each in line.order._lines.values())


async def test_what_nobody_waits_for_any_more_is_forgotten(
    line: Line, mock_clock: MockClock
) -> None:
    for group in ("ops", "dev", "lab"):
        line.sends(1, 2, 3, group=group)
        mock_clock.jump(A_TOKEN_SECONDS + PATIENCE_SECONDS)
    assert list(line.order._lines) == ["lab"]


class Wire:
    """A client that sends all it can, a server, and two ways on which everything is late."""

    def __init__(self, count: int) -> None:
        self.line = Line()
        self.to_send = list(range(1, count + 1))
        self.going: deque[int] = deque()
        self.refused: deque[int] = deque()
        self.done: list[int] = []

    def step(self, what: str) -> None:
        if what == "send" and self.to_send:
            self.going.append(self.to_send.pop(0))
        elif what == "decide" and self.going:
            number = self.going.popleft()
            (self.done if self.line.sends(number) else self.refused).append(number)
        elif what == "answer" and self.refused:
            insort(self.to_send, self.refused.popleft())

    @property
    def busy(self) -> bool:
        return bool(self.to_send or self.going or self.refused)


STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "decide", "answer", "wait"]), st.integers(1, 6)),
    max_size=40,
)


@given(STEPS)
def test_however_late_a_refusal_arrives_all_is_done_in_order(steps: list[tuple[str, int]]) -> None:
    clock = MockClock()

    async def main() -> None:
        wire = Wire(20)
        for step, times in steps:
            for _ in range(times):
                clock.jump(A_TOKEN_SECONDS if step == "wait" else 0)
                wire.step(step)
        while wire.busy:
            clock.jump(A_TOKEN_SECONDS / 4)
            for step in ("answer", "send", "decide"):
                wire.step(step)
        assert wire.done == list(range(1, 21))

    trio.run(main, clock=clock)

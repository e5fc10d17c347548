"""Commands keep their order when some of them are refused for their rate."""

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
from tchat.server.groups.ordering import RETRY_SECONDS, CommandOrder
from tchat.server.limits import Limits
from tchat.server.rate_limiter import RateLimiter

TIGHT = Limits(messages=Rate(10, 2))
A_TOKEN_SECONDS = 0.1


class Line:
    """Commands of one connection, and their refusals."""

    def __init__(self) -> None:
        self.order = CommandOrder()
        self.rates = RateLimiter(TIGHT)
        self.refusals: list[Refused] = []

    def sends(self, *numbers: int, group: str = "ops") -> list[int]:
        """Send commands; return those that were executed."""
        return [number for number in numbers if self._is_done(group, number)]

    def _is_done(self, group: str, number: int) -> bool:
        try:
            with self.order.in_turn(group, number):
                self.rates.acquire("messages", "alice")
        except Refused as refusal:
            self.refusals.append(refusal)
            return False
        return True


@pytest.fixture
def line(mock_clock: MockClock) -> Line:
    return Line()


async def test_command_within_the_rate_is_executed(line: Line) -> None:
    assert line.sends(1, 2) == [1, 2]


async def test_command_waits_for_earlier_refused_ones(line: Line, mock_clock: MockClock) -> None:
    assert line.sends(1, 2, 3) == [1, 2]
    mock_clock.jump(2 * A_TOKEN_SECONDS)
    assert line.sends(4, 5) == []
    assert line.sends(3) == [3]


async def test_waiting_commands_are_told_when_to_retry(line: Line, mock_clock: MockClock) -> None:
    line.sends(1, 2, 3)
    mock_clock.jump(A_TOKEN_SECONDS / 2)
    line.sends(4, 3)
    assert [refusal.code for refusal in line.refusals] == 3 * [Code.RATE_LIMITED]
    assert [refusal.wait for refusal in line.refusals] == [100, 100, 50]


async def test_waiting_commands_are_executed_in_order(line: Line, mock_clock: MockClock) -> None:
    assert line.sends(1, 2, 3, 4, 5) == [1, 2]
    mock_clock.jump(2 * A_TOKEN_SECONDS)
    assert line.sends(3, 5) == [3]
    assert line.sends(4, 5) == [4]
    mock_clock.jump(A_TOKEN_SECONDS)
    assert line.sends(5) == [5]
    mock_clock.jump(A_TOKEN_SECONDS)
    assert line.sends(6) == [6]


@pytest.mark.parametrize("refused", [True, False])
async def test_retry_that_takes_no_token_unblocks_the_next(
    line: Line, mock_clock: MockClock, refused: bool
) -> None:
    assert line.sends(1, 2, 3, 4) == [1, 2]
    with suppress(Refused), line.order.in_turn("ops", 3):
        if refused:
            raise Refused(Code.NOT_ADMIN, "Only the admin can do this.")
    mock_clock.jump(A_TOKEN_SECONDS)
    assert line.sends(4) == [4]


async def test_waiting_command_is_not_even_validated(line: Line) -> None:
    assert line.sends(1, 2, 3) == [1, 2]
    with pytest.raises(Refused), line.order.in_turn("ops", 4):
        pytest.fail("it was decided")


async def test_earlier_command_is_not_held_back(line: Line, mock_clock: MockClock) -> None:
    assert line.sends(7, 8, 9) == [7, 8]
    mock_clock.jump(A_TOKEN_SECONDS)
    assert line.sends(6) == [6]


async def test_each_group_has_its_own_order(line: Line, mock_clock: MockClock) -> None:
    assert line.sends(1, 2, 3) == [1, 2]
    mock_clock.jump(A_TOKEN_SECONDS)
    assert line.sends(4, group="dev") == [4]


async def test_command_that_is_never_retried_stops_blocking(
    line: Line, mock_clock: MockClock
) -> None:
    assert line.sends(1, 2, 3) == [1, 2]
    mock_clock.jump(A_TOKEN_SECONDS + RETRY_SECONDS / 2)
    assert line.sends(4) == []  # which does not extend the wait for 3
    mock_clock.jump(RETRY_SECONDS / 2)
    assert line.sends(4) == [4]


async def test_command_refused_again_keeps_its_place(line: Line, mock_clock: MockClock) -> None:
    assert line.sends(1, 2, 3) == [1, 2]
    for group in ("dev", "web"):
        mock_clock.jump(RETRY_SECONDS / 2)
        assert line.sends(4, 5, group=group) == [4, 5]
        assert line.sends(3) == []
    mock_clock.jump(RETRY_SECONDS / 2)
    assert line.sends(4) == []
    assert line.sends(3) == [3]


async def test_queue_of_a_group_is_bounded(line: Line) -> None:
    line.sends(*range(1, 3 * WINDOW))
    assert line.order.waiting()["ops"] <= WINDOW + 1


async def test_expired_queues_are_forgotten(line: Line, mock_clock: MockClock) -> None:
    for group in ("ops", "dev", "lab"):
        line.sends(1, 2, 3, group=group)
        mock_clock.jump(A_TOKEN_SECONDS + RETRY_SECONDS)
    assert list(line.order.waiting()) == ["lab"]


class Wire:
    """A client that pipelines, a server, and a slow line in each direction."""

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
def test_order_holds_however_late_refusals_arrive(steps: list[tuple[str, int]]) -> None:
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

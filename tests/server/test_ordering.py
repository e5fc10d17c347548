"""Commands keep their order when some of them are rate limited."""

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


class Sender:
    """Commands of one connection, and their refusals."""

    def __init__(self) -> None:
        self.order = CommandOrder()
        self.rates = RateLimiter(TIGHT)
        self.refusals: list[Refused] = []

    def send(self, *numbers: int, group: str = "ops") -> list[int]:
        """Send commands; return those that were executed."""
        return [number for number in numbers if self._is_executed(group, number)]

    def _is_executed(self, group: str, number: int) -> bool:
        try:
            with self.order.in_turn(group, number):
                self.rates.acquire("messages", "alice")
        except Refused as refusal:
            self.refusals.append(refusal)
            return False
        return True


@pytest.fixture
def sender(mock_clock: MockClock) -> Sender:
    return Sender()


async def test_command_within_the_rate_is_executed(sender: Sender) -> None:
    assert sender.send(1, 2) == [1, 2]


async def test_command_waits_for_earlier_refused_ones(
    sender: Sender, mock_clock: MockClock
) -> None:
    assert sender.send(1, 2, 3) == [1, 2]
    mock_clock.jump(2 * A_TOKEN_SECONDS)
    assert sender.send(4, 5) == []
    assert sender.send(3) == [3]


async def test_waiting_commands_are_told_when_to_retry(
    sender: Sender, mock_clock: MockClock
) -> None:
    sender.send(1, 2, 3)
    mock_clock.jump(A_TOKEN_SECONDS / 2)
    sender.send(4, 3)
    assert [refusal.code for refusal in sender.refusals] == 3 * [Code.RATE_LIMITED]
    assert [refusal.wait for refusal in sender.refusals] == [100, 100, 50]


async def test_waiting_commands_are_executed_in_order(
    sender: Sender, mock_clock: MockClock
) -> None:
    assert sender.send(1, 2, 3, 4, 5) == [1, 2]
    mock_clock.jump(2 * A_TOKEN_SECONDS)
    assert sender.send(3, 5) == [3]
    assert sender.send(4, 5) == [4]
    mock_clock.jump(A_TOKEN_SECONDS)
    assert sender.send(5) == [5]
    mock_clock.jump(A_TOKEN_SECONDS)
    assert sender.send(6) == [6]


@pytest.mark.parametrize("refused", [True, False])
async def test_retry_that_takes_no_token_unblocks_the_next(
    sender: Sender, mock_clock: MockClock, refused: bool
) -> None:
    assert sender.send(1, 2, 3, 4) == [1, 2]
    with suppress(Refused), sender.order.in_turn("ops", 3):
        if refused:
            raise Refused(Code.NOT_ADMIN, "Only the admin can do this.")
    mock_clock.jump(A_TOKEN_SECONDS)
    assert sender.send(4) == [4]


async def test_waiting_command_is_not_even_validated(sender: Sender) -> None:
    assert sender.send(1, 2, 3) == [1, 2]
    with pytest.raises(Refused), sender.order.in_turn("ops", 4):
        pytest.fail("it was decided")


async def test_earlier_command_is_not_held_back(sender: Sender, mock_clock: MockClock) -> None:
    assert sender.send(7, 8, 9) == [7, 8]
    mock_clock.jump(A_TOKEN_SECONDS)
    assert sender.send(6) == [6]


async def test_each_group_has_its_own_order(sender: Sender, mock_clock: MockClock) -> None:
    assert sender.send(1, 2, 3) == [1, 2]
    mock_clock.jump(A_TOKEN_SECONDS)
    assert sender.send(4, group="dev") == [4]


async def test_command_that_is_never_retried_stops_blocking(
    sender: Sender, mock_clock: MockClock
) -> None:
    assert sender.send(1, 2, 3) == [1, 2]
    mock_clock.jump(A_TOKEN_SECONDS + RETRY_SECONDS / 2)
    assert sender.send(4) == []  # and the wait for 3 is not extended
    mock_clock.jump(RETRY_SECONDS / 2)
    assert sender.send(4) == [4]


async def test_command_refused_again_keeps_its_place(sender: Sender, mock_clock: MockClock) -> None:
    assert sender.send(1, 2, 3) == [1, 2]
    for group in ("dev", "web"):
        mock_clock.jump(RETRY_SECONDS / 2)
        assert sender.send(4, 5, group=group) == [4, 5]
        assert sender.send(3) == []
    mock_clock.jump(RETRY_SECONDS / 2)
    assert sender.send(4) == []
    assert sender.send(3) == [3]


async def test_queue_of_a_group_is_bounded(sender: Sender) -> None:
    sender.send(*range(1, 3 * WINDOW))
    assert sender.order.waiting()["ops"] <= WINDOW + 1


async def test_expired_queues_are_forgotten(sender: Sender, mock_clock: MockClock) -> None:
    for group in ("ops", "dev", "lab"):
        sender.send(1, 2, 3, group=group)
        mock_clock.jump(A_TOKEN_SECONDS + RETRY_SECONDS)
    assert list(sender.order.waiting()) == ["lab"]


class DelayedLink:
    """A client that pipelines, a server, and a slow line in each direction."""

    def __init__(self, count: int) -> None:
        self.sender = Sender()
        self.to_send = list(range(1, count + 1))
        self.in_flight: deque[int] = deque()
        self.refused: deque[int] = deque()
        self.done: list[int] = []

    def step(self, what: str) -> None:
        if what == "send" and self.to_send:
            self.in_flight.append(self.to_send.pop(0))
        elif what == "decide" and self.in_flight:
            number = self.in_flight.popleft()
            (self.done if self.sender.send(number) else self.refused).append(number)
        elif what == "answer" and self.refused:
            insort(self.to_send, self.refused.popleft())

    @property
    def busy(self) -> bool:
        return bool(self.to_send or self.in_flight or self.refused)


STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "decide", "answer", "wait"]), st.integers(1, 6)),
    max_size=40,
)


@given(STEPS)
def test_order_holds_however_late_refusals_arrive(steps: list[tuple[str, int]]) -> None:
    clock = MockClock()

    async def main() -> None:
        link = DelayedLink(20)
        for step, times in steps:
            for _ in range(times):
                clock.jump(A_TOKEN_SECONDS if step == "wait" else 0)
                link.step(step)
        while link.busy:
            clock.jump(A_TOKEN_SECONDS / 4)
            for step in ("answer", "send", "decide"):
                link.step(step)
        assert link.done == list(range(1, 21))

    trio.run(main, clock=clock)

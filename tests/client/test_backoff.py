"""Exponential backoff with jitter."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tchat.client.backoff import FIRST_SECONDS, LONGEST_SECONDS, Backoff


@pytest.fixture(autouse=True)
def _quick_retries() -> None:
    """Keep the real delays."""


def upper(low: float, high: float) -> float:
    return max(low, high)


def test_delays_double_up_to_the_longest() -> None:
    backoff = Backoff(upper)
    delays = [backoff.next_delay() for _ in range(20)]
    assert delays[0] == FIRST_SECONDS
    assert all(later == min(2 * earlier, LONGEST_SECONDS) for earlier, later in pairwise(delays))
    assert delays[-1] == LONGEST_SECONDS


def test_delays_are_drawn_from_the_upper_half() -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    backoff = Backoff(draw)
    assert [backoff.next_delay() for _ in range(5)] == [low for low, _ in drawn]
    assert all(low == high / 2 for low, high in drawn)


def test_clients_do_not_retry_simultaneously() -> None:
    one, other = Backoff(), Backoff()
    delays = {backoff.next_delay() for _ in range(10) for backoff in (one, other)}
    assert len(delays) > 10


def test_the_servers_wait_is_added_to_the_delay() -> None:
    backoff = Backoff(upper)
    assert backoff.next_delay(5) == 5 + FIRST_SECONDS
    assert backoff.next_delay() == 2 * FIRST_SECONDS


def test_success_resets_the_delay() -> None:
    backoff = Backoff(upper)
    for _ in range(5):
        backoff.next_delay()
    assert backoff.failures == 5
    backoff.reset()
    assert (backoff.failures, backoff.next_delay()) == (0, FIRST_SECONDS)


def test_days_without_a_server_do_not_overflow() -> None:
    backoff = Backoff(upper)
    for _ in range(5000):  # 2.0**1024 is too large for a float
        delay = backoff.next_delay()
    assert delay == LONGEST_SECONDS

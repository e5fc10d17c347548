"""Token buckets: never above the rate, never a longer wait than necessary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.core.pace import Rate, TokenBucket

DUST = 1e-6
"""What the rounding of floating point numbers may come to."""

rates = st.builds(Rate, st.floats(0.001, 1e6), st.integers(1, 1_000_000) | st.integers(1, 5))
pauses = st.lists(st.floats(0, 1000) | st.floats(0, 0.01) | st.just(0.0), max_size=60)
starts = st.floats(0, 1e7)


@given(rate=rates, start=starts, pauses=pauses)
def test_bucket_never_exceeds_burst_and_rate(rate: Rate, start: float, pauses: list[float]) -> None:
    now, bucket, taken = start, TokenBucket(rate, start), 0
    for pause in pauses:
        now += pause
        taken += not bucket.take(now)
        assert taken <= rate.burst + (now - start) * rate.per_second + DUST


@given(rate=rates, start=starts, pauses=pauses)
def test_waiting_the_announced_time_yields_a_token(
    rate: Rate, start: float, pauses: list[float]
) -> None:
    now, bucket = start, TokenBucket(Rate(rate.per_second, 1), start)
    for pause in pauses:
        now += pause
        wait = bucket.take(now)
        if wait:
            assert wait <= 1 / rate.per_second
            now += wait + DUST
            assert bucket.take(now) == 0.0


@given(rate=rates, early=st.floats(0, 0.99))
def test_waiting_less_yields_no_token(rate: Rate, early: float) -> None:
    bucket = TokenBucket(Rate(rate.per_second, 1), 0.0)
    assert bucket.take(0.0) == 0.0
    wait = bucket.take(0.0)
    assert bucket.take(wait * early) > 0


@pytest.mark.parametrize("burst", [1, 2, 50])
def test_burst_is_free_and_one_more_refused(burst: int) -> None:
    bucket = TokenBucket(Rate(10, burst), 5.0)
    assert [bucket.take(5.0) for _ in range(burst)] == [0.0] * burst
    assert bucket.take(5.0) == pytest.approx(0.1)


def test_refused_attempt_costs_nothing() -> None:
    bucket = TokenBucket(Rate(1, 1), 0.0)
    bucket.take(0.0)
    for tenth in range(1, 10):
        assert bucket.take(tenth / 10) == pytest.approx(1 - tenth / 10)
    assert bucket.take(1.0 + DUST) == 0.0


def test_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(Rate(10, 3), 0.0)
    assert [bucket.take(1e6) > 0 for _ in range(4)] == [False, False, False, True]


def test_bucket_is_full_at_first_and_after_refill() -> None:
    bucket = TokenBucket(Rate(2, 4), 0.0)
    assert bucket.level(0.0) == 1
    bucket.take(0.0)
    assert bucket.level(0.0) == pytest.approx(0.75)
    assert bucket.level(0.4) < 1
    assert bucket.level(0.5) == 1

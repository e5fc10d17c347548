"""The waits of a transfer: a stall ends it, and so does a rate below the minimum."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.errors import Code
from tchat.transfer.patience import GRACE_SECONDS, HASH_RATE, WINDOW_SECONDS, Patience, TooSlow

if TYPE_CHECKING:
    from trio.testing import MockClock

RATE = 1000
ENOUGH = int(RATE * WINDOW_SECONDS)
STALL = 50.0


async def transfer(patience: Patience, seconds: float, step: int, size: int) -> int:
    """Wait that long for each step of a transfer; return how far it comes."""
    offset = 0
    with suppress(TooSlow):
        while offset < size:
            with patience.wait():
                await trio.sleep(seconds)
            offset += step
            patience.on_progress(offset)
    return offset


async def test_a_byte_now_and_then_is_too_slow(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    assert await transfer(Patience(STALL, RATE), 40, 1, 1000) == 2
    assert trio.current_time() - start == GRACE_SECONDS + WINDOW_SECONDS


async def test_the_minimum_rate_is_enough(autojump_clock: MockClock) -> None:
    seconds, step = WINDOW_SECONDS / 2 - 1, ENOUGH // 2
    assert await transfer(Patience(STALL, RATE), seconds, step, 20 * step) == 20 * step
    assert await transfer(Patience(STALL, RATE), seconds, step // 2, 20 * step) == 3 * step


async def test_bursts_make_up_for_silence(autojump_clock: MockClock) -> None:
    assert await transfer(Patience(STALL, RATE), STALL - 1, ENOUGH, 9 * ENOUGH) == 9 * ENOUGH


async def test_a_stall_ends_a_fast_transfer(autojump_clock: MockClock) -> None:
    patience = Patience(STALL, RATE)
    patience.on_progress(100 * ENOUGH)
    with pytest.raises(trio.TooSlowError), patience.wait():
        await trio.sleep_forever()


async def test_without_a_minimum_any_rate_will_do(autojump_clock: MockClock) -> None:
    assert await transfer(Patience(STALL), 40, 1, 100) == 100


async def test_hashing_takes_the_time_it_needs(autojump_clock: MockClock) -> None:
    patience = Patience(STALL, RATE)
    patience.restart(0, hashed=1000 * HASH_RATE)
    start = trio.current_time()
    await transfer(patience, STALL - 1, 0, 1)
    assert trio.current_time() - start == 1000 + GRACE_SECONDS + WINDOW_SECONDS


def test_the_refusal_tells_the_rate() -> None:
    slow = TooSlow(RATE)
    assert (slow.code, slow.wait) == (Code.TOO_SLOW, None)
    assert "slower than 1.0 KB per second" in slow.sentence

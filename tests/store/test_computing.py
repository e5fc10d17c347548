"""Threads that compute give up the interpreter's lock soon, and only as long as they compute."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tchat.store.computing import SWITCH_SECONDS, compute, computing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.store.sqlite.store import SqliteStore

USUAL = 0.004


@pytest.fixture(autouse=True)
def _interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(USUAL)
    yield
    sys.setswitchinterval(before)


def interval() -> float:
    return round(sys.getswitchinterval(), 6)


def test_interval_is_short_until_all_have_computed() -> None:
    with computing():
        with pytest.raises(ZeroDivisionError), computing():
            1 / 0  # noqa: B018
        assert interval() == SWITCH_SECONDS
    assert interval() == USUAL


async def test_work_is_computed_in_a_thread() -> None:
    assert await compute(interval) == SWITCH_SECONDS
    assert interval() == USUAL


async def test_long_reads_and_writes_are_computed(sqlite: SqliteStore) -> None:
    database = sqlite.database
    assert await database.read(lambda _: interval()) == USUAL
    assert await database.write(lambda _: interval()) == USUAL
    assert await database.read_slowly(lambda _: interval()) == SWITCH_SECONDS
    assert await database.write(lambda _: interval(), alone=True) == SWITCH_SECONDS

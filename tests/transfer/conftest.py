"""A clock for time slices."""

from __future__ import annotations

import pytest

from tchat.transfer import time_slice as time_slice_module


class Clock:
    """A clock that advances only when a test does it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time_slice_module, "time", clock)
    return clock

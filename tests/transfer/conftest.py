"""A clock for the turns of threads."""

from __future__ import annotations

import pytest

from tchat.transfer import time_slice as turns


class Clock:
    """A clock that stands still, but while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(turns, "time", clock)
    return clock

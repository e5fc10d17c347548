"""The client's clock: the server's time, and what one wrong clock must not make it forget."""

from __future__ import annotations

from dataclasses import dataclass

from tchat.client.clock import LATEST_MS, ClientClock
from tests.client.clocks import YEARS

NOON = 1_795_341_720_000
HOUR = 3_600_000


@dataclass
class Machine:
    """A machine whose wall clock is ahead of the true time."""

    true: int = NOON
    ahead: int = 0

    def clock(self) -> ClientClock:
        return ClientClock(lambda: self.true + self.ahead, lambda: self.true - NOON)


def test_server_tells_the_time() -> None:
    machine = Machine(ahead=YEARS)
    clock = machine.clock()
    assert clock() == NOON + YEARS
    assert clock.on_welcome(NOON) == -YEARS
    machine.true += HOUR
    assert clock() == NOON + HOUR
    machine.ahead = -YEARS
    assert clock() == NOON + HOUR
    assert (clock.earliest(), clock.latest()) == (NOON + HOUR - YEARS, NOON + HOUR)


def test_silent_server_leaves_the_wall_clock() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.on_welcome(None)
    assert (clock(), clock.latest(), clock.earliest()) == (NOON, NOON, None)
    machine.ahead = YEARS
    assert clock() == NOON, "it is read once for each connection"
    clock.on_welcome(None)
    assert clock() == NOON + YEARS


def test_time_of_a_malicious_server_is_bounded() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.on_welcome(2**63 - 1)
    machine.true += HOUR
    assert clock() == LATEST_MS
    assert clock.earliest() == machine.true

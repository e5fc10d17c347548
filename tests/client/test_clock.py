"""The client's clock: the server's time, and what one wrong clock must not make it forget."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from tchat.api.groups import time_of
from tchat.client.clock import LATEST_MS, ClientClock
from tchat.client.files import automatic
from tchat.client.program_state import ProgramState
from tchat.core.protocol.converters import INT_LIMIT
from tchat.ui.chat.lines import date_text, day_of
from tests.client.clocks import YEARS

NOON = 1_795_341_720_000
HOUR = 3_600_000
ZONES = [timezone(timedelta(hours=hours)) for hours in (-12, 0, 14)]


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


TOLD = st.none() | st.sampled_from([0, 1, LATEST_MS, INT_LIMIT - 1]) | st.integers(0, INT_LIMIT - 1)


@given(st.lists(TOLD, min_size=1, max_size=4))
def test_any_server_is_bounded_by_the_wall_clock(told: list[int | None]) -> None:
    """What a server says on its connections leaves what is kept, and times that can be shown."""
    machine = Machine()
    clock = machine.clock()
    programs = ProgramState()
    programs.record_posted("honest", "bob", "ops", "key", 7, clock)
    shown = clock()
    for now in told:
        shown += clock.on_welcome(now)
        machine.true += HOUR
        assert shown + HOUR == clock() or clock() == LATEST_MS
        shown = clock()
        earliest = clock.earliest()
        assert earliest is None or earliest <= machine.true <= clock.latest() <= LATEST_MS
        programs.record_posted("other", "bob", "ops", "key", 1, clock)
        assert all(time_of(clock()).astimezone(zone) for zone in ZONES)
        assert day_of(clock())
        assert date_text(clock())
        assert automatic._day_text(clock())
    kept = programs.posted(["honest"], "bob", "ops", "key")
    assert kept is not None
    assert kept.seq == 7
    programs.close()


def test_latest_time_is_in_every_time_zone() -> None:
    assert [time_of(INT_LIMIT - 1).astimezone(zone).year for zone in ZONES] == [9998, 9999, 9999]

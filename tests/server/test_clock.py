"""The server's clock: what it believes, what it waits for, and what it tells."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.machine_clocks import DAY_MS, now_ms
from tchat.server.clock import (
    EARLIEST_MS,
    PLAUSIBLE_MS,
    ServerClock,
    is_synchronised,
)

MINUTE, HOUR = 60_000, 3_600_000
YEARS = 3652 * DAY_MS  # ten
NOON = 1_795_341_720_000


@dataclass
class Machine:
    """A machine: the true time, what its wall clock is ahead of it, and whether NTP runs."""

    directory: Path
    true: int = NOON
    ahead: int = 0
    is_synchronised: bool = False
    told: list[str] = field(default_factory=list)
    facts: dict[str, str | int] = field(default_factory=dict)

    def start(self, newest: int = 0) -> ServerClock:
        """Start a process that uses the clock."""
        clock = ServerClock(
            lambda: self.true + self.ahead, self._steady, lambda _: self.is_synchronised, self._tell
        )
        if not clock.resume(self.directory):
            clock.resume_at(newest)
        return clock

    def run(self, clock: ServerClock, period: int, step: int = MINUTE) -> None:
        """Let time pass, while the process looks at its clock every `step`."""
        end = self.true + period
        while self.true < end:
            self.true = min(end, self.true + step)
            clock()

    def _steady(self) -> int:
        return self.true - NOON

    def _tell(self, kind: str, **facts: str | int) -> None:
        self.told.append(kind)
        self.facts = facts


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with a right clock."""
    return Machine(tmp_path)


def off(machine: Machine, clock: ServerClock, period: int) -> ServerClock:
    """Stop the process, and start the next one after a while."""
    clock.save()
    machine.true += period
    return machine.start()


def test_right_clock_is_followed(machine: Machine) -> None:
    clock = machine.start()
    machine.run(clock, DAY_MS, HOUR)
    assert clock() == clock.timer() == clock.expiry_time() == machine.true
    machine.ahead = -20_000
    assert clock() == machine.true - 20_000, "a correction by NTP"
    assert machine.told == []


@pytest.mark.parametrize("jump", [YEARS, -YEARS, -2 * HOUR, 2 * PLAUSIBLE_MS])
def test_jump_while_running_is_not_followed(machine: Machine, jump: int) -> None:
    clock = machine.start()
    machine.run(clock, HOUR)
    machine.ahead = jump
    machine.run(clock, HOUR)
    assert clock() == clock.timer() == machine.true
    assert clock.expiry_time() is None
    assert machine.told == ["clock_jumped"], "only once"
    machine.ahead = 0
    assert clock() == clock.expiry_time() == machine.true
    assert machine.told == ["clock_jumped", "clock_right"]


@pytest.mark.parametrize("jump", [YEARS, -YEARS, -HOUR])
def test_jump_between_two_runs_is_not_followed(machine: Machine, jump: int) -> None:
    clock = machine.start()
    machine.run(clock, HOUR)
    before = machine.true
    clock.save()
    machine.true += 5 * MINUTE
    machine.ahead = jump
    clock = machine.start()
    assert clock() == clock.timer() == before, "nobody knows how long the machine was off"
    assert clock.expiry_time() is None
    assert machine.told == ["clock_jumped"]
    machine.ahead = 0
    machine.run(clock, HOUR)
    assert clock() == clock.timer() == clock.expiry_time() == machine.true
    assert machine.told == ["clock_jumped", "clock_right"]


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
def test_newest_event_stands_in_for_the_saved_time(machine: Machine, jump: int) -> None:
    machine.ahead = jump
    clock = machine.start(newest=NOON - DAY_MS)
    assert (clock(), clock.expiry_time()) == (NOON - DAY_MS, None)


def test_damaged_file_counts_as_none(machine: Machine) -> None:
    for data in (b"", b"[1", b"[1, 2]", b'["a", 0, 0]', b"[1795341720000, -1, 0]", b"\xff"):
        (machine.directory / "clock").write_bytes(data)
        assert machine.start(newest=NOON - 5)() == NOON


def test_night_off_is_no_glitch(machine: Machine) -> None:
    clock = machine.start()
    for _ in range(100):
        clock = off(machine, clock, 16 * HOUR)
        assert clock() == clock.timer() == machine.true
        assert (clock.expiry_time() or 0) >= machine.true - 16 * HOUR
        machine.run(clock, 8 * HOUR, HOUR)
        assert clock.expiry_time() == machine.true
    assert machine.told == []


def test_holidays_delay_what_expires(machine: Machine) -> None:
    clock = off(machine, machine.start(), 14 * DAY_MS)
    assert clock() == clock.timer() == machine.true
    assert clock.expiry_time() is None
    machine.run(clock, 4 * HOUR)
    assert clock.expiry_time() == machine.true
    assert machine.told == ["clock_jumped", "clock_right"]


def test_suspended_machine_has_not_jumped(machine: Machine) -> None:
    clock = machine.start()
    machine.true += 3 * DAY_MS  # the steady clock counts them
    assert clock() == clock.expiry_time() == machine.true
    assert machine.told == []


@pytest.mark.parametrize("battery", ["none", "the time of the last shutdown"])
def test_correction_by_ntp_is_followed(machine: Machine, battery: str) -> None:
    clock = machine.start()
    clock.save()
    machine.ahead = -NOON if battery == "none" else -90 * DAY_MS
    machine.true += 90 * DAY_MS
    clock = machine.start()
    machine.run(clock, MINUTE)
    machine.ahead, machine.is_synchronised = 0, True
    machine.run(clock, 2000, 1000)
    assert clock() == clock.timer() == clock.expiry_time() == machine.true


def test_first_start_without_battery_follows_ntp(machine: Machine) -> None:
    machine.ahead = -NOON
    clock = machine.start()
    assert EARLIEST_MS <= clock() < EARLIEST_MS + MINUTE
    clock = off(machine, clock, MINUTE)
    machine.ahead = 0
    assert clock() == machine.true
    machine.run(clock, 20 * DAY_MS, HOUR)
    assert clock.expiry_time() == machine.true


def test_operator_confirms_the_clock(machine: Machine) -> None:
    clock = off(machine, machine.start(), YEARS)
    assert clock() == NOON
    assert clock.trust() == clock() == clock.expiry_time() == machine.true
    clock = off(machine, clock, 0)
    assert clock() == clock.expiry_time() == machine.true, "the next process knows it"


def test_clock_set_back_is_followed_after_as_long(machine: Machine) -> None:
    machine.ahead = 2 * HOUR  # the wrong time zone
    clock = machine.start()
    machine.run(clock, HOUR)
    machine.ahead = 0
    machine.run(clock, 2 * HOUR - MINUTE)
    assert clock() == machine.true + 2 * HOUR
    machine.run(clock, 2 * MINUTE)
    assert clock() == machine.true


@pytest.mark.parametrize("is_synchronised", [False, True])
def test_periods_are_exact_when_clock_goes_back(machine: Machine, is_synchronised: bool) -> None:
    machine.ahead = 2 * HOUR
    clock = machine.start()
    begin, expires = machine.true, clock.timer() + 30 * MINUTE
    machine.ahead, machine.is_synchronised = 0, is_synchronised
    machine.run(clock, 10 * MINUTE)
    clock = off(machine, clock, 10 * MINUTE)
    machine.run(clock, 10 * MINUTE - MINUTE)
    if is_synchronised:
        assert clock.timer() < expires
    machine.run(clock, 2 * MINUTE)
    if is_synchronised:
        assert clock.timer() >= expires
        assert clock() == machine.true
    assert machine.true - begin == 31 * MINUTE


def test_periods_survive_a_clock_that_jumped_ahead(machine: Machine) -> None:
    clock = machine.start()
    expires = clock.timer() + 30 * MINUTE
    machine.ahead = 2 * HOUR
    clock = off(machine, clock, 5 * MINUTE)
    machine.run(clock, 30_000, 1000)
    machine.ahead = 0
    machine.run(clock, 10 * MINUTE)
    assert clock.timer() < expires
    machine.run(clock, 15 * MINUTE)
    assert clock.timer() >= expires


def test_line_says_both_times_and_what_follows(machine: Machine) -> None:
    clock = machine.start()
    machine.ahead = YEARS
    clock()
    assert machine.facts["shown"] == "2036-11-21 10:02:00 UTC"
    assert machine.facts["expected"] == "2026-11-22 10:02:00 UTC"
    assert "tchat admin trust-clock" in str(machine.facts["what"])


def test_kernel_does_not_confirm_another_time() -> None:
    assert not is_synchronised(now_ms() + YEARS)
    assert not is_synchronised(now_ms() - YEARS)


WALKS = st.lists(
    st.tuples(
        st.sampled_from(["run", "run", "restart", "kill"]),
        st.sampled_from([0, 0, 1, -1, MINUTE, -2 * HOUR, 2 * HOUR, YEARS, -YEARS, -NOON]),
        st.sampled_from([1, MINUTE, 10 * MINUTE, 3 * HOUR, 20 * HOUR]),
    ),
    max_size=12,
)


@given(walk=WALKS)
def test_walks_of_the_wall_clock(walk: list[tuple[str, int, int]]) -> None:
    """The time stays near the true one, periods are no longer, and nothing expires too early."""
    with tempfile.TemporaryDirectory() as directory:
        take_walk(Machine(Path(directory)), walk)


def take_walk(machine: Machine, walk: list[tuple[str, int, int]]) -> None:
    """Take the steps of a walk, and check the clock after each."""
    clock = machine.start()
    machine.run(clock, HOUR, 10 * MINUTE)
    clock.save()
    began, timer, ran = machine.true, clock.timer(), 0
    for deed, ahead, period in walk:
        if deed != "run":
            if deed == "restart":
                clock.save()
            machine.true += period
            machine.ahead = ahead
            clock = machine.start()
        else:
            machine.ahead = ahead
            clock()
            machine.run(clock, period, max(1, period // 10))
            clock.save()
            ran += period
        assert clock.timer() - timer >= ran - 1000, "what passed while a process ran is counted"
        assert clock() <= machine.true + PLAUSIBLE_MS
        assert (clock.expiry_time() or 0) <= machine.true + DAY_MS
    machine.ahead, machine.is_synchronised = 0, True
    machine.run(clock, 2000, 1000)
    assert clock() == clock.expiry_time() == machine.true, "it heals"
    assert clock.timer() - timer >= machine.true - began - 1000, "no period is longer than it says"

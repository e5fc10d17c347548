"""The server's clock: the time of events, and the time by which periods are measured.

The wall clock of a machine is wrong now and then: it starts in 1970 without a battery, is off by a
time zone, or is set to another year by a typing error; later, it is corrected. The log remembers
every date for ever, since `at` never decreases within a group, and expired files and messages are
gone for ever. So a wall clock is believed only as far as that can do no lasting harm. As in NTP,
small differences are followed, and a large one (a step) has to be confirmed first.

**The reckoned time** is the yardstick: the last time that was certain, plus what a steady clock has
counted since. The steady clock is CLOCK_BOOTTIME, which goes on while the machine is suspended, so
that a laptop that slept for three days has not jumped. Between two processes nothing counts; the
reckoned time goes on from where the former process saved it (`ServerClock.save`), or from the
newest event in the store. A wall clock that shows

- about the reckoned time is right, and is followed;
- up to `PLAUSIBLE_MS` more is *believed*: the server was off, or the machine starts without a
  battery and NTP corrects it. Events get these dates. Beyond a day, nothing expires yet;
- more than that, or less than the reckoned time, is *doubted*: events get the reckoned time, and
  nothing expires. If the server was off for months, that is too early; once the clock is confirmed,
  later events are dated right. A date that is years ahead could not be undone: all later events
  would have to follow it.

A difference is confirmed, and the reckoned time is set by the wall clock, forwards or backwards,

- when the kernel says that the clock is synchronised (by NTP or PTP). It withdraws that when
  somebody sets the clock by hand;
- when the operator says so (`tchat admin trust-clock`);
- when time has passed: a hundredth of the difference if the clock is believed, and as much as the
  difference if it is doubted. A clock that was two hours ahead at the start is followed two hours
  after it was corrected, and one that is ten years ahead never gets so far.

Clients are not asked: a stranger could set the server's clock, and theirs are no better. A new
directory has no reference, so any time after `EARLIEST_MS` is believed.

**Periods**, such as how long an invite is valid, must neither grow when the clock is set back, nor
end when it jumps ahead and comes back. They are measured by a second scale, `timer`: the reckoned
time plus a lead that makes up for each correction backwards. It never goes slower than real time.
Both scales are the same on a server whose clock was never set back.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import trio

from tchat.machine_clocks import DAY_MS, now_ms, steady_ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Protocol

    class Report(Protocol):
        """Writes a line to the log; see `Log.line`."""

        def __call__(self, kind: str, **facts: str | int) -> None:
            """Write a line of a kind."""


JITTER_MS = 1000
"""A smaller difference is ignored."""

TOLERANCE_MS = 60_000
"""A smaller difference is a correction by NTP, or by hand, and is followed."""

PLAUSIBLE_MS = 30 * DAY_MS
"""How far a clock may be ahead of the reckoned time, and still give the dates of events."""

EARLIEST_MS = 1_704_067_200_000
"""The beginning of 2024: this program is younger than that, so an earlier clock is wrong."""

_BELIEVED_AFTER = 100
_CHECK_MS = 1000  # between two questions to the kernel
_SAVE_SECONDS = 60.0
_FILE = "clock"

_FOLLOWED = (
    "events are dated by it, and nothing expires until it is confirmed (if it is right:"
    " tchat admin trust-clock)"
)
_NOT_FOLLOWED = (
    "it is not used, and nothing expires, until it is corrected or confirmed (if it is right:"
    " tchat admin trust-clock)"
)


_UNSYNCHRONISED, _NANOSECONDS = 0x40, 0x2000  # STA_UNSYNC, STA_NANO of adjtimex(2)
_STATUS_AT, _TIME_AT, _TIMEX_SIZE = 40, 72, 512  # in `struct timex`, where a long has 64 bits
_AGREES_MS = 10_000


def is_synchronised(wall: int) -> bool:
    """Return whether the kernel says that its clock is synchronised, and that shows `wall`.

    It does not if `wall` comes from elsewhere, such as a library that fakes the time for a process.
    """
    if sys.platform != "linux" or struct.calcsize("l") != 8:
        return False
    timex = ctypes.create_string_buffer(_TIMEX_SIZE)  # all zero: only read
    try:
        if ctypes.CDLL(None).adjtimex(timex) < 0:
            return False
    except (OSError, AttributeError):
        return False
    (status,) = struct.unpack_from("i", timex, _STATUS_AT)
    seconds, rest = struct.unpack_from("qq", timex, _TIME_AT)
    kernel = seconds * 1000 + rest // (1_000_000 if status & _NANOSECONDS else 1000)
    return not status & _UNSYNCHRONISED and abs(kernel - wall) < _AGREES_MS


class Mark(NamedTuple):
    """What a process leaves to the next one; all in ms.

    `reckoned` is the reckoned time, `lead` what the timer is ahead of it, and `believed` what the
    believed time was ahead; None if there was no reference yet.
    """

    reckoned: int
    lead: int
    believed: int | None


class _Suspect(NamedTuple):
    """A difference that waits to be confirmed: since when, by the steady clock."""

    since: int
    run: int  # the wall clock minus the steady clock: another one is another jump


class ServerClock:
    """The time of a server, in ms since the Unix epoch; see the module.

    `wall` and `steady` return ms, `confirms` says whether a time of the wall clock is synchronised,
    and `report` writes a line to the log.
    """

    def __init__(
        self,
        wall: Callable[[], int] = now_ms,
        steady: Callable[[], int] = steady_ms,
        confirms: Callable[[int], bool] = is_synchronised,
        report: Report | None = None,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._confirms = confirms
        self._report = report
        self._path: Path | None = None
        self._suspect: _Suspect | None = None
        self._told: _Suspect | None = None  # what the log says is wrong
        self._check_at = 0
        self._anchor = steady()
        self._start_at(Mark(max(wall(), EARLIEST_MS), 0, None))

    def _start_at(self, mark: Mark) -> None:
        self._anchor = self._steady()
        self._reckoned = mark.reckoned  # at `_anchor`
        self._lead = mark.lead
        self._believed = mark.believed
        self._is_settled = False  # whether the clock was right since the start of the process
        self._ahead = 0  # of the reckoned time: by how much the clock is believed
        self._downtime = 0  # before this process, as far as the clock is believed
        self._is_near = False  # whether the clock is at most a day ahead of the reckoned time
        self._is_certain = False
        self()

    def resume(self, directory: Path) -> bool:
        """Go on from where the former process that used a directory has stopped.

        Return False if it has saved nothing; then the newest event says more, see `resume_at`.
        """
        self._path = directory / _FILE
        if (mark := _read(self._path)) is None:
            return False
        self._start_at(mark)
        return True

    def resume_at(self, newest: int) -> None:
        """Go on from the time of the newest event; 0 if there is none."""
        if newest:
            self._start_at(Mark(newest, 0, 0))

    def __call__(self) -> int:
        """Return the time for dates. It goes back if the clock was ahead and is corrected."""
        wall, steady = self._wall(), self._steady()
        reckoned = self._reckoned + steady - self._anchor
        offset = wall - reckoned
        if -JITTER_MS <= offset <= JITTER_MS:
            if not self._is_certain or self._ahead:
                self._settle(wall)
            return wall
        if abs(offset) <= TOLERANCE_MS or self._is_confirmed(wall, steady, offset):
            self._step(wall, steady, offset)
            return wall
        self._is_certain = False
        is_plausible = self._is_plausible(offset)
        if is_plausible and not self._is_settled:
            self._downtime = offset
        self._ahead = offset if is_plausible else self._downtime
        self._is_near = 0 < offset <= DAY_MS
        is_ordinary = self._is_near and not self._is_settled  # the server was off for a while
        if self._told is not self._suspect and not is_ordinary:
            self._told = self._suspect
            self._tell_jump(wall, reckoned, _FOLLOWED if is_plausible else _NOT_FOLLOWED)
        return reckoned + self._ahead

    def timer(self) -> int:
        """Return the time by which periods are measured; see the module."""
        self()
        reckoned = self._reckoned + self._steady() - self._anchor
        # What has passed while no process ran: the wall clock is all that knows it. It is not
        # certain yet, so it is only added to what is returned.
        return reckoned + self._lead + self._downtime

    def expiry_time(self) -> int | None:
        """Return the time by which files and messages expire; None if nothing may expire now.

        It is never ahead of the reckoned time, unless that is confirmed.
        """
        now, reckoned = self(), self._reckoned + self._steady() - self._anchor
        if self._is_certain:
            return now
        return reckoned if self._is_near else None

    def trust(self) -> int:
        """Use the wall clock as it is, since the operator says that it is right; return it."""
        wall, steady = self._wall(), self._steady()
        self._step(wall, steady, wall - (self._reckoned + steady - self._anchor))
        self.save()
        return wall

    def save(self) -> None:
        """Save the state for the next process. A failure is ignored: it is only more cautious then.

        The file need not survive a power failure either, so nothing is synced.
        """
        if self._path is None:
            return
        self()
        reckoned = self._reckoned + self._steady() - self._anchor
        believed = None if self._believed is None else max(self._believed, self._ahead)
        new = self._path.with_name(f"{_FILE}.new")
        with suppress(OSError):
            new.write_text(json.dumps(Mark(reckoned, self._lead, believed)))
            new.replace(self._path)

    def _is_plausible(self, offset: int) -> bool:
        return offset > 0 and (self._believed is None or offset <= self._believed + PLAUSIBLE_MS)

    def _is_confirmed(self, wall: int, steady: int, offset: int) -> bool:
        run = wall - steady
        if self._suspect is None or abs(run - self._suspect.run) > TOLERANCE_MS:
            self._suspect = _Suspect(steady, run)
            self._check_at = steady
        needed = offset // _BELIEVED_AFTER if self._is_plausible(offset) else abs(offset)
        if steady - self._suspect.since >= max(needed, TOLERANCE_MS):
            return True
        if steady < self._check_at:
            return False
        self._check_at = steady + _CHECK_MS
        return self._confirms(wall)

    def _step(self, wall: int, steady: int, offset: int) -> None:
        """Set the reckoned time by the wall clock."""
        if offset < 0:
            self._lead -= offset
        self._reckoned, self._anchor = wall, steady
        self._settle(wall)

    def _settle(self, wall: int) -> None:
        """Note that the clock is right."""
        self._suspect = None
        self._ahead = self._downtime = 0
        self._is_certain = self._is_settled = True
        self._believed = 0
        if self._told is not None and self._report is not None:
            self._report("clock_right", shown=_text(wall))
        self._told = None

    def _tell_jump(self, wall: int, reckoned: int, what: str) -> None:
        if self._report is not None:
            self._report("clock_jumped", shown=_text(wall), expected=_text(reckoned), what=what)


async def keep_clock(clock: ServerClock) -> None:
    """Save the clock's state every minute. Never returns.

    It also looks at the clock, so that a jump is told, and heals, while nobody says anything.
    """
    while True:
        clock.save()
        await trio.sleep(_SAVE_SECONDS)


def _read(path: Path) -> Mark | None:
    """Return what is saved in a file; None if there is nothing, or it is damaged."""
    try:
        match json.loads(path.read_bytes()):
            case [int(reckoned), int(lead), int() | None as believed] if (
                reckoned >= EARLIEST_MS and lead >= 0 and (believed is None or believed >= 0)
            ):
                return Mark(reckoned, lead, believed)
    except (OSError, ValueError, RecursionError):
        return None
    return None


def _text(at: int) -> str:
    """Return a time for the log, in UTC."""
    try:
        return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{at} ms"

"""The client's clock: the server's time, and what may be forgotten after a period.

The wall clock of a person's machine may be off by years: without a battery, after a typing error,
or until NTP has set it. Two kinds of times must not suffer from that.

**Times that meet dates of the log**, such as those of `--since 2h`, of the program's own lines
between messages, or of the next permitted request. The log is dated by the server, so these are
the server's time: what it said in its last welcome, plus what a clock that nobody can set has
counted since. Until the first welcome, and with a server that does not say it, the wall clock is
all there is; then too, it is only read once for each connection, so that nothing jumps meanwhile.

**What is kept on this machine for a period**, such as the keys of messages. It is lost for ever if
it is forgotten because of a wrong clock, while to keep it longer costs some bytes. So it is dated
by the later one of the wall clock and the server's time, and forgotten by the earlier one: one
wrong clock, on either side, forgets nothing. If only one is known, nothing is forgotten.

A server decides what it says its time is, as it decides the dates of its log. Neither can do more
than the wall clock allows to what is kept here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.machine_clocks import now_ms, steady_ms

if TYPE_CHECKING:
    from collections.abc import Callable

LATEST_MS = 253_370_764_800_000
"""The beginning of the year 9999: many functions for dates reject later times from a server."""


class ClientClock:
    """Clock of a session: the server's time, in ms since the Unix epoch.

    `wall` and `steady` return ms.
    """

    def __init__(
        self, wall: Callable[[], int] = now_ms, steady: Callable[[], int] = steady_ms
    ) -> None:
        self.wall = wall
        self._steady = steady
        self._offset: int | None = None  # of the server's time to the steady clock
        self._is_told = False

    def on_welcome(self, now: int | None) -> int:
        """Go by the server's time, if it says that; return by how much the time changes."""
        before = self()
        self._is_told = now is not None
        now = self.wall() if now is None else min(now, LATEST_MS)
        self._offset = now - self._steady()
        return now - before

    def __call__(self) -> int:
        """Return the server's time."""
        if self._offset is None:
            return self.wall()
        return min(self._steady() + self._offset, LATEST_MS)

    def latest(self) -> int:
        """Return the date for what is kept for a period, beginning now."""
        return max(self.wall(), self())

    def earliest(self) -> int | None:
        """Return the time by which that is forgotten; None if nothing may be forgotten now."""
        return min(self.wall(), self()) if self._is_told else None

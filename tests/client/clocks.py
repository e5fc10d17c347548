"""Clocks of clients whose machine, or server, shows a wrong time."""

from __future__ import annotations

from tchat.client.clock import ClientClock
from tchat.machine_clocks import DAY_MS, now_ms

YEARS = 3652 * DAY_MS  # ten


def told(wall: int = 0, server: int = 0) -> ClientClock:
    """Return the clock of a session; the wall clock and the server's are ahead by so many ms."""
    clock = ClientClock(lambda: now_ms() + wall)
    clock.on_welcome(now_ms() + server)
    return clock

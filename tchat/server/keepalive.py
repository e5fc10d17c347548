"""Keepalive timeout: disconnect clients that have been silent for too long.

Clients send a `Ping` when they have nothing else to send. So a silent client has hung, or has lost
its network without TCP noticing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.errors import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.server.presence import Presence

_CHECKS = 12  # per timeout, so that a client is disconnected at most 1/12 of it too late


async def disconnect_silent_clients(
    presence: Presence, silence_seconds: Callable[[], float]
) -> None:
    """Disconnect each client that sent nothing for that many seconds. Never returns.

    `silence_seconds` is called for each check, since a reload may change the limit.
    """
    while True:
        await trio.sleep(silence_seconds() / _CHECKS)
        oldest = trio.current_time() - silence_seconds()
        for connection in presence.connections():
            if connection.last_heard < oldest:
                connection.disconnect(
                    Code.IDLE, "The server has heard nothing from this client for too long."
                )

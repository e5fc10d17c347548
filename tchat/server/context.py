"""What every connection of one server shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tchat.core.pace import Rate, TokenBucket
from tchat.errors import Code, Refused
from tchat.server.clock import now_ms
from tchat.server.limits import Limits, Rates, UnauthenticatedLimiter
from tchat.server.presence import Presence
from tchat.server.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.net.tls import Credentials
    from tchat.server.accounts import AccountManager, GroupQuota
    from tchat.server.groups.registry import Registry
    from tchat.server.log import Log
    from tchat.store.base import Store

STOPPING = (Code.SHUTTING_DOWN, "The server is stopping; this client will reconnect.")
_BUSY_LINES = Rate(1, 5)


@dataclass(slots=True)
class ServerContext:
    """One server's store, groups, log and limits, and the crowd it holds."""

    store: Store
    registry: Registry
    log: Log
    people: AccountManager
    memberships: GroupQuota
    crowd: Presence = field(default_factory=Presence)
    limits: Limits = field(default_factory=Limits)
    credentials: Credentials | None = None
    clock: Callable[[], int] = now_ms
    tickets: Tickets = field(default_factory=Tickets)
    introductions: set[trio.CancelScope] = field(default_factory=set)
    open: int = 0
    stopping: bool = False
    busy_words: int = 0
    rates: Rates = field(init=False)
    strangers: UnauthenticatedLimiter = field(init=False)
    _busy_lines: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        self.rates = Rates(self.limits)
        self.strangers = UnauthenticatedLimiter(self.limits)
        self._busy_lines = TokenBucket(_BUSY_LINES, trio.current_time())

    @property
    def pin(self) -> bytes:
        """What clients know this server by; empty without TLS."""
        return self.credentials.pin if self.credentials else b""

    def may_log_busy(self) -> bool:
        """Return whether it is time for a line about strangers that were sent away."""
        return not self._busy_lines.take(trio.current_time())

    def check_open(self) -> None:
        """Raise `Refused` (busy) if there are more connections than the server bears."""
        if self.open > self.limits.connections:
            raise Refused(Code.BUSY, "This server has as many connections as it may.", 1000)

    def stop(self) -> None:
        """Let nobody in any more, and send everybody away with a word."""
        self.stopping = True
        for introduction in self.introductions:
            introduction.cancel()
        for guest in self.crowd.guests():
            guest.end(*STOPPING)

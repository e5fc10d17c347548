"""What every connection of one server shares."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from tchat.core.pace import Bucket, Rate
from tchat.core.text import fold
from tchat.errors import Code, Refused
from tchat.server.clock import now_ms
from tchat.server.limits import Limits, Rates, Strangers
from tchat.server.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.core.state import Author
    from tchat.net.tls import Credentials
    from tchat.server.log import Log
    from tchat.server.people import Memberships, People
    from tchat.server.registry import Registry
    from tchat.store.base import Store

STOPPING = (Code.SHUTTING_DOWN, "The server is stopping; this client will reconnect.")
_BUSY_LINES = Rate(1, 5)


class Guest(Protocol):
    """A conversation, as far as the server as a whole has to know one."""

    @property
    def author(self) -> Author:
        """The person, and the client that speaks for them here."""

    @property
    def heard(self) -> float:
        """The `trio.current_time()` at which the client was last heard."""

    def end(self, code: Code, sentence: str) -> None:
        """Say goodbye and end the conversation once that is sent."""


@dataclass(slots=True)
class Host:
    """One server's store, groups, log, limits, and the conversations it holds."""

    store: Store
    registry: Registry
    log: Log
    people: People
    memberships: Memberships
    limits: Limits = field(default_factory=Limits)
    credentials: Credentials | None = None
    clock: Callable[[], int] = now_ms
    tickets: Tickets = field(default_factory=Tickets)
    conversations: dict[tuple[str, bytes], Guest] = field(default_factory=dict)
    introductions: set[trio.CancelScope] = field(default_factory=set)
    present: Counter[str] = field(default_factory=Counter)
    open: int = 0
    stopping: bool = False
    busy_words: int = 0
    rates: Rates = field(init=False)
    strangers: Strangers = field(init=False)
    _busy_lines: Bucket = field(init=False)

    def __post_init__(self) -> None:
        self.rates = Rates(self.limits)
        self.strangers = Strangers(self.limits)
        self._busy_lines = Bucket(_BUSY_LINES, trio.current_time())

    @property
    def pin(self) -> bytes:
        """What clients know this server by; empty without TLS."""
        return self.credentials.pin if self.credentials else b""

    def may_log_busy(self) -> bool:
        """Return whether it is time for a line about strangers that were sent away."""
        return not self._busy_lines.take(trio.current_time())

    def come(self, guest: Guest) -> None:
        """Know a conversation, and end the one that this client, or a copy of it, held before.

        A client's numbers say what is a repetition only while one process counts with them.
        """
        older = self.conversations.get(_who(guest))
        if older is not None:
            older.end(Code.REPLACED, "The same client, or a copy of it, has connected anew.")
        self.conversations[_who(guest)] = guest
        self.present[fold(guest.author.name)] += 1

    def go(self, guest: Guest) -> None:
        """Forget a conversation that has ended."""
        if self.conversations.get(_who(guest)) is guest:
            del self.conversations[_who(guest)]
        person = fold(guest.author.name)
        self.present[person] -= 1
        if not self.present[person]:
            del self.present[person]

    def check_open(self) -> None:
        """Raise `Refused` (busy) if there are more connections than the server bears."""
        if self.open > self.limits.connections:
            raise Refused(Code.BUSY, "This server has as many connections as it may.", 1000)

    def check_room(self, author: Author) -> None:
        """Raise `Refused` (too_many) for one who has as many conversations as one may."""
        limit, person = self.limits.devices, fold(author.name)
        again = (person, author.client) in self.conversations
        if not again and self.present[person] >= limit:
            raise Refused(Code.TOO_MANY, f"You are connected {limit} times, which is all one may.")

    def lock_out(self, name: str, key: bytes | None, sentence: str) -> None:
        """End the conversations that were begun with a key, or with any, of a person."""
        for (person, _), guest in list(self.conversations.items()):
            if person == fold(name) and key in (None, guest.author.key):
                guest.end(Code.KEY_REMOVED, sentence)

    def stop(self) -> None:
        """Let nobody in any more, and send everybody away with a word."""
        self.stopping = True
        for introduction in self.introductions:
            introduction.cancel()
        for guest in list(self.conversations.values()):
            guest.end(*STOPPING)


def _who(guest: Guest) -> tuple[str, bytes]:
    return fold(guest.author.name), guest.author.client

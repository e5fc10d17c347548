"""What every connection of one server shares."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import trio

from tchat.core.handshake import TICKET_SIZE
from tchat.core.text import fold
from tchat.errors import Code, Refused
from tchat.server.clock import now_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.core.group import Author
    from tchat.server.log import Log
    from tchat.server.registry import Registry
    from tchat.store.base import Store

TICKET_SECONDS = 60.0
STOPPING = (Code.SHUTTING_DOWN, "The server is stopping; this client will reconnect.")
_MOST_UPLOADS_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one client may ask for, and how long it may take. Sizes in bytes."""

    file: int = 1 << 30
    handshake_seconds: float = 10.0
    silence_seconds: float = 60.0
    stall_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Permission:
    """What a ticket is good for: one file, one way. `sha256` is known for downloads only."""

    way: Literal["upload", "download"]
    user: str
    size: int
    sha256: bytes = b""


class Tickets:
    """One-use tickets for transfer connections, valid for `TICKET_SECONDS`."""

    def __init__(self) -> None:
        self._issued: OrderedDict[bytes, tuple[float, Permission]] = OrderedDict()

    def issue(self, permission: Permission) -> bytes:
        """Return a new ticket."""
        now = trio.current_time()
        while self._issued and next(iter(self._issued.values()))[0] < now:
            self._issued.popitem(last=False)
        ticket = secrets.token_bytes(TICKET_SIZE)
        self._issued[ticket] = (now + TICKET_SECONDS, permission)
        return ticket

    def redeem(self, ticket: bytes) -> Permission:
        """Return what the ticket was for and forget it. Raises `Refused` (bad_ticket)."""
        deadline, permission = self._issued.pop(ticket, (0.0, None))
        if permission is None or deadline < trio.current_time():
            raise Refused(Code.BAD_TICKET, "This transfer was not announced, or too long ago.")
        return permission


class Uploads:
    """Who has sent which file: only that may be shared. A digest alone proves nothing."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[tuple[str, bytes], int] = OrderedDict()

    def note(self, user: str, sha256: bytes, size: int) -> None:
        """Remember that `user` has uploaded a file."""
        self._sizes[fold(user), sha256] = size
        while len(self._sizes) > _MOST_UPLOADS_REMEMBERED:
            self._sizes.popitem(last=False)

    def check(self, user: str, sha256: bytes, size: int) -> None:
        """Raise `Refused` (not_uploaded) unless `user` has uploaded that file."""
        if self._sizes.get((fold(user), sha256)) != size:
            raise Refused(Code.NOT_UPLOADED, "The file has to be uploaded before it is shared.")


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
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], int] = now_ms
    tickets: Tickets = field(default_factory=Tickets)
    uploads: Uploads = field(default_factory=Uploads)
    conversations: dict[tuple[str, bytes], Guest] = field(default_factory=dict)
    introductions: set[trio.CancelScope] = field(default_factory=set)
    stopping: bool = False

    def come(self, guest: Guest) -> None:
        """Know a conversation, and end the one that this client, or a copy of it, held before.

        A client's numbers say what is a repetition only while one process counts with them.
        """
        older = self.conversations.get(_who(guest))
        if older is not None:
            older.end(Code.REPLACED, "The same client, or a copy of it, has connected anew.")
        self.conversations[_who(guest)] = guest

    def go(self, guest: Guest) -> None:
        """Forget a conversation that has ended."""
        if self.conversations.get(_who(guest)) is guest:
            del self.conversations[_who(guest)]

    def stop(self) -> None:
        """Let nobody in any more, and send everybody away with a word."""
        self.stopping = True
        for introduction in self.introductions:
            introduction.cancel()
        for guest in list(self.conversations.values()):
            guest.end(*STOPPING)


def _who(guest: Guest) -> tuple[str, bytes]:
    return fold(guest.author.name), guest.author.client

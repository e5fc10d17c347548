"""Tickets: what a person is allowed in the chat, to be done on a connection of its own."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import trio

from tchat.core.protocol.handshake import TICKET_SIZE
from tchat.core.text import fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tchat.core.protocol.frames import Standing

TICKET_SECONDS = 60.0
MOST_TRANSFERS = 32
"""How many tickets and transfers one person may have at a time."""


@dataclass(frozen=True, slots=True)
class Permission:
    """What a ticket is good for: one file, one way.

    An upload is known by the digest of its first piece, `head`; a download is of the file with
    `sha256`, the `number`-th of `group`.
    """

    way: Literal["upload", "download"]
    user: str
    size: int
    sha256: bytes = b""
    head: bytes = b""
    group: str = ""
    number: int = 0


class Tickets:
    """One-use tickets for transfer connections, valid for `TICKET_SECONDS`."""

    def __init__(self) -> None:
        self._issued: OrderedDict[bytes, tuple[float, Permission]] = OrderedDict()
        self._of: dict[str, list[Permission]] = {}
        self._moving: list[tuple[Permission, trio.CancelScope]] = []

    def issue(self, permission: Permission) -> bytes:
        """Return a new ticket. Raises `Refused` (too_many) to one who has many already."""
        now = trio.current_time()
        self._forget_old(now)
        if len(self._of.get(permission.user, ())) >= MOST_TRANSFERS:
            raise Refused(
                Code.TOO_MANY, f"You have {MOST_TRANSFERS} transfers; wait until one has ended."
            )
        ticket = secrets.token_bytes(TICKET_SIZE)
        self._issued[ticket] = (now + TICKET_SECONDS, permission)
        self._of.setdefault(permission.user, []).append(permission)
        return ticket

    def redeem(self, ticket: bytes) -> Permission:
        """Return what the ticket was for and forget it. Raises `Refused` (bad_ticket)."""
        deadline, permission = self._issued.pop(ticket, (0.0, None))
        if permission is not None:
            self._forget(permission)
        if permission is None or deadline < trio.current_time():
            raise Refused(Code.BAD_TICKET, "This transfer was not announced, or too long ago.")
        return permission

    @contextmanager
    def carrying(self, permission: Permission) -> Iterator[None]:
        """Know that a transfer is under way for the length of the block.

        Raises `trio.BrokenResourceError` if that ends before it is done; see `moved`.
        """
        scope = trio.CancelScope()
        moving = (permission, scope)
        self._of.setdefault(permission.user, []).append(permission)
        self._moving.append(moving)
        try:
            with scope:
                yield
        finally:
            self._moving.remove(moving)
            self._forget(permission)
        if scope.cancelled_caught:
            raise trio.BrokenResourceError("the transfer is allowed no more")

    def moved(self, group: str, standings: Mapping[str, Standing]) -> None:
        """End what those fetch of a group (folded) who are no members any more."""
        outside = {person for person, standing in standings.items() if standing != "member"}

        def is_over(permission: Permission) -> bool:
            return fold(permission.group) == group and fold(permission.user) in outside

        for ticket, (_, permission) in list(self._issued.items()):
            if is_over(permission):
                del self._issued[ticket]
                self._forget(permission)
        for permission, scope in self._moving:
            if is_over(permission):
                scope.cancel()

    def promised(self, user: str) -> int:
        """Return how many bytes the person may still upload on tickets, or is uploading."""
        return sum(size for size, _ in self.uploads(user))

    def uploads(self, user: str) -> list[tuple[int, bytes]]:
        """Return the size and head of each of these files."""
        self._forget_old(trio.current_time())
        return [(p.size, p.head) for p in self._of.get(user, ()) if p.way == "upload"]

    def _forget_old(self, now: float) -> None:
        while self._issued and next(iter(self._issued.values()))[0] < now:
            self._forget(self._issued.popitem(last=False)[1][1])

    def _forget(self, permission: Permission) -> None:
        permissions = self._of[permission.user]
        permissions.remove(permission)
        if not permissions:
            del self._of[permission.user]

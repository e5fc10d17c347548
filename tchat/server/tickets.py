"""Single-use tickets that authorize file transfers on connections of their own.

A client asks for a transfer on its chat connection, and the group's actor decides whether it is
allowed; the ticket authorizes the transfer connection. Tickets expire and are limited per person.
When a person leaves a group, their tickets and running transfers for it are revoked; when the
person is banned, or a key is removed from their name, all that they have with it.

The space for an upload is promised with its ticket. If the disk, or the server's limit, has no room
for another one, tickets make room whose uploads have not begun: otherwise a few people could keep
all others from sending files, just by asking for tickets. Begun uploads are checked again.

The running transfers of all people are limited, too. At the limit, whoever has few of them may
still begin one: then the oldest one ends of the network, and in it the person, that has the most.
It can be resumed. So nobody can keep others from sending files by holding all transfers.
"""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import trio

from tchat.core.group.state import Author
from tchat.core.protocol.handshake import TICKET_SIZE
from tchat.core.text import fold
from tchat.errors import Code, Refused
from tchat.net.address import enclosing_networks
from tchat.server.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tchat.core.protocol.frames import Standing
    from tchat.net.address import Address

TICKET_SECONDS = 60.0
MAX_TRANSFERS = 32
"""The largest number of a person's tickets and running transfers together."""

_BUSY_RETRY_MS = 5000


@dataclass(frozen=True, slots=True)
class Permission:
    """The permission to transfer one file in one direction, granted by a ticket.

    An upload is identified by `size` and `head`, the digest of the file's first piece; a download
    by `sha256` and the `number` of the file in its group. `group` is the one that the person has to
    be a member of. `key` is the public key of the client that asked for it.
    """

    direction: Literal["upload", "download"]
    user: str
    size: int
    sha256: bytes = b""
    head: bytes = b""
    group: str = ""
    number: int = 0
    key: bytes | None = None

    @property
    def author(self) -> Author:
        """The person who has the permission, and the key of the client."""
        return Author(self.user, b"", self.key)

    @property
    def promised(self) -> int:
        """The bytes that the server may have to store."""
        return self.size if self.direction == "upload" else 0


class _Ticket(NamedTuple):
    expires: float  # by `trio.current_time()`
    permission: Permission


@dataclass(slots=True, eq=False)
class _Transfer:
    """A running transfer. `peer` is the client's address; `ended` is set when it has ended.

    `reason` is the exception to raise if it is cancelled.
    """

    permission: Permission
    peer: Address | None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    reason: Exception | None = None

    @property
    def network(self) -> str:
        """The largest network that may belong to one customer."""
        return enclosing_networks(self.peer.host)[-1] if self.peer else ""

    def cancel(self, reason: Exception) -> None:
        """End the transfer; the first reason counts."""
        if not self.scope.cancel_called:
            self.reason = reason
            self.scope.cancel()

    def make_room(self) -> None:
        """End the transfer for the sake of another one; it can be resumed."""
        if self.permission.direction == "download":
            # To the receiver, an error would mean that the file is wrong.
            self.cancel(trio.BrokenResourceError("the transfer made room for another one"))
            return
        sentence = "This transfer made room for somebody who has fewer; it can be resumed."
        self.cancel(Refused(Code.BUSY, sentence, _BUSY_RETRY_MS))


class Tickets:
    """Tickets that were issued, valid for `TICKET_SECONDS`, and transfers that are running."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.promised_total = 0  # the size of all uploads that have tickets or are running
        self._issued: OrderedDict[bytes, _Ticket] = OrderedDict()  # the oldest first
        self._held_by: dict[str, list[Permission]] = {}  # tickets and running transfers alike
        self._running: list[_Transfer] = []

    def issue(self, permission: Permission) -> bytes:
        """Return a new ticket. Raises `Refused` (too_many) if the person has too many."""
        now = trio.current_time()
        self._drop_expired(now)
        if len(self._held_by.get(permission.user, ())) >= MAX_TRANSFERS:
            raise Refused(
                Code.TOO_MANY, f"You have {MAX_TRANSFERS} transfers; wait until one has finished."
            )
        ticket = secrets.token_bytes(TICKET_SIZE)
        self._issued[ticket] = _Ticket(now + TICKET_SECONDS, permission)
        self._hold(permission)
        return ticket

    def redeem(self, ticket: bytes) -> Permission:
        """Use up a ticket and return its permission. Raises `Refused` (bad_ticket)."""
        issued = self._issued.pop(ticket, None)
        if issued is not None:
            self._release(issued.permission)
        if issued is None:  # an expired one may be dropped already
            reason = "is not valid: it was used, was revoked or has expired"
        elif issued.expires < trio.current_time():
            reason = "has expired"
        else:
            return issued.permission
        raise Refused(
            Code.BAD_TICKET, f"The ticket of this transfer {reason}; start the transfer again."
        )

    @contextmanager
    def running(self, permission: Permission, peer: Address | None = None) -> Iterator[None]:
        """Count a transfer as running while the block runs; `peer` is the client's address.

        If the permission is revoked meanwhile, the block is cancelled and this raises
        `trio.BrokenResourceError`. Raises `Refused` (busy) if too many are running, or if this one
        has to make room for another.
        """
        transfer = _Transfer(permission, peer)
        self._make_room(transfer)
        self._hold(permission)
        self._running.append(transfer)
        try:
            with transfer.scope:
                yield
        finally:
            self._running.remove(transfer)
            self._release(permission)
            transfer.ended.set()
        if transfer.scope.cancelled_caught and transfer.reason is not None:
            raise transfer.reason

    @property
    def running_count(self) -> int:
        """The number of running transfers."""
        return len(self._running)

    def _make_room(self, newcomer: _Transfer) -> None:
        """End another transfer if too many are running. Raises `Refused` (busy)."""
        if len(self._running) < self.limits.transfers:
            return
        running = [one for one in self._running if not one.scope.cancel_called]
        if len(running) < self.limits.transfers:  # others are about to end
            return
        victim = _largest_share(running, newcomer)
        if victim is None:
            raise Refused(
                Code.BUSY,
                "This server has too many file transfers just now; try again later.",
                _BUSY_RETRY_MS,
            )
        victim.make_room()

    def on_standing_changed(self, group: str, standings: Mapping[str, Standing]) -> None:
        """Revoke the transfers for a group (folded) of people who are no longer members."""
        outside = {person for person, standing in standings.items() if standing != "member"}

        def is_revoked(permission: Permission, _: Address | None) -> bool:
            return fold(permission.group) == group and fold(permission.user) in outside

        self.revoke(is_revoked)

    def revoke(self, is_revoked: Callable[[Permission, Address | None], bool]) -> int:
        """Revoke tickets, and cancel running transfers; return the number of the latter.

        `is_revoked` gets the permission of each, and of a running transfer the client's address.
        """
        for ticket, issued in list(self._issued.items()):
            if is_revoked(issued.permission, None):
                del self._issued[ticket]
                self._release(issued.permission)
        running = [one for one in self._running if is_revoked(one.permission, one.peer)]
        for transfer in running:
            transfer.cancel(
                trio.BrokenResourceError("the permission for this transfer was revoked")
            )
        return len(running)

    @property
    def promised_unused(self) -> int:
        """The size of all uploads that have tickets and have not begun."""
        self._drop_expired(trio.current_time())
        return sum(issued.permission.promised for issued in self._issued.values())

    def revoke_unused(self) -> bool:
        """Revoke a ticket for an upload that has not begun; return False if there is none.

        It is the oldest of the person who has the most bytes in such tickets.
        """
        self._drop_expired(trio.current_time())
        promised: Counter[str] = Counter()
        for issued in self._issued.values():
            promised[issued.permission.user] += issued.permission.promised
        user = max(promised, key=promised.__getitem__, default="")
        for ticket, issued in self._issued.items():
            if issued.permission.user == user and issued.permission.promised:
                del self._issued[ticket]
                self._release(issued.permission)
                return True
        return False

    async def wait_for_end(self, person: str) -> None:
        """Wait until none of a person's (folded) transfers is running."""
        for transfer in self._running.copy():
            if fold(transfer.permission.user) == person:
                await transfer.ended.wait()

    def promised_bytes(self, user: str) -> int:
        """Return the total size of a person's uploads that have tickets or are running."""
        self._drop_expired(trio.current_time())
        return sum(permission.promised for permission in self._held_by.get(user, ()))

    def uploads(self, user: str) -> list[tuple[int, bytes]]:
        """Return the size and head of each of a person's uploads."""
        self._drop_expired(trio.current_time())
        return [(p.size, p.head) for p in self._held_by.get(user, ()) if p.direction == "upload"]

    def _drop_expired(self, now: float) -> None:
        while self._issued and next(iter(self._issued.values())).expires < now:
            _, issued = self._issued.popitem(last=False)
            self._release(issued.permission)

    def _hold(self, permission: Permission) -> None:
        self._held_by.setdefault(permission.user, []).append(permission)
        self.promised_total += permission.promised

    def _release(self, permission: Permission) -> None:
        self.promised_total -= permission.promised
        held = self._held_by[permission.user]
        held.remove(permission)
        if not held:
            del self._held_by[permission.user]


def _largest_share(running: list[_Transfer], newcomer: _Transfer) -> _Transfer | None:
    """Return the oldest transfer of who has most of them; None if the newcomer has as many."""
    networks = Counter(one.network for one in running)
    network = max(networks, key=networks.__getitem__)
    people = Counter(one.permission.user for one in running if one.network == network)
    person = max(people, key=people.__getitem__)
    if network == newcomer.network:
        is_fair = people[person] <= people[newcomer.permission.user] + 1
    else:
        is_fair = networks[network] <= networks[newcomer.network] + 1
    if is_fair:
        return None
    theirs = (one for one in running if one.network == network and one.permission.user == person)
    return next(theirs)

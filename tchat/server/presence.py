"""Presence: the connected clients of each person, and the people who are away.

One `Presence` serves the whole server. It also enforces the limit of connections per person,
replaces the older connection of a client that reconnects, and disconnects revoked keys.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from tchat.core.text import fold
from tchat.errors import Code, Refused
from tchat.server.recent import RecentChanges

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from tchat.core.group.state import Author
    from tchat.core.protocol.frames import Activity
    from tchat.core.protocol.schema import Frame
    from tchat.net.address import Address
    from tchat.server.send_queue import SendQueue


class ClientConnection(Protocol):
    """Interface of a chat connection, for the rest of the server."""

    @property
    def author(self) -> Author:
        """The person, and the id and key of this client."""

    @property
    def last_heard(self) -> float:
        """The `trio.current_time()` at which the client last sent something."""

    @property
    def peer(self) -> Address | None:
        """The client's address; None if it was gone before it could be asked."""

    @property
    def followed_groups(self) -> Collection[str]:
        """The groups (folded) that the client subscribed to."""

    @property
    def send_queue(self) -> SendQueue:
        """The queue of the frames to the client."""

    def notify(self, frame: Frame) -> None:
        """Send a frame to the client, without waiting."""

    def announce(self, key: str, notice: Activity) -> None:
        """Send a notice about the group (folded), unless an earlier one is unanswered."""

    def disconnect(self, code: Code, sentence: str) -> None:
        """Send a goodbye, then close the connection."""


class Presence:
    """All chat connections of a server. `away` maps people to their reasons; names are folded.

    `changes` are the people whose connections have come or gone.
    """

    def __init__(self) -> None:
        self.away: dict[str, str] = {}
        self.changes = RecentChanges()
        self._connections: dict[str, dict[bytes, ClientConnection]] = {}
        # Counted separately from `_connections`: a replaced connection counts until it has ended.
        self._open: Counter[str] = Counter()

    def connections(self) -> list[ClientConnection]:
        """Return all connections."""
        return [one for devices in self._connections.values() for one in devices.values()]

    @property
    def people_online(self) -> int:
        """The number of people with at least one connection."""
        return len(self._connections)

    def connections_of(self, person: str) -> list[ClientConnection]:
        """Return a person's connections."""
        return list(self._connections.get(person, {}).values())

    def connected(self, connection: ClientConnection) -> None:
        """Add a connection, and disconnect an earlier one with the same client id.

        Deduplication by sequence number works only if a single process assigns the numbers, so two
        connections must never share a client id.
        """
        person, client = fold(connection.author.name), connection.author.client
        devices = self._connections.setdefault(person, {})
        if client in devices:
            devices[client].disconnect(
                Code.REPLACED, "This client has connected again, here or from a copy of its data."
            )
        devices[client] = connection
        self.changes.add(person)
        self._open[person] += 1

    def disconnected(self, connection: ClientConnection) -> None:
        """Remove a connection that has ended; after the last one, the person is no longer away."""
        person, client = fold(connection.author.name), connection.author.client
        devices = self._connections[person]
        if devices.get(client) is connection:  # and was not replaced
            del devices[client]
        self.changes.add(person)
        self._open[person] -= 1
        if not self._open[person]:
            del self._open[person], self._connections[person]
            self.away.pop(person, None)

    def check_devices(self, author: Author, limit: int) -> None:
        """Raise `Refused` (too_many) if a person has `limit` connections already.

        A client that reconnects replaces its own connection, so it is never refused.
        """
        person = fold(author.name)
        reconnects = author.client in self._connections.get(person, {})
        if not reconnects and self._open[person] >= limit:
            raise Refused(
                Code.TOO_MANY,
                f"You have {limit} connections, the most that this server allows; quit one first.",
            )

    def disconnect_keys(self, name: str, key: bytes | None, sentence: str) -> None:
        """Disconnect a person's clients that authenticated with `key`, or all if it is None."""
        for connection in self.connections_of(fold(name)):
            if key in (None, connection.author.key):
                connection.disconnect(Code.KEY_REMOVED, sentence)

    def notify(self, people: Iterable[str], frame: Frame, except_client: bytes = b"") -> None:
        """Send a frame to all clients of some people, except the one with this id."""
        for person in people:
            for connection in self.connections_of(person):
                if connection.author.client != except_client:
                    connection.notify(frame)

    def set_away(self, person: str, reason: str | None) -> bool:
        """Mark a person as away, or as back with None; return whether that changed anything."""
        if self.away.get(person) == reason:
            return False
        if reason is None:
            del self.away[person]
        else:
            self.away[person] = reason
        return True

    def followed_groups(self, person: str) -> set[str]:
        """Return the groups that any of a person's clients subscribed to."""
        return {group for one in self.connections_of(person) for group in one.followed_groups}

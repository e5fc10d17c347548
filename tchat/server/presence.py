"""Who is connected just now, and what of it others may see."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from tchat.core.text import fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from tchat.core.group.state import Author
    from tchat.core.protocol.schema import Frame

AWAY_LIMIT = 100
"""Longest word about being away, in code points."""


class ClientConnection(Protocol):
    """A conversation, as far as the server as a whole has to know one."""

    @property
    def author(self) -> Author:
        """The person, and the client that speaks for them here."""

    @property
    def heard(self) -> float:
        """The `trio.current_time()` at which the client was last heard."""

    @property
    def follows(self) -> Collection[str]:
        """The groups (folded) that the client asked to follow."""

    def tell(self, news: Frame) -> None:
        """Send something to the client."""

    def end(self, code: Code, sentence: str) -> None:
        """Say goodbye and end the conversation once that is sent."""


class Presence:
    """All conversations of a server, and who in them is `away`, and why: people are folded."""

    def __init__(self) -> None:
        self.away: dict[str, str] = {}
        self._guests: dict[str, dict[bytes, ClientConnection]] = {}
        self._present: Counter[str] = Counter()

    def guests(self) -> list[ClientConnection]:
        """Return all conversations."""
        return [guest for guests in self._guests.values() for guest in guests.values()]

    def of(self, person: str) -> list[ClientConnection]:
        """Return a person's conversations."""
        return list(self._guests.get(person, {}).values())

    def come(self, guest: ClientConnection) -> None:
        """Know a conversation, and end the one that this client, or a copy of it, held before.

        A client's numbers say what is a repetition only while one process counts with them.
        """
        person, client = fold(guest.author.name), guest.author.client
        guests = self._guests.setdefault(person, {})
        if client in guests:
            guests[client].end(
                Code.REPLACED, "The same client, or a copy of it, has connected anew."
            )
        guests[client] = guest
        self._present[person] += 1

    def go(self, guest: ClientConnection) -> None:
        """Forget a conversation that has ended; with the last one of a person, that one is back."""
        person, client = fold(guest.author.name), guest.author.client
        guests = self._guests[person]
        if guests.get(client) is guest:
            del guests[client]
        self._present[person] -= 1
        if not self._present[person]:
            del self._present[person], self._guests[person]
            self.away.pop(person, None)

    def check_room(self, author: Author, most: int) -> None:
        """Raise `Refused` (too_many) for one who has as many conversations as one may."""
        person = fold(author.name)
        again = author.client in self._guests.get(person, {})
        if not again and self._present[person] >= most:
            raise Refused(Code.TOO_MANY, f"You are connected {most} times, which is all one may.")

    def lock_out(self, name: str, key: bytes | None, sentence: str) -> None:
        """End the conversations that were begun with a key, or with any, of a person."""
        for guest in self.of(fold(name)):
            if key in (None, guest.author.key):
                guest.end(Code.KEY_REMOVED, sentence)

    def tell(self, people: Iterable[str], news: Frame) -> None:
        """Send something to all clients of some people."""
        for person in people:
            for guest in self.of(person):
                guest.tell(news)

    def note_away(self, person: str, text: str | None) -> bool:
        """Note that somebody is away, or back; return whether that is news."""
        if self.away.get(person) == text:
            return False
        self.away.pop(person, None)
        if text is not None:
            self.away[person] = text
        return True

    def groups_of(self, person: str) -> set[str]:
        """Return the groups that a person's clients asked to follow."""
        return {group for guest in self.of(person) for group in guest.follows}

"""A group that can be told what people do: rules are then tested by telling stories."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.feature import DEFAULT_LIMITS, Body, Event
from tchat.core.group.features import decode_event, encode_event, erase_event
from tchat.core.group.membership import Approve, Join
from tchat.core.group.messages import Delete, Deleted, Edit
from tchat.core.group.rules import apply, decide
from tchat.core.group.state import Author, Group
from tchat.core.protocol.framing import PREFIX
from tchat.core.text import fold
from tchat.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.core.group.feature import Command
    from tchat.errors import Code

NOON = 1_795_341_720_000


def key_of(person: str) -> bytes:
    """Return the public key, or what stands for one, of a person."""
    return hashlib.sha256(fold(person).encode()).digest()


def replay(name: str, log: list[bytes], group: Group | None = None) -> Group:
    """Return what a log leads to, from nothing or from a state of the group before it."""
    group = group or Group.unwritten(name)
    for frame in log:
        apply(group, decode_event(frame[PREFIX:]))
    return group


class Script:
    """One group, a clock that can be set, and people who count their commands like clients do.

    Everybody has one device, called "phone", and any others that a test names. A name in another
    spelling is the same person at the same device. `log` is what is on the disk, without what was
    deleted, and `written` is all that ever was.
    """

    limits = DEFAULT_LIMITS

    def __init__(self, name: str = "ops") -> None:
        self.name = name
        self.group = Group.unwritten(name)
        self.now = NOON
        self.log: list[bytes] = []
        self.written: list[bytes] = []
        self.last: tuple[Author, Command]
        self.sentence = ""
        self._counts: dict[tuple[str, str], int] = {}

    def run(
        self, who: str, what: Callable[..., Command], *about: object, device: str = "phone"
    ) -> list[Body]:
        """Do what `who` asks for and return what has happened: the bodies of the new events."""
        return [event.body for event in self.events(who, what, *about, device=device)]

    def events(
        self, who: str, what: Callable[..., Command], *about: object, device: str = "phone"
    ) -> list[Event]:
        """Do what `who` asks for and return the new events."""
        self.last = self.asked(who, what, *about, device=device)
        return self.give(*self.last)

    def refused(self, who: str, what: Callable[..., Command], *about: object) -> Code | str:
        """Return the code with which the rules say no, having changed nothing.

        `sentence` is what they say to people.
        """
        self.last = self.asked(who, what, *about)
        before = copy.deepcopy(self.group)
        with pytest.raises(Refused) as caught:
            self.give(*self.last)
        assert self.group == before, "a refusal changed the group"
        self.sentence = caught.value.sentence
        return caught.value.code

    def again(self) -> list[Body]:
        """Give the last command a second time, as a client does whose answer was lost."""
        return [event.body for event in self.give(*self.last)]

    def asked(
        self, who: str, what: Callable[..., Command], *about: object, device: str = "phone"
    ) -> tuple[Author, Command]:
        """Return a command with the next number of that device."""
        person = fold(who)
        n = self._counts.get((person, device), 0) + 1
        self._counts[person, device] = n
        client = f"{device}:{person}".encode().ljust(8, b".")[:8]
        return Author(who, client, key_of(person)), what(n, n, self.name, *about)

    def give(self, author: Author, command: Command) -> list[Event]:
        """Do as a server does: decide, write, erase what was deleted, apply."""
        events = self.decided(author, command)
        for event in events:
            frame = encode_event(event)
            self.log.append(frame)
            self.written.append(frame)
            if isinstance(event.body, Deleted):
                self._erase(event.body.target)
            apply(self.group, decode_event(frame[PREFIX:]))
        return events

    def decided(self, author: Author, command: Command, group: Group | None = None) -> list[Event]:
        """Return what the rules say of a command, in this group or another state of it."""
        target = self.event(command.target) if isinstance(command, Edit | Delete) else None
        return decide(group or self.group, author, command, self.now, self.limits, target)

    def event(self, seq: int) -> Event | None:
        """Return what the log has of that number."""
        there = 0 < seq <= len(self.log)
        return decode_event(self.log[seq - 1][PREFIX:]) if there else None

    def _erase(self, target: int) -> None:
        for seq in (target, *self.group.edits_of(target)):
            self.log[seq - 1] = erase_event(self.log[seq - 1][PREFIX:])

    def replayed(self) -> Group:
        """Return the group as somebody makes it out who has only the log."""
        return replay(self.name, self.log)

    def joined(self, *names: str) -> None:
        """Let people become members: the first founds the group and approves the others."""
        founder, *others = names
        self.run(founder, Join)
        for name in others:
            self.run(name, Join)
            self.run(founder, Approve, name)

    @property
    def members(self) -> list[str]:
        """The members' names in order of joining."""
        return list(self.group.members.values())

    @property
    def waiting(self) -> list[str]:
        """The names of those who ask to join."""
        return [request.name for request in self.group.requests.values()]

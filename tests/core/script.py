"""A scripted group: people give commands, the rules decide, the events are applied and logged."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.feature import DEFAULT_LIMITS, Body, Event
from tchat.core.group.features import decode_event, encode_event, erase_event
from tchat.core.group.membership import Approve, Join
from tchat.core.group.messages import Deleted
from tchat.core.group.rules import apply, decide
from tchat.core.group.state import Author, Group
from tchat.core.protocol.framing import PREFIX
from tchat.core.text import fold
from tchat.errors import Refused
from tests.cddl import keys_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.core.group.feature import Command
    from tchat.errors import Code

NOON = 1_795_341_720_000


def key_of(person: str) -> bytes:
    """Return a stand-in for a person's public key."""
    return hashlib.sha256(fold(person).encode()).digest()


def replay(name: str, log: list[bytes], group: Group | None = None) -> Group:
    """Return the state that a log leads to, from nothing or from an earlier state."""
    group = group or Group.unwritten(name)
    for frame in log:
        apply(group, decode_event(frame[PREFIX:]))
    return group


def as_members_get_it(group: Group) -> Group:
    """Return the state without the fields that only the server needs."""
    shared = keys_of("state") | {"seq"}
    defaults = Group()
    local = [field.name for field in fields(Group) if field.name not in shared]
    return replace(group, **{name: getattr(defaults, name) for name in local})


class Script:
    """One group, a clock that can be set, and people who number their commands as clients do.

    Everybody has one device, called "phone", and any others that a test names. A name in another
    spelling is the same person at the same device. `log` has the frames as on disk, with deleted
    texts erased; `written` has them as they were first written.
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
        """Give a command of `who` and return the bodies of the new events."""
        return [event.body for event in self.events(who, what, *about, device=device)]

    def events(
        self, who: str, what: Callable[..., Command], *about: object, device: str = "phone"
    ) -> list[Event]:
        """Give a command of `who` and return the new events."""
        self.last = self.asked(who, what, *about, device=device)
        return self.give(*self.last)

    def refused(self, who: str, what: Callable[..., Command], *about: object) -> Code | str:
        """Return the code with which the rules refuse a command; check that nothing changed.

        `sentence` keeps the text of the refusal.
        """
        self.last = self.asked(who, what, *about)
        before = copy.deepcopy(self.group)
        with pytest.raises(Refused) as caught:
            self.give(*self.last)
        assert self.group == before, "a refusal changed the group"
        self.sentence = caught.value.sentence
        return caught.value.code

    def again(self) -> list[Body]:
        """Repeat the last command, as a client does whose answer was lost."""
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
        """Do as a server does: decide, write, erase deleted texts, apply."""
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
        """Return the events that the rules decide on, in this state of the group or another."""
        seq = command.refers_to
        target = None if seq is None else self.event(seq)
        return decide(group or self.group, author, command, self.now, self.limits, target)

    def event(self, seq: int) -> Event | None:
        """Return the event with that number, None if the log has none."""
        there = 0 < seq <= len(self.log)
        return decode_event(self.log[seq - 1][PREFIX:]) if there else None

    def _erase(self, target: int) -> None:
        for seq in (target, *self.group.edits_of(target)):
            self.log[seq - 1] = erase_event(self.log[seq - 1][PREFIX:])

    def replayed(self) -> Group:
        """Return the state that a replay of the log leads to."""
        return replay(self.name, self.log)

    def joined(self, *names: str) -> None:
        """Make people members: the first founds the group and approves the others."""
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
        """The names of the people who asked to join."""
        return [request.name for request in self.group.requests.values()]

"""Any history that a group may have, for hypothesis to make up."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tchat.core.commands import (
    Approve,
    Command,
    Deny,
    Invite,
    Join,
    Kick,
    Leave,
    Post,
    RemoveFile,
    Share,
    TransferAdmin,
)
from tchat.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tchat.core.events import Event
    from tchat.core.state import Author
    from tests.core.script import Script

ADMIN = "the admin"
"""Stands for whoever is the admin when it comes to it."""

PEOPLE = ("alice", "bob", "carol", "dave", "Alice", "BOB")
DEVICES = ("phone", "desk")
TOKENS = tuple(bytes([letter]) * 16 for letter in b"ABCD")


@dataclass(frozen=True)
class Step:
    """Somebody asks for something, `later` milliseconds after the last one did."""

    who: str
    device: str
    deed: tuple[Callable[..., Command], tuple[object, ...]]
    later: int

    def taken(self, script: Script) -> tuple[Author, Command]:
        """Return the command that the step comes to in the script's group."""
        what, about = self.deed
        who = (script.group.admin_name or PEOPLE[0]) if self.who == ADMIN else self.who
        return script.asked(who, what, *about, device=self.device)


def _deeds() -> st.SearchStrategy[tuple[Callable[..., Command], tuple[object, ...]]]:
    people = st.tuples(st.sampled_from(PEOPLE))
    tokens = st.sampled_from(TOKENS)
    digests = tokens.map(lambda token: hashlib.sha256(token).digest())
    text = st.text(max_size=3)
    return st.one_of(
        st.tuples(st.just(Join), st.tuples()),
        st.tuples(st.just(Join), st.tuples(tokens)),
        st.tuples(st.just(Approve), people),
        st.tuples(st.sampled_from([Deny, Kick, TransferAdmin]), people),
        st.tuples(
            st.just(Invite),
            st.tuples(digests, st.integers(0, 2000), st.none() | st.sampled_from(PEOPLE)),
        ),
        st.tuples(st.just(Leave), st.tuples()),
        st.tuples(st.just(Post), st.tuples(text)),
        st.tuples(st.just(Share), st.tuples(text, st.integers(0, 9), st.just(bytes(32)))),
        st.tuples(st.just(RemoveFile), st.tuples(st.integers(0, 4))),
    )


_steps = st.builds(
    Step,
    who=st.sampled_from(PEOPLE) | st.just(ADMIN),
    device=st.sampled_from(DEVICES),
    deed=_deeds(),
    later=st.integers(-1000, 1000),
)

histories = st.lists(_steps, max_size=10) | st.lists(_steps, min_size=25, max_size=60)


@dataclass
class Told:
    """What became of one step: no events if it was refused or changed nothing."""

    author: Author
    command: Command
    events: list[Event]


def tell(history: list[Step], script: Script) -> Iterator[Told]:
    """Let a history happen in the script's group, and stop behind each of its steps."""
    for step in history:
        script.now += step.later
        author, command = step.taken(script)
        try:
            events = script.give(author, command)
        except Refused:
            events = []
        yield Told(author, command, events)

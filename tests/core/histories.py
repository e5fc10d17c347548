"""Hypothesis strategies for histories: random commands of several people in one group."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tchat.core.group.feature import Command
from tchat.core.group.features import decode_event
from tchat.core.group.files import RemoveFile, Share
from tchat.core.group.membership import (
    Approve,
    Ban,
    Deny,
    DenyAll,
    Invite,
    Join,
    Kick,
    Leave,
    TransferAdmin,
    Unban,
)
from tchat.core.group.messages import Delete, Edit, Pin, Post, Posted
from tchat.core.group.settings import SetPolicy, SetTopic
from tchat.core.protocol.framing import PREFIX
from tchat.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.core.group.feature import Event
    from tchat.core.group.state import Author
    from tests.core.script import Script

ADMIN = "the admin"
"""Placeholder for the admin at the time of the step."""

AUTHOR = "the author"
"""Placeholder for the author of the message that the step is about."""

PEOPLE = ("alice", "bob", "carol", "dave", "Alice", "BOB")
DEVICES = ("phone", "desk")
TOKENS = tuple(bytes([letter]) * 16 for letter in b"ABCD")

Deed = tuple[Callable[..., Command], tuple[object, ...]]
"""A command, and its arguments."""


@dataclass(frozen=True)
class Message:
    """Placeholder for a recent message at the time of the step: `back` is 0 for the last."""

    back: int

    def found(self, script: Script) -> int:
        """Return the seq of its event, or 0 if there are fewer messages."""
        bodies = (decode_event(frame[PREFIX:]).body for frame in script.written)
        said = [seq for seq, body in enumerate(bodies, start=1) if isinstance(body, Posted)]
        return said[-1 - self.back] if self.back < len(said) else 0


@dataclass(frozen=True)
class Step:
    """A command by somebody, `later` milliseconds after the last one."""

    who: str
    device: str
    deed: Deed
    later: int

    def taken(self, script: Script) -> tuple[Author, Command]:
        """Return the author and command of a step, for the script's current state."""
        what, parts = self.deed
        about = [part.found(script) if isinstance(part, Message) else part for part in parts]
        return script.asked(self._actor(script, *about), what, *about, device=self.device)

    def _actor(self, script: Script, target: object = None, *_: object) -> str:
        if self.who == ADMIN:
            return script.group.admin_name or PEOPLE[0]
        if self.who == AUTHOR:
            event = script.event(target) if isinstance(target, int) else None
            return event.actor if event else PEOPLE[0]
        return self.who


_people = st.tuples(st.sampled_from(PEOPLE))
_texts = st.sampled_from(["hello", "/me waves"]) | st.text(max_size=3)
_messages = st.builds(Message, st.integers(0, 3)) | st.integers(0, 9)


def _about_people() -> st.SearchStrategy[Deed]:
    tokens = st.sampled_from(TOKENS)
    digests = tokens.map(lambda token: hashlib.sha256(token).digest())
    return st.one_of(
        st.tuples(st.just(Join), st.tuples()),
        st.tuples(st.just(Join), st.tuples(tokens)),
        st.tuples(st.just(Approve), _people),
        st.tuples(st.sampled_from([Deny, Kick, TransferAdmin, Ban, Unban]), _people),
        st.tuples(
            st.just(Invite),
            st.tuples(digests, st.integers(0, 2000), st.none() | st.sampled_from(PEOPLE)),
        ),
        st.tuples(st.sampled_from([Leave, DenyAll]), st.tuples()),
        st.tuples(st.just(SetPolicy), st.tuples(st.sampled_from(["open", "approval"]))),
    )


def _about_things() -> st.SearchStrategy[Deed]:
    return st.one_of(
        st.tuples(st.just(Post), st.tuples(_texts, st.none() | _messages)),
        st.tuples(st.just(Edit), st.tuples(_messages, _texts)),
        st.tuples(st.sampled_from([Delete, Pin]), st.tuples(_messages)),
        st.tuples(st.just(SetTopic), st.tuples(_texts)),
        st.tuples(st.just(Share), st.tuples(_texts, st.integers(0, 9), st.just(bytes(32)))),
        st.tuples(st.just(RemoveFile), st.tuples(st.integers(0, 4))),
    )


def _steps(who: list[str], deeds: st.SearchStrategy[Deed]) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        who=st.sampled_from(who),
        device=st.sampled_from(DEVICES),
        deed=deeds,
        later=st.integers(-1000, 1000),
    )


any_step = _steps([*PEOPLE, ADMIN], _about_people()) | _steps(
    [ADMIN, *[AUTHOR] * 4, *PEOPLE], _about_things()
)

CREW = [
    Step("alice", "phone", (Join, ()), 0),
    Step("bob", "phone", (Join, ()), 0),
    Step("carol", "phone", (Join, ()), 0),
    Step("alice", "phone", (SetPolicy, ("open",)), 0),
    Step("alice", "phone", (SetPolicy, ("approval",)), 0),
    Step("bob", "phone", (Post, ("hello",)), 0),
    Step("alice", "phone", (Post, ("hello, bob", Message(0))), 0),
    Step(AUTHOR, "phone", (Edit, (Message(1), "hello!")), 0),
]
"""A beginning that makes a lasting group: without it, many histories would change little."""

histories = st.builds(
    operator.add,
    st.sampled_from([[], CREW]),
    st.lists(any_step, max_size=10) | st.lists(any_step, min_size=25, max_size=60),
)


@dataclass
class Outcome:
    """The outcome of one step: no events if it was refused or changed nothing."""

    author: Author
    command: Command
    events: list[Event]


def run_history(history: list[Step], script: Script) -> Iterator[Outcome]:
    """Run a history in the script's group, and yield after each step."""
    for step in history:
        script.now += step.later
        author, command = step.taken(script)
        try:
            events = script.give(author, command)
        except Refused:
            events = []
        yield Outcome(author, command, events)

"""Bounds of what a client accepts from a server: lengths of names and texts, numbers, entries.

The schema checks the types of values. It does not say how long a name is, or how high a number,
because a server has limits of its own, which its operator may set. The bounds here are far above
these limits: no honest server exceeds them. They limit what a broken or malicious server can make a
client compute and remember.

What exceeds them in a group (an event, a snapshot) ends only the subscription to that group; in any
other frame, it ends the connection.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tchat.core.group import compaction
from tchat.core.group.feature import HIGHEST_LIMITS
from tchat.core.group.messages import Deleted, Edited, Pinned
from tchat.core.group.snapshots import thaw
from tchat.core.protocol.schema import Shape
from tchat.core.text import TEXT_LIMIT, clean_line
from tchat.errors import Code, ProtocolError

if TYPE_CHECKING:
    from tchat.core.group.feature import Event
    from tchat.core.group.state import Group

NUMBER_LIMIT = 2**53
"""Limit of seqs, times and sizes: numbers below it are exact in every language."""

NAME_LENGTH = 256
"""Most code points of a name, of a topic, and of every other text that is not a message."""

SENTENCE_LENGTH = 1000
"""Most code points of the sentence of a refusal, which is shown, and kept with the message."""

BYTES_LENGTH = 64
"""Longest value in bytes of an event, a state or a notice: a key, a digest, a client id."""

MOST_ENTRIES = MappingProxyType(
    {
        "members": 2 * HIGHEST_LIMITS.members,
        "requests": 2 * HIGHEST_LIMITS.requests,
        "invites": 2 * HIGHEST_LIMITS.invites,
        "banned": 2 * HIGHEST_LIMITS.bans,
        "kicked": 2 * (HIGHEST_LIMITS.bans + compaction.KICKS + compaction.PERIOD),
        "keys": 2 * (compaction.KEYS + HIGHEST_LIMITS.members + compaction.PERIOD),
        "files": 2 * HIGHEST_LIMITS.files,
        "edits": compaction.EDITS_SPAN + 2 * compaction.PERIOD,
        "joined": 2 * HIGHEST_LIMITS.members,
        "held": 2 * HIGHEST_LIMITS.members,
        "banned_keys": 2 * HIGHEST_LIMITS.bans,
        "denied": 2 * (compaction.DENIALS + compaction.PERIOD),
    }
)
"""Most entries of each list in the state of a group: twice what an honest server can have.

The cost of some events grows with the number of keys, kicks and invites.
"""

MOST_LISTED = max(MOST_ENTRIES.values())
"""Most entries of any list in a snapshot."""

MOST_ITEMS = 1_500_000
"""Most CBOR items of a snapshot at all levels: some 150 MB, and more than `MOST_ENTRIES` have."""

MOST_EDITS = 1000
"""Most edits of one message; an honest server stops at a tenth of them."""

MOST_PRESENT = 20_000
"""Most people of one group who are online."""

# A message, the start of one, or a sentence. Sanitizing makes no text longer in code points.
_TEXTS = frozenset({"text"})

# Command numbers, since earlier versions could be made to count up to the limit of the schema; and
# a wait, which is cut to a minute where it is used.
_ANY_NUMBER = frozenset({"n", "counted", "wait"})

# A page of history and a part of a snapshot, whose contents are checked by themselves.
_LONG_BYTES = frozenset({"frames", "data"})


def check_bounds(shape: Shape) -> None:
    """Check all values of a frame or record. Raises `ProtocolError` (malformed)."""
    for name in FIELD_NAMES[type(shape)]:
        _check(name, getattr(shape, name))


def check_event(event: Event) -> None:
    """Check the values of an event, and that the message it is about came before it.

    Raises `ProtocolError`.
    """
    check_bounds(event)
    body = event.body
    if isinstance(body, Edited | Deleted | Pinned) and body.target >= event.seq:
        raise exceeded("The number of a message")


def read_state(data: bytes, seq: int) -> Group:
    """Return the state in a group's snapshot, as of event `seq`. Raises `ProtocolError`."""
    group = thaw(data, seq, MOST_LISTED, MOST_ITEMS)
    check_bounds(group)
    check_state(group)
    if any(len(edits.seqs) > MOST_EDITS for edits in group.edits.values()):
        raise exceeded("The state of a group")
    return group


def check_state(group: Group) -> None:
    """Check that the events of a group have not made its state too large. Raises `ProtocolError`.

    It looks at the sizes only, and takes no longer in a large group than in a small one.
    """
    for name, most in MOST_ENTRIES.items():
        if len(getattr(group, name)) > most:
            raise exceeded("The state of a group")


def exceeded(what: str) -> ProtocolError:
    """Return the error about something that is too long or too large."""
    return ProtocolError(Code.MALFORMED, f"{what} exceeds the bounds of this client.")


def sentence_of(text: str) -> str:
    """Return a server's sentence, sanitized, and cut if it is much longer than sentences are."""
    return clean_line(text[:SENTENCE_LENGTH])


class _FieldNames(dict[Any, tuple[str, ...]]):
    """The names of the fields of each class, found when they are first needed."""

    def __missing__(self, cls: Any) -> tuple[str, ...]:  # noqa: ANN401  # any dataclass
        return self.setdefault(cls, tuple(field.name for field in dataclasses.fields(cls)))


FIELD_NAMES = _FieldNames()


def _check(name: str, value: object) -> None:
    """Check a value of the field `name`, and the values inside it."""
    match value:
        case str() | bytes() | int():
            if _exceeds(name, value):
                raise exceeded(f"The value of {name!r}")
        case tuple():
            for one in value:
                _check(name, one)
        case dict():
            for key, one in value.items():
                _check(name, key)
                _check(name, one)
        case Shape():
            check_bounds(value)


def _exceeds(name: str, value: str | bytes | int) -> bool:
    """Return whether a value of the field `name` is too long or too high."""
    if isinstance(value, str):
        return len(value) > (TEXT_LIMIT if name in _TEXTS else NAME_LENGTH)
    if isinstance(value, bytes):
        return len(value) > BYTES_LENGTH and name not in _LONG_BYTES
    return value >= NUMBER_LIMIT and name not in _ANY_NUMBER

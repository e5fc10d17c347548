"""Running digest of a group's log, by which a client and a server find out that their logs differ.

A client resumes after the last event that it has. A seq alone does not say which log it counts: a
server that was restored from a backup continues with other events under the same numbers. So a log
has a random *identity*, which it gets at its founding and anew when it is restored, and a running
*digest* over its events. A client sends both with its position, and the server compares them with
its own as of that position: they agree only if both have the same events up to there. The identity
finds a restore by tchat's own commands; the digest also finds one that was made by hand, by copying
a directory, and a client that has events that the server lost in a crash of its disk.

    d(0) = 16 zero bytes
    d(s) = the first 16 bytes of BLAKE2b-512(d(s - 1) | seq | at | n | client | actor)

`seq`, `at` and `n` have 8 bytes each (big-endian), and so has the id of the client; `actor` is in
UTF-8.

The digest covers only the header of an event, because texts are erased in place later, which must
leave the digest as it is. The header is enough to tell events apart: a
command has a number `n` that its client never uses again, and the events of one command differ in
their seqs. It is chained event by event, not over the bytes of a segment, because a client does not
know which events were committed together.

128 bits make an accidental match impossible in practice, and a hash makes one that a member
provokes as hard as a collision: a CRC could be forged with the client id, which its sender chooses.
It costs half a microsecond for an event, a hundredth of a post.

A digest may be unknown, and is empty then: so are all later ones.

A command that names an event by its seq carries its *stamp*, by which the server finds out that in
its log the event with this seq is another one: the command was written before a restore, and sent,
or sent again, after it. The stamp is computed from the event alone, since whoever names an event
need not know the log before it.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tchat.core.group.feature import Event

IDENTITY_SIZE = 16
DIGEST_SIZE = 16

EMPTY = bytes(DIGEST_SIZE)
"""The digest of a log without events."""

UNKNOWN = b""

STAMP_SIZE = 8

_NUMBERS = Struct(f">{DIGEST_SIZE}sQQQ").pack


def extend(digest: bytes, events: Iterable[Event]) -> bytes:
    """Return the digest of a log after the next events, given the one before them."""
    if digest == UNKNOWN:
        return UNKNOWN
    for event in events:
        numbers = _NUMBERS(digest, event.seq, event.at, event.n)
        # Without the option for a shorter digest, which takes as long as the hashing.
        digest = blake2b(numbers + event.client + event.actor.encode()).digest()[:DIGEST_SIZE]
    return digest


def stamp_of(event: Event) -> bytes:
    """Return a short hash of an event's header, which tells it from another event with its seq.

    It is the beginning of the digest of a log whose only event this is. Like that, it does not
    change when the text is erased.
    """
    return extend(EMPTY, (event,))[:STAMP_SIZE]

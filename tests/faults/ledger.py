"""Ledger of all operations of some clients: finds lost, doubled and reordered ones.

Every operation has a text of its own, so that it can be found in a log without trusting anything
that the product says about it. An operation is

- *sent*, until an answer comes. After a broken connection it is sent again with the same number.
- *acknowledged*: it is in the log exactly once, with the seq of its answer if that has one.
- *refused*: it is not in the log.
- *unknown*: its client gave it up without an answer. It may be in the log, but only once.

The operations of a client are in the log in the order of their numbers. What a member has received
(`View`) is the log, from the first event that the member may read.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import cbor2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Map = dict[str, Any]
Fate = Literal["sent", "acknowledged", "refused", "unknown"]
Kind = Literal["post", "edit", "delete"]

_EXAMPLES = 5


@dataclass(slots=True)
class Operation:
    """A command of a client: its number and text, or the target of a deletion, and its fate."""

    client: bytes
    n: int
    group: str
    kind: Kind
    text: str
    target: int = 0
    fate: Fate = "sent"
    seq: int | None = None


def digest(body: bytes) -> bytes:
    """Return a short digest of an event as it was received."""
    return blake2b(body, digest_size=8).digest()


@dataclass(slots=True)
class View:
    """What a member has received of a group: a digest of each event, and the seq of the first."""

    first: int = 1
    digests: list[bytes] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The seq of the last event."""
        return self.first + len(self.digests) - 1

    def add(self, seq: int, body: bytes) -> None:
        """Add an event; note it if it is not the next one."""
        if not self.digests:
            self.first = seq
        elif seq != self.last + 1:
            self.gaps.append(f"event {seq} came after event {self.last}")
            return
        self.digests.append(digest(body))


@dataclass(slots=True)
class Findings:
    """What a ledger found: counts, and a few sentences."""

    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    differing: int = 0
    invented: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost or self.doubled or self.reordered or self.differing or self.invented)

    def note(self, sentence: str) -> None:
        """Keep a sentence, if there are few."""
        if len(self.examples) < _EXAMPLES:
            self.examples.append(sentence)

    def add(self, other: Findings) -> None:
        """Add the findings of another ledger."""
        self.lost += other.lost
        self.doubled += other.doubled
        self.reordered += other.reordered
        self.differing += other.differing
        self.invented += other.invented
        for sentence in other.examples:
            self.note(sentence)


class Ledger:
    """The operations of some clients, and the views of the members."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.views: dict[tuple[str, str], View] = {}

    def view(self, member: str, group: str) -> View:
        """Return the view that a member has of a group."""
        return self.views.setdefault((member, group), View())

    def fates(self) -> dict[Fate, int]:
        """Return how many operations have each fate."""
        fates: dict[Fate, int] = {"sent": 0, "acknowledged": 0, "refused": 0, "unknown": 0}
        for operation in self.operations:
            fates[operation.fate] += 1
        return fates

    def check(self, group: str, log: Mapping[int, bytes]) -> Findings:
        """Compare the operations and views of a group with its log: the bodies by their seq."""
        found = Findings()
        events = {seq: cbor2.loads(body) for seq, body in log.items()}
        if sorted(events) != list(range(1, len(events) + 1)):
            found.lost += 1
            found.note(f"the log of {group} has gaps: {len(events)} events up to {max(events)}")
        operations = [one for one in self.operations if one.group == group]
        self._check_operations(operations, events, found)
        _check_order(operations, events, found)
        for (member, of), view in self.views.items():
            if of == group:
                _check_view(member, view, log, events, found)
        return found

    def _check_operations(
        self, operations: list[Operation], events: dict[int, Map], found: Findings
    ) -> None:
        erasable = {one.target for one in operations if one.kind == "delete"}
        erased = {seq: event for seq, event in events.items() if event["kind"] == "erased"}
        places = _places(events)
        for one in operations:
            at = places.pop(one.text, []) if one.text else _deletions(one, events)
            if len(at) > 1:
                found.doubled += len(at) - 1
                found.note(f"{one} is there {len(at)} times: {at}")
            if one.fate == "refused" and at:
                found.invented += 1
                found.note(f"{one} was refused, and is there at {at}")
            if one.fate == "acknowledged" and not at:
                if not _is_erased(one, erasable, erased):
                    found.lost += 1
                    found.note(f"{one} is lost")
            elif one.seq is not None and at and one.seq not in at:
                found.differing += 1
                found.note(f"{one} is at {at}")
        for text, at in places.items():
            found.invented += len(at)
            found.note(f"{text!r} at {at} was never sent")


def _places(events: Mapping[int, Map]) -> dict[str, list[int]]:
    """Return where each text is."""
    places: dict[str, list[int]] = defaultdict(list)
    for seq, event in events.items():
        if event["kind"] in ("posted", "edited"):
            places[event["text"]].append(seq)
    return places


def _deletions(one: Operation, events: Mapping[int, Map]) -> list[int]:
    """Return where a deletion of a message is."""
    if one.seq is not None:
        event = events.get(one.seq, {})
        return [one.seq] if event.get("target") == one.target else []
    return [
        seq
        for seq, event in events.items()
        if event["kind"] == "deleted" and event["target"] == one.target
    ]


def _is_erased(one: Operation, erasable: set[int], erased: Mapping[int, Map]) -> bool:
    """Return whether a text is not there because its message was deleted."""
    for seq, event in erased.items():
        if (event.get("client"), event.get("n")) == (one.client, one.n):
            return (one.target or seq) in erasable and one.seq in (None, seq)
    return False


def _check_order(
    operations: Iterable[Operation], events: Mapping[int, Map], found: Findings
) -> None:
    """Check that the operations of each client are in the order of their numbers."""
    ours = {one.client for one in operations}
    last: dict[bytes, tuple[int, int]] = {}
    for seq in sorted(events):
        event = events[seq]
        client, n = event.get("client"), event.get("n")
        if client not in ours or n is None:
            continue
        before, at = last.get(client, (0, 0))
        if n < before:
            found.reordered += 1
            found.note(f"command {n} of {client.hex()} is at {seq}, after {before} at {at}")
        last[client] = (max(n, before), seq)


def _check_view(
    member: str,
    view: View,
    log: Mapping[int, bytes],
    events: Mapping[int, Map],
    found: Findings,
) -> None:
    for sentence in view.gaps:
        found.differing += 1
        found.note(f"{member}: {sentence}")
    if view.digests and view.last != max(log, default=0):
        found.differing += 1
        found.note(f"{member} has events up to {view.last} of {max(log, default=0)}")
    for seq, seen in enumerate(view.digests, start=view.first):
        if seq in log and seen != digest(log[seq]) and events[seq]["kind"] != "erased":
            found.differing += 1
            found.note(f"{member} has another event {seq} than the log")

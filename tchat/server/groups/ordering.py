"""Preserve command order: once a command is rate-limited, reject later ones until it is resent.

A client pipelines commands without waiting for replies. If one exceeds the rate limit and is
refused, the bucket may hold a token again for the next, which would be committed first: what a
person wrote in one order would be read in another. So everything behind a refused command is
refused as well, and the client retries all of it, in the order of its sequence numbers.

Order matters within a group only, so each group has a queue of its own. Queues belong to a
connection: on a new one, the client resends everything that is unanswered anyway.

This applies to clients that announce in their `hello` that they retry. A command that is never
retried, because its author cancelled it, stops blocking the others after `RETRY_SECONDS`.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tchat.core.group.state import WINDOW
from tchat.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRY_SECONDS = 5.0
"""How long after its `wait` a refused command may be retried and keep its place."""


@dataclass(slots=True)
class _Refused:
    """Sequence numbers waiting for their retry, and the latest refusal for the rate itself."""

    refusal: Refused
    expires: float
    numbers: set[int] = field(default_factory=set)


class CommandOrder:
    """The order of one connection's commands, group by group."""

    __slots__ = ("_refused",)

    def __init__(self) -> None:
        self._refused: dict[str, _Refused] = {}

    @contextmanager
    def in_turn(self, group: str, number: int) -> Iterator[None]:
        """Run the block, which validates command `number` and may raise `Refused`.

        Raises `Refused` without running it if an earlier command has to be retried first.
        """
        waiting = self._waiting(group) if self._refused else None
        if waiting is not None and number > min(waiting.numbers):
            waiting.numbers.add(number)
            first = waiting.refusal
            raise Refused(first.code, first.sentence, first.wait)
        try:
            yield
        except Refused as refusal:
            if refusal.wait is None:  # final: the client will not retry it
                self._settle(group, number)
            else:
                self._hold(group, number, refusal)
            raise
        self._settle(group, number)

    def waiting(self) -> dict[str, int]:
        """Return how many commands wait for their retry in each group."""
        return {group: len(one.numbers) for group, one in self._refused.items()}

    def _waiting(self, group: str) -> _Refused | None:
        """Return what waits in a group, unless it is too late for a retry."""
        waiting = self._refused.get(group)
        if waiting is None:
            return None
        # A client that numbers its commands correctly has at most `WINDOW` of them in flight, so a
        # longer queue is none to keep memory for.
        if len(waiting.numbers) <= WINDOW and trio.current_time() < waiting.expires:
            return waiting
        del self._refused[group]
        return None

    def _settle(self, group: str, number: int) -> None:
        """Stop waiting for a command that has its final reply."""
        if (waiting := self._refused.get(group)) is not None:
            waiting.numbers.discard(number)
            if not waiting.numbers:
                del self._refused[group]

    def _hold(self, group: str, number: int, refusal: Refused) -> None:
        """Wait for the retry of a command; what comes after it gets the same refusal."""
        now = trio.current_time()
        self._refused = {key: one for key, one in self._refused.items() if now < one.expires}
        expires = now + (refusal.wait or 0) / 1000 + RETRY_SECONDS
        waiting = self._refused.setdefault(group, _Refused(refusal, expires))
        waiting.refusal, waiting.expires = refusal, expires
        waiting.numbers.add(number)

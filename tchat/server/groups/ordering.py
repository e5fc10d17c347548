"""Preserve command order: once a command is rate-limited, refuse later ones until its retry.

A client pipelines commands without waiting for replies. If a command is rate-limited, the bucket
may have a token again for the next one, which would then be committed first: messages would appear
in the wrong order. So all commands after a refused one are refused as well, and the client retries
them in the order of their sequence numbers.

Order matters only within a group, so each group has a queue of its own. Queues belong to a
connection, because on a new connection the client resends all unanswered commands anyway.

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
"""How long a refused command keeps its place in the order after its `wait` has passed."""


@dataclass(slots=True)
class _Refused:
    """Sequence numbers waiting for their retry, and the latest refusal by the rate limiter."""

    refusal: Refused
    expires: float
    numbers: set[int] = field(default_factory=set)


class CommandOrder:
    """The order of one connection's commands in each group."""

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
        """Return the waiting commands of a group, unless it is too late for a retry."""
        waiting = self._refused.get(group)
        if waiting is None:
            return None
        # A correct client has at most `WINDOW` commands in flight, so a longer queue is dropped to
        # bound the memory.
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
        """Wait for the retry of a command; commands after it get the same refusal."""
        now = trio.current_time()
        self._refused = {key: one for key, one in self._refused.items() if now < one.expires}
        expires = now + (refusal.wait or 0) / 1000 + RETRY_SECONDS
        waiting = self._refused.setdefault(group, _Refused(refusal, expires))
        waiting.refusal, waiting.expires = refusal, expires
        waiting.numbers.add(number)

"""What came too fast keeps its place: until it has come again, nothing sent behind it is done.

A client sends command after command and waits for no answer. One of them may come too fast and be
refused, and the next find a token in the bucket again. It would be done first, and what a person
wrote in one order be read in another. So the next is refused as well, and all behind it; they come
again by their numbers, each after those before it. Order is a group's, so each has a line of its
own, and a connection's, as on a new one a client begins with all that is unanswered.

This is for a client that says in its `hello` that it sends again what was refused. What it does
not send again, because its person takes it back, has lost its place after `PATIENCE_SECONDS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tchat.core.state import WINDOW
from tchat.errors import Refused

if TYPE_CHECKING:
    from tchat.server.limits import Rates

PATIENCE_SECONDS = 5.0
"""For how long after its `wait` a command is waited for."""


@dataclass(slots=True)
class _Line:
    """The numbers that are to come again, and what the first of them was told."""

    refusal: Refused
    until: float
    numbers: set[int] = field(default_factory=set)


class Order:
    """Counts what one connection does in groups, of which the person is a member, as messages."""

    __slots__ = ("_lines", "_person", "_rates", "_resends")

    def __init__(self, rates: Rates, person: str, *, resends: bool) -> None:
        self._rates = rates
        self._person = person
        self._resends = resends
        self._lines: dict[str, _Line] = {}

    def take(self, group: str, number: int) -> None:
        """Count a command, by its number. Raises `Refused` (rate_limited) if it came too fast."""
        line = self._line(group)
        if line is not None and number > min(line.numbers):
            line.numbers.add(number)
            raise Refused(line.refusal.code, line.refusal.sentence, line.refusal.wait)
        try:
            self._rates.take("messages", self._person)
        except Refused as refusal:
            if self._resends:
                self._hold(group, number, refusal)
            raise
        if line is not None:
            line.numbers.discard(number)

    def _line(self, group: str) -> _Line | None:
        """Return a group's line, if somebody may still come who stands in it."""
        line = self._lines.get(group)
        if line is None:
            return None
        # No client that counts as it should has more than a window of numbers on their way.
        if 0 < len(line.numbers) <= WINDOW and trio.current_time() < line.until:
            return line
        del self._lines[group]
        return None

    def _hold(self, group: str, number: int, refusal: Refused) -> None:
        until = trio.current_time() + (refusal.wait or 0) / 1000 + PATIENCE_SECONDS
        line = self._lines.setdefault(group, _Line(refusal, until))
        line.refusal, line.until = refusal, until
        line.numbers.add(number)

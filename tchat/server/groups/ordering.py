"""What came too fast keeps its place: until it has come again, nothing sent behind it is decided.

A client sends command after command and waits for no answer. One of them may come too fast and be
refused, and the next find a token in the bucket again. It would be done first, and what a person
wrote in one order be read in another. So the next is refused as well, and all behind it; they come
again by their numbers, each after those before it. Order is a group's, so each has a line of its
own, and a connection's, as on a new one a client begins with all that is unanswered.

This is for a client that says in its `hello` that it sends again what was refused. What it does
not send again, because its person takes it back, has lost its place after `PATIENCE_SECONDS`.
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

PATIENCE_SECONDS = 5.0
"""For how long after its `wait` a command is waited for."""


@dataclass(slots=True)
class _Line:
    """The numbers that are to come again, and the last refusal of one that was first in line."""

    refusal: Refused
    until: float
    numbers: set[int] = field(default_factory=set)


class CommandOrder:
    """The order of what one connection commands, group by group."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    @contextmanager
    def turn(self, group: str, number: int) -> Iterator[None]:
        """Decide a command in the block, which may raise `Refused`, or leave it by its answer.

        Raises `Refused` without running the block if another one has to come first.
        """
        line = self._line(group) if self._lines else None
        if line is not None and number > min(line.numbers):
            line.numbers.add(number)
            raise Refused(line.refusal.code, line.refusal.sentence, line.refusal.wait)
        try:
            yield
        except Refused as refusal:
            if refusal.wait is None:
                self._answered(group, number)
            else:
                self._hold(group, number, refusal)
            raise
        self._answered(group, number)

    def _line(self, group: str) -> _Line | None:
        """Return a group's line, if somebody may still come who stands in it."""
        line = self._lines.get(group)
        # No client that counts as it should has more than a window of numbers on their way.
        if line is None or (len(line.numbers) <= WINDOW and trio.current_time() < line.until):
            return line
        del self._lines[group]
        return None

    def _answered(self, group: str, number: int) -> None:
        if (line := self._lines.get(group)) is not None:
            line.numbers.discard(number)
            if not line.numbers:
                del self._lines[group]

    def _hold(self, group: str, number: int, refusal: Refused) -> None:
        now = trio.current_time()
        self._lines = {key: line for key, line in self._lines.items() if now < line.until}
        until = now + (refusal.wait or 0) / 1000 + PATIENCE_SECONDS
        line = self._lines.setdefault(group, _Line(refusal, until))
        line.refusal, line.until = refusal, until
        line.numbers.add(number)

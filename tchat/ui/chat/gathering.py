"""Gather news that may come in any number: the first at once, the rest in one line after a pause.

Strangers cost nothing: a hundred of them must not be a hundred lines. Nor must an admin whose
program sets the topic in a loop. So whatever they cause is told at once if nothing (or little) of
its kind was told for `PAUSE_SECONDS`, and otherwise together with all the rest, when that time is
over. What is gathered is told at the end of the program at the latest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Start = Callable[[Callable[[], Awaitable[object]]], None]

T = TypeVar("T")

PAUSE_SECONDS = 5.0
"""How long what comes next is gathered."""

_NAMED = 3
_MOST_GATHERED = 10_000


class Gathering(Generic[T]):
    """News of one kind, told by `tell`, so many `at_once`; made by `Gatherings`."""

    def __init__(self, start: Start, tell: Callable[[list[T]], None], at_once: int) -> None:
        self._start = start
        self._tell = tell
        self._at_once = at_once
        self._told = 0
        self._gathered: list[T] = []
        self._pausing = False

    def add(self, item: T) -> None:
        """Tell an item, now or later."""
        if self._told >= self._at_once:
            if len(self._gathered) < _MOST_GATHERED:
                self._gathered.append(item)
            return
        self._told += 1
        if not self._pausing:
            self._pausing = True
            self._start(self._pause)
        self._tell([item])

    def flush(self) -> None:
        """Tell what is gathered now."""
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._tell(gathered)

    async def _pause(self) -> None:
        await trio.sleep(PAUSE_SECONDS)
        while self._gathered:
            self.flush()
            await trio.sleep(PAUSE_SECONDS)
        self._pausing, self._told = False, 0


class Gatherings:
    """All gatherings of a chat; `start` runs a function in the background."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._all: WeakSet[Gathering[Any]] = WeakSet()

    def new(self, tell: Callable[[list[T]], None], at_once: int = 1) -> Gathering[T]:
        """Return a gathering that is told by `tell`, so many items `at_once`."""
        gathering = Gathering(self._start, tell, at_once)
        self._all.add(gathering)
        return gathering

    def flush(self) -> None:
        """Tell all that is gathered."""
        for gathering in list(self._all):
            gathering.flush()


def some_of(names: Sequence[str]) -> str:
    """Return some names: "alice, bob, carol and 9 more"."""
    if len(names) <= _NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"

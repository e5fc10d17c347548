"""Idle groups: those that nobody follows, kept for a while in case they are needed again.

Their states take memory, and any member can make the server load one group after the other. So they
have a budget together. Beyond it, those that have been idle for the longest time end early, which
costs nothing but loading them again.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trio

BUDGET = 500_000
"""The most entries of all idle groups' states together; an entry takes about 200 bytes."""

_ENTRIES_PER_GROUP = 100
"""The actor of a group takes as much memory as so many entries of a state."""


class IdleGroups:
    """The idle groups, by the scopes in which they wait; the longest idle first."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._total = 0
        self._sizes: dict[trio.CancelScope, int] = {}

    @contextmanager
    def waiting(self, scope: trio.CancelScope, entries: int) -> Iterator[None]:
        """Count a group as idle for the length of the block; `scope` may be cancelled meanwhile."""
        self._sizes[scope] = entries + _ENTRIES_PER_GROUP
        self._total += self._sizes[scope]
        while self._total > self._budget and len(self._sizes) > 1:
            oldest = next(iter(self._sizes))
            self._remove(oldest)
            oldest.cancel()
        try:
            yield
        finally:
            self._remove(scope)

    def _remove(self, scope: trio.CancelScope) -> None:
        self._total -= self._sizes.pop(scope, 0)

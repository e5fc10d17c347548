"""Recent changes: the people who are affected by changes since a reader last looked.

A reader keeps what it computed from many people, and computes it again only for those who changed.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

_KEPT = 1024


class RecentChanges:
    """The people (folded) of the latest changes; `count` is the number of all changes so far."""

    def __init__(self) -> None:
        self.count = 0
        self._people: deque[str] = deque(maxlen=_KEPT)

    def add(self, person: str) -> None:
        """Note that something has changed for a person."""
        self.count += 1
        self._people.append(person)

    def since(self, count: int) -> set[str] | None:
        """Return the people of the changes after the first `count`; None if some are forgotten."""
        changes = self.count - count
        if changes > len(self._people):
            return None
        return set(islice(reversed(self._people), changes))

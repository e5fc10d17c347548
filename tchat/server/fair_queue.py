"""Fair queue: one piece of slow work of each person at a time, and few that wait.

Whoever is admitted may still have to wait for the thread that does the work, behind one piece of
work of each other person at most: that thread works first come, first served, so the result is a
round robin of people. How many connections a person has makes no difference.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_RETRY_MS = 2000


class FairQueue:
    """The queue of one kind of work, `what` in the plural, such as "searches".

    At most `people` people work or wait, each with `each` pieces of work.
    """

    def __init__(self, what: str, people: int, each: int) -> None:
        self._what = what
        self._people = people
        self._each = each
        self._locks: dict[str, trio.Lock] = {}

    @asynccontextmanager
    async def admit(self, person: str) -> AsyncIterator[None]:
        """Wait for a person's (folded) earlier work; the block works. Raises `Refused` (busy)."""
        lock = self._locks.get(person)
        if lock is None:
            if len(self._locks) >= self._people:
                raise Refused(
                    Code.BUSY, f"The server has too many {self._what}; try again soon.", _RETRY_MS
                )
            lock = self._locks[person] = trio.Lock()
        elif lock.statistics().tasks_waiting + 1 >= self._each:
            raise Refused(
                Code.BUSY, f"You have {self._each} {self._what} at once; wait for one.", _RETRY_MS
            )
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                # Nobody has waited: otherwise, the lock would be theirs now.
                self._locks.pop(person, None)

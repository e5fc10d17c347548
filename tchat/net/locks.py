"""Two locks that a stream can have without paying for them while nobody else wants it."""

from __future__ import annotations

import trio


class Queue:
    """A lock that costs nothing while nobody waits for it: no turn of the scheduler, no memory.

    Who waits gets it from the one before, and nobody gets in between: what is sealed has an order.
    """

    __slots__ = ("_waiting", "locked")

    def __init__(self) -> None:
        self.locked = False
        self._waiting: trio.lowlevel.ParkingLot | None = None

    async def acquire(self) -> None:
        """Have the lock, after those who came before."""
        if not self.locked:
            self.locked = True
            return
        if self._waiting is None:
            self._waiting = trio.lowlevel.ParkingLot()
        await self._waiting.park()

    def release(self) -> None:
        """Leave the lock to whoever waits longest."""
        if self._waiting:
            self._waiting.unpark()
        else:
            self.locked = False


class OneTask:
    """Lets one task in at a time, and tells the other instead of having it wait."""

    __slots__ = ("_busy", "_doing")

    def __init__(self, doing: str) -> None:
        self._doing, self._busy = doing, False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(f"another task is {self._doing} this stream")
        self._busy = True

    def __exit__(self, *_: object) -> None:
        self._busy = False

"""Queue of updates between a session and its user interface or bot, with backpressure.

A session reads no more from the server while too many updates wait here, so that whoever is slow
makes the server wait, and not the memory grow. The server keeps no more for a slow client either:
it reads the events again from its disk.

The receiver may wait for an answer that comes after the updates that it has not received yet. So as
long as requests are unanswered, four times as many updates may wait.
"""

from __future__ import annotations

from collections import deque

import trio

from tchat.client.replica import size_of
from tchat.client.updates import EventReceived, HistoryLoaded, PresenceChanged, Update

MOST_UPDATES = 10_000
MOST_BYTES = 8 * 1024 * 1024

_UPDATE_SIZE = 200
_FACTOR = 4


class UpdateQueue(trio.abc.ReceiveChannel[Update]):
    """Updates in order; `size` is what those that wait take in memory, in bytes."""

    def __init__(self) -> None:
        self.size = 0
        self._waiting: deque[Update] = deque()
        self._added = trio.Event()
        self._taken = trio.Event()
        self._receivers = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, update: Update) -> None:
        """Add an update, except that a change of presence replaces the one right before it."""
        if isinstance(update, PresenceChanged) and self._waiting and self._waiting[-1] == update:
            return
        self._waiting.append(update)
        self.size += _size_of(update)
        self._added.set()

    @property
    def is_idle(self) -> bool:
        """Whether every update has been received and handled: the receiver waits for the next."""
        return not self._waiting and bool(self._receivers)

    def is_full(self, *, unanswered: bool) -> bool:
        """Return whether the session should wait; with `unanswered`, requests have no answer."""
        factor = _FACTOR if unanswered else 1
        return len(self) > factor * MOST_UPDATES or self.size > factor * MOST_BYTES

    async def wait_taken(self) -> None:
        """Wait until an update is received."""
        self._taken = trio.Event()
        await self._taken.wait()

    async def receive(self) -> Update:
        """Wait for the next update, and return it."""
        # No checkpoint if there is none: whoever waits until the receiver is idle looks right
        # after an update was handled, and nothing would wake them later.
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._waiting:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while not self._waiting:
            if self._added.is_set():
                self._added = trio.Event()
            self._receivers += 1
            try:
                await self._added.wait()
            finally:
                self._receivers -= 1
        return self.receive_nowait()

    def receive_nowait(self) -> Update:
        """Return the next update. Raises `trio.WouldBlock`."""
        if not self._waiting:
            raise trio.WouldBlock
        update = self._waiting.popleft()
        self.size -= _size_of(update)
        self._taken.set()
        return update

    async def aclose(self) -> None:
        """Do nothing: a session has updates as long as it runs."""
        await trio.lowlevel.checkpoint()


def _size_of(update: Update) -> int:
    match update:
        case EventReceived(event=event):
            return _UPDATE_SIZE + size_of(event)
        case HistoryLoaded(events=events):
            return _UPDATE_SIZE + sum(map(size_of, events))
    return _UPDATE_SIZE

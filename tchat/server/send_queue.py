"""What waits for one socket: bytes in order, bounded, and nothing at all most of the time.

What is pushed goes to the socket at once, as long as that takes it. Only what is left waits here,
and wakes a writer, who takes until nothing is left. So a client that reads costs its group's actor
one system call for a batch, and no task has to run for it; and one that reads slowly has a writer
of its own, for as long as it takes.

Two kinds of senders meet here. The group's actor must never wait for a slow reader, so it
offers, and a full outbox says no; that reader is then fed from the store at its own pace. Tasks
of the connection itself can wait, so they ask for room first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.framing import FRAME_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

SEND_QUEUE_LIMIT = 256 * 1024
"""Bytes above which an outbox takes no more offers."""

WRITE_SIZE = FRAME_LIMIT
"""Most bytes in one write; each write has its own deadline."""


class SendQueueClosed(Exception):
    """The connection has ended; nothing sent from here on would arrive."""


class SendQueue:
    """The queue between everybody who has something for a connection and its socket.

    `send_now` sends what goes at once and returns the rest, or None if there is none; it is not
    called while a writer is at work. `wake` is called when something begins to wait, and at the
    end: the writer is to `take`, send, and tell what was `sent`, until nothing is left to be taken.
    """

    __slots__ = ("_limit", "_room", "_send_now", "_waiting", "_wake", "_writing", "closed", "size")

    def __init__(
        self,
        send_now: Callable[[bytes], bytes | None],
        wake: Callable[[], None],
        limit: int = SEND_QUEUE_LIMIT,
    ) -> None:
        self.size = 0
        self.closed = False
        self._send_now = send_now
        self._wake = wake
        self._limit = limit
        self._waiting: list[bytes] = []
        self._writing = False
        self._room: trio.Event | None = None

    @property
    def full(self) -> bool:
        """Whether an offer would be turned down."""
        return self.size >= self._limit

    def offer(self, data: bytes) -> bool:
        """Send `data`, or queue it unless the outbox is full; return whether it was taken."""
        if self.full:
            return False
        self.push(data)
        return True

    def push(self, data: bytes) -> None:
        """Send or queue `data` whatever the limit: for the few frames that must not be lost."""
        if self.closed:
            return
        if self._writing:
            self._queue(data)
        elif (rest := self._send_now(data)) is not None:
            self._queue(rest)
            self._call_writer()

    def _queue(self, data: bytes) -> None:
        self._waiting.append(data)
        self.size += len(data)

    @property
    def crowded(self) -> bool:
        """Whether one who can wait should: it is more than half full, or closed."""
        return self.size > self._limit // 2 or self.closed

    async def room(self) -> None:
        """Wait until the outbox is at most half full. Raises `SendQueueClosed`."""
        while self.crowded:
            if self.closed:
                raise SendQueueClosed
            if self._room is None:
                self._room = trio.Event()
            await self._room.wait()

    def take(self) -> bytes | None:
        """Return what waits; None if nothing does, and the writer's work is done."""
        if not self._waiting:
            self._writing = False
            return None
        data = b"".join(self._waiting)
        self._waiting.clear()
        return data

    def sent(self, count: int) -> None:
        """Note that `count` bytes have left for the socket."""
        self.size -= count
        if not self.crowded:
            self._make_known()

    def close(self) -> None:
        """Take nothing more; the writer still sends what waits."""
        if not self.closed:
            self.closed = True
            self._call_writer()
            del self._send_now, self._wake  # they hold the connection, which holds this
            self._make_known()

    def _call_writer(self) -> None:
        if not self._writing:
            self._writing = True
            self._wake()

    def _make_known(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

"""Bounded send queue of one connection: the memory limit for a client that reads slowly.

Data goes to the socket directly, as long as the socket accepts it. Only the rest is queued here,
and starts a writer task, which runs until the queue is empty. So a client that keeps up costs its
group's actor one system call per batch and no task switch; a slow client has a writer task of its
own while it is slow.

There are two kinds of senders. A group's actor must never wait for a slow client, so it calls
`offer`, which refuses data when the queue is full; the client then gets the events from the store
at its own pace. Tasks of the connection itself can wait, so they call `wait_for_space` first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.framing import FRAME_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

SEND_QUEUE_LIMIT = 256 * 1024
"""The size in bytes at which a queue is full, and `offer` refuses data."""

WRITE_SIZE = FRAME_LIMIT
"""The largest size of one write, in bytes; each write has its own deadline."""


class SendQueueClosed(Exception):
    """The connection has ended, so data that is sent now cannot arrive."""


class SendQueue:
    """The queue between all senders of a connection and its socket.

    `send_now` sends as much as the socket accepts and returns the rest, or None if there is none;
    it is not called while a writer runs. `start_writer` is called when data is queued, and on
    close. The writer calls `dequeue`, sends the data, reports it with `mark_sent`, and repeats
    until `dequeue` returns None.
    """

    __slots__ = (
        "_limit",
        "_pending",
        "_send_now",
        "_space",
        "_start_writer",
        "_writing",
        "closed",
        "size",
    )

    def __init__(
        self,
        send_now: Callable[[bytes], bytes | None],
        start_writer: Callable[[], None],
        limit: int = SEND_QUEUE_LIMIT,
    ) -> None:
        self.size = 0
        self.closed = False
        self._send_now = send_now
        self._start_writer = start_writer
        self._limit = limit
        self._pending: list[bytes] = []
        self._writing = False
        self._space: trio.Event | None = None

    @property
    def full(self) -> bool:
        """Whether `offer` would refuse data."""
        return self.size >= self._limit

    def offer(self, data: bytes) -> bool:
        """Send or queue `data` unless the queue is full; return whether it was accepted."""
        if self.full:
            return False
        self.push(data)
        return True

    def push(self, data: bytes) -> None:
        """Send or queue `data` regardless of the limit, for frames that must not be lost.

        Does nothing once the queue is closed.
        """
        if self.closed:
            return
        if self._writing:
            self._enqueue(data)  # after the data that the writer has not sent yet
        elif (rest := self._send_now(data)) is not None:
            self._enqueue(rest)
            self._ensure_writer()

    def _enqueue(self, data: bytes) -> None:
        self._pending.append(data)
        self.size += len(data)

    @property
    def congested(self) -> bool:
        """Whether the queue is over half full or closed; senders that can wait should wait."""
        return self.size > self._limit // 2 or self.closed

    async def wait_for_space(self) -> None:
        """Wait until the queue is at most half full. Raises `SendQueueClosed`."""
        while self.congested:
            if self.closed:
                raise SendQueueClosed
            if self._space is None:
                self._space = trio.Event()
            await self._space.wait()

    def dequeue(self) -> bytes | None:
        """Return all queued data, or None if there is none; the writer then has to end.

        `size` includes the data until `mark_sent`, because it still takes memory.
        """
        if not self._pending:
            self._writing = False
            return None
        data = b"".join(self._pending)
        self._pending.clear()
        return data

    def mark_sent(self, count: int) -> None:
        """Record that the socket has accepted `count` bytes of the dequeued data."""
        self.size -= count
        if not self.congested:
            self._wake_waiting()

    def close(self) -> None:
        """Accept no more data; the writer still sends what is queued."""
        if not self.closed:
            self.closed = True
            self._ensure_writer()
            # The callbacks refer to the connection, which refers to this queue. Delete them to
            # break this cycle, so that reference counting alone frees the objects.
            del self._send_now, self._start_writer
            self._wake_waiting()

    def _ensure_writer(self) -> None:
        if not self._writing:
            self._writing = True
            self._start_writer()

    def _wake_waiting(self) -> None:
        if self._space is not None:
            self._space.set()
            self._space = None

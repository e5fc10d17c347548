"""Bounded send queue of one connection: backpressure for a client that reads slowly.

Data goes to the socket directly, as long as the socket accepts it. Only the rest is queued here,
and starts a writer task, which runs until the queue is empty. So a client that keeps up costs its
group's actor one system call per batch and no task switch; a slow client has a writer task of its
own while it is slow.

There are two kinds of senders. A group's actor must never wait for a slow client, so it calls
`offer`, which refuses data when the queue is full; the client then gets the events from the store
at its own pace. Tasks of the connection itself can wait, so they call `wait_for_space` first.

What a client has missed in the groups that it follows comes from *sources*, one for each group that
is behind. One task of the connection, the feeder, lets one source after the other add a page when
the queue is at most half full. So a connection takes about as much memory with 200 groups that are
behind as with one: half of a queue and a page.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.framing import FRAME_LIMIT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Source = Callable[[], Awaitable[bool]]

SEND_QUEUE_LIMIT = 256 * 1024
"""The size in bytes at which a queue is full, and `offer` refuses data."""

OVERFLOW = 8 * SEND_QUEUE_LIMIT
"""The size in bytes at which the connection ends, because its client does not read.

Answers and notices are queued regardless of `SEND_QUEUE_LIMIT`. They come to less than this, unless
others make the server send notices to somebody who reads nothing.
"""

WRITE_SIZE = FRAME_LIMIT
"""The largest size of one write, in bytes; each write has its own deadline."""


class SendQueueClosed(Exception):
    """The connection has ended, so data that is sent now cannot arrive."""


def _no_feeder(_: object) -> None:
    raise NotImplementedError("this queue has no sources")


async def _admit_at_once() -> None:
    """Admit a page of a queue that belongs to nobody."""


class SendQueue:
    """The queue between all senders of a connection and its socket.

    `send_now` sends as much as the socket accepts and returns the rest, or None if there is none;
    it is not called while a writer runs. `start_writer` is called when data is queued, and on
    close. The writer calls `dequeue`, sends the data, reports it with `mark_sent`, and repeats
    until `dequeue` returns None. `start_feeder` is called with the feeder when there are sources,
    and starts it as a task. `admit_page` waits until the client's budget allows a page of a log.
    `overflowed` says that the queue was closed at `OVERFLOW`. `unanswered` counts the
    commands of the connection that are with a group's actor.
    """

    __slots__ = (
        "_admit_page",
        "_limit",
        "_pending",
        "_send_now",
        "_sources",
        "_space",
        "_start_feeder",
        "_start_writer",
        "_writing",
        "closed",
        "overflowed",
        "size",
        "unanswered",
    )

    def __init__(
        self,
        send_now: Callable[[bytes], bytes | None],
        start_writer: Callable[[], None],
        limit: int = SEND_QUEUE_LIMIT,
        start_feeder: Callable[[Callable[[], Awaitable[None]]], object] = _no_feeder,
        admit_page: Callable[[], Awaitable[None]] = _admit_at_once,
    ) -> None:
        self.size = self.unanswered = 0
        self.closed = self.overflowed = False
        self._send_now = send_now
        self._start_writer = start_writer
        self._start_feeder = start_feeder
        self._admit_page = admit_page
        self._sources: deque[Source] | None = None  # while there is a feeder
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
        if self.size > OVERFLOW:
            self.overflowed = True
            self.close()

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

    def feed(self, source: Source) -> None:
        """Call `source` whenever there is space, in turns with others, until it returns True.

        Each time, it may push about a page. Does nothing once the queue is closed.
        """
        if self.closed:
            return
        if self._sources is not None:
            self._sources.append(source)
            return
        self._sources = deque([source])
        self._start_feeder(self._run_feeder)

    async def _run_feeder(self) -> None:
        sources = self._sources or deque()
        try:
            while sources:
                await self.wait_for_space()
                source = sources.popleft()
                if not await source():
                    sources.append(source)
                if len(sources) > 1:  # others have their turns, even if all pages are in memory
                    await trio.lowlevel.checkpoint()
        except SendQueueClosed:
            return
        finally:
            self._sources = None

    async def wait_for_budget(self) -> None:
        """Wait until the client's budget allows a page, and charge it. Raises `SendQueueClosed`."""
        if self.closed:
            raise SendQueueClosed
        await self._admit_page()

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
            del self._send_now, self._start_writer, self._start_feeder, self._admit_page
            self._wake_waiting()

    def _ensure_writer(self) -> None:
        if not self._writing:
            self._writing = True
            self._start_writer()

    def _wake_waiting(self) -> None:
        if self._space is not None:
            self._space.set()
            self._space = None

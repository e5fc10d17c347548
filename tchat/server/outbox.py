"""What waits for one socket: bytes in order, bounded, written by one task.

Two kinds of senders meet here. The group's actor must never wait for a slow reader, so it
offers, and a full outbox says no; that reader is then fed from the store at its own pace. Tasks
of the connection itself can wait, so they ask for room first.
"""

from __future__ import annotations

import trio

from tchat.core.framing import FRAME_LIMIT

OUTBOX_LIMIT = 256 * 1024
"""Bytes above which an outbox takes no more offers."""

WRITE_SIZE = FRAME_LIMIT
"""Most bytes in one write; each write has its own deadline."""


class OutboxClosed(Exception):
    """The connection has ended; nothing sent from here on would arrive."""


class Outbox:
    """The queue between everybody who has something for a connection and its writer task."""

    def __init__(self, limit: int = OUTBOX_LIMIT) -> None:
        self.size = 0
        self.closed = False
        self._limit = limit
        self._waiting: list[bytes] = []
        self._news = trio.Event()
        self._room = trio.Event()

    @property
    def full(self) -> bool:
        """Whether an offer would be turned down."""
        return self.size >= self._limit

    def offer(self, data: bytes) -> bool:
        """Queue `data` unless the outbox is full; return whether it was taken."""
        if self.full:
            return False
        self.push(data)
        return True

    def push(self, data: bytes) -> None:
        """Queue `data` whatever the limit: for the few frames that must not be lost."""
        if self.closed:
            return
        self._waiting.append(data)
        self.size += len(data)
        self._news.set()

    async def room(self) -> None:
        """Wait until the outbox is at most half full. Raises `OutboxClosed`."""
        while self.size > self._limit // 2 and not self.closed:
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()
        if self.closed:
            raise OutboxClosed

    async def take(self) -> bytes:
        """Return what waits, at least a byte of it; none when the outbox is closed and empty."""
        while not self._waiting and not self.closed:
            self._news = trio.Event()
            await self._news.wait()
        data = b"".join(self._waiting)
        self._waiting.clear()
        return data

    def sent(self, count: int) -> None:
        """Note that `count` bytes have left for the socket."""
        self.size -= count
        if self.size <= self._limit // 2:
            self._room.set()

    def close(self) -> None:
        """Take nothing more; the writer still sends what waits, and then ends."""
        self.closed = True
        self._news.set()
        self._room.set()

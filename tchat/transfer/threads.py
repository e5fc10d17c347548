"""Worker threads for file I/O and hashing, which would otherwise block the event loop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PIECE_THREADS = max(1, (os.cpu_count() or 1) - 1)
"""How many threads read, write and hash pieces. One processor is left to the event loop."""

_PIECE_THREADS = trio.CapacityLimiter(PIECE_THREADS)

_FILE_THREADS = trio.CapacityLimiter(2)
"""Threads for work that may read a whole file, so that pieces do not have to wait for it."""


def check_cancelled() -> None:
    """Raise `trio.Cancelled` in a worker thread whose task has been cancelled."""
    trio.from_thread.check_cancelled()


async def in_thread(work: Callable[[], T], *, long: bool = False) -> T:
    """Run blocking work in a thread; `long` if it may read a whole file."""
    return await trio.to_thread.run_sync(work, limiter=_FILE_THREADS if long else _PIECE_THREADS)


async def in_thread_shielded(work: Callable[[], T]) -> T:
    """Run clean-up in a thread, even if the task has been cancelled.

    It needs a thread because removing a large file, or closing a removed one, can take a while.
    """
    with trio.CancelScope(shield=True):
        result = await in_thread(work)
    return result  # noqa: RET504  # for mypy, a cancel scope may swallow an exception

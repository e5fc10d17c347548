"""Keep a thread of the SQLite store busy."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Awaitable, Callable

    Run = Callable[[Callable[[sqlite3.Connection], None]], Awaitable[None]]


@asynccontextmanager
async def busy(run: Run) -> AsyncIterator[None]:
    """Keep a thread busy, for example the one of `Database.write`, until the end of the block."""
    started, go_on = threading.Event(), threading.Event()

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT count(*) FROM groups").fetchone()
        started.set()
        assert go_on.wait(30), "the block waited for the busy thread"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, work)
        await trio.to_thread.run_sync(started.wait)
        try:
            yield
        finally:
            go_on.set()

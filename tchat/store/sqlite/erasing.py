"""Remove the traces of erased messages from the disk, in the background.

The transaction that erases a message also overwrites its text in the database, so nobody can read
it any more. Traces are left in two places:

- the write-ahead log has earlier versions of the pages, until it is emptied (`Database.scrub`);
- the search index may have the words of the message, until it is merged (`SearchIndex.purge`).

Besides, closed groups and expired messages are erased segment by segment (see `closing`).

All of this competes with the messages of other groups for the writer thread, and everybody who may
delete can cause it. So neither the deleter nor anybody else waits for it, many deletions share one
round of it, and after each round it rests, so that posts are as fast as without: at least a second,
a hundred times as long as the scrub took, and before the next merge, nine times as long as that
took. So if one text is deleted, its traces are gone at once, and if many are, soon after the last
one: merging the index of a million messages takes some seconds. Long reads end within
`search.SEARCH_SECONDS`, and cannot keep the write-ahead log for longer. Only another program that
reads the file can, or a failing disk; then it is tried again, every second at first, later every
minute, and `Database.troubles` says so.

What a crash interrupts, the next start finishes.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from tchat.errors import StorageError
from tchat.store.base import DataDamaged, StorageFull
from tchat.store.sqlite.closing import Erasing
from tchat.store.sqlite.database import SCRUB_AGAIN_SECONDS
from tchat.store.sqlite.search import SearchIndex

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.store.sqlite.database import Database

CLOSE_SECONDS = 3.0
"""How long the end of the program may be delayed; the next start does the rest."""

_REST_AFTER_MERGE = 9
_REST_AFTER_SCRUB = 100
_LONGEST_REST_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 60.0


class Eraser:
    """Removes traces while there are any. `index` is the search index."""

    def __init__(self, database: Database) -> None:
        self.index = SearchIndex(database)
        self._database = database
        self._erasing = Erasing()
        self._asked = 0  # counts the calls of `start`
        self._scrubbed = 0  # how many of them the log has been emptied for
        self._done = 0  # how many of them have no traces left
        self._purge_at = 0.0  # by `trio.current_time()`
        self._waiting = 0  # tasks in `settle`
        self._hurry = trio.Event()
        self._rounds = trio.lowlevel.ParkingLot()
        self._scope: trio.CancelScope | None = None

    def start(self) -> None:
        """Remove the traces of what has been erased so far, in the background."""
        self._asked += 1
        if self._scope is None:
            self._scope = trio.CancelScope()
            # It belongs to no connection or group: to none of their nurseries.
            trio.lowlevel.spawn_system_task(self._run, self._scope)

    async def is_needed(self) -> bool:
        """Return whether the last program has left something to erase."""
        try:
            is_left = await self._database.read(self._erasing.is_needed)
            return is_left or await self.index.needs_purge()
        except DataDamaged:  # which has been reported
            return False

    async def settle(self) -> bool:
        """Remove all traces of what has been erased so far, now; return whether that was possible.

        It is not while another program reads the file, or if the disk is full.
        """
        asked = self._asked
        self._waiting += 1
        self._hurry.set()
        try:
            for _ in range(2):  # the current round may have begun before
                if self._done < asked and self._scope is not None:
                    await self._rounds.park()
        finally:
            self._waiting -= 1
        return self._done >= asked

    async def stop(self) -> None:
        """Leave the rest to the next start."""
        while self._scope is not None:
            self._scope.cancel()
            await self._rounds.park()

    async def _run(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                while self._done < self._asked:
                    await self._round()
                    self._rounds.unpark_all()
                    await self._rest()
        except StorageError:
            pass  # all later writes fail with the same error, and the server stops
        finally:
            self._scope = None
            self._rounds.unpark_all()

    async def _round(self) -> None:
        """Remove all traces that are there now, as far as that is possible."""
        asked = self._asked
        try:
            await self._scrub(asked)  # at once, since the rest may take a while
            if await self._database.read(self._erasing.is_needed):
                self._scrubbed = 0
                await self._erasing.run(self._database)
            if await self.index.needs_purge():
                if not self._waiting and trio.current_time() < self._purge_at:
                    return
                self._scrubbed = 0
                await self._purge()
            await self._scrub(asked)
        except StorageFull:
            return  # until there is room again
        except DataDamaged:  # the search index; the log says so, and the next start tries again
            self._done = asked
            return
        if self._scrubbed == asked:
            self._done = asked

    async def _scrub(self, asked: int) -> None:
        if self._scrubbed != asked and await self._database.scrub():
            self._scrubbed = asked

    async def _purge(self) -> None:
        began = trio.current_time()
        try:
            await self.index.purge()
        finally:
            self._purge_at = trio.current_time() + _REST_AFTER_MERGE * (trio.current_time() - began)

    async def _rest(self) -> None:
        """Leave the writer thread to others for a while, unless a task waits in `settle`."""
        if self._waiting:
            await trio.lowlevel.checkpoint()
            return
        self._hurry = trio.Event()
        seconds = min(_REST_AFTER_SCRUB * self._database.scrub_seconds, _LONGEST_REST_SECONDS)
        again = SCRUB_AGAIN_SECONDS * 2 ** (self._database.scrub_failures // 10)
        with trio.move_on_after(max(min(again, _LONGEST_PAUSE_SECONDS), seconds)):
            await self._hurry.wait()


@asynccontextmanager
async def open_eraser(database: Database) -> AsyncIterator[Eraser]:
    """Remove traces for the length of the block, and what is left of them at its end."""
    eraser = Eraser(database)
    if not database.is_scrubbed or await eraser.is_needed():
        eraser.start()
    try:
        yield eraser
    finally:
        with trio.CancelScope(shield=True):
            with trio.move_on_after(CLOSE_SECONDS):
                await eraser.settle()
            await eraser.stop()

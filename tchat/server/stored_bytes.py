"""The size of all stored files: read now and then, and counted in between.

Every request for an upload needs it, and adding up all files takes longer the more there are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from tchat.store.base import FileIndex

REFRESH_SECONDS = 60.0


class StoredBytes:
    """The size of all files in bytes: `size` is never less than it was at the last `refresh`."""

    def __init__(self, files: FileIndex) -> None:
        self.size = 0
        self._files = files
        self._read_at = -math.inf
        self._reading = trio.Lock()
        self._added = 0

    async def refresh(self) -> None:
        """Read the size again, if it was not read for a while."""
        async with self._reading:  # all wait for the first size
            if trio.current_time() - self._read_at < REFRESH_SECONDS:
                return
            before = self._added
            total = await self._files.total()
            # What was stored meanwhile may be in the total or not: count it.
            self.size = total + self._added - before
            self._read_at = trio.current_time()

    def add(self, size: int) -> None:
        """Count a file that was stored."""
        self.size += size
        self._added += size

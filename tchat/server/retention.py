"""Retention: periodically delete expired and unreferenced files.

A file expires `Limits.keep_files` after it was last shared. An upload that was never shared, or an
unfinished one, is kept for a day.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import trio

from tchat.errors import StorageError, TchatError
from tchat.store.base import DataDamaged, StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tchat.server.log import Log
    from tchat.store.base import Store

SWEEP_SECONDS = 60.0
_DAY_MS = 24 * 3600 * 1000


async def remove_expired_files(
    store: Store, log: Log, keep_files: Callable[[], int | None], clock: Callable[[], int]
) -> None:
    """Remove files that a crash left behind, then sweep every `SWEEP_SECONDS`. Never returns.

    `keep_files` returns `Limits.keep_files`, which may change; `clock`, ms since the Unix epoch.
    """
    async with store.blobs.lock():
        # If the index is damaged, the files that it does not name are not known to be unused.
        with _logged(log), suppress(DataDamaged):
            await store.blobs.remove_unknown(await store.files.digests())
    while True:
        await sweep(store, log, keep_files(), clock())
        await trio.sleep(SWEEP_SECONDS)


async def sweep(store: Store, log: Log, keep_files: int | None, now: int) -> None:
    """Remove expired files and files that no group refers to any more."""
    removed: list[bytes] = []
    async with store.blobs.lock():
        # Only a full disk and damage are tolerated here: after any other error the database is
        # unreliable, and the server has to stop.
        with _logged(log, StorageFull), suppress(DataDamaged):
            removed = await store.files.sweep(
                now - _DAY_MS, 0 if keep_files is None else max(0, now - keep_files)
            )
        with _logged(log):
            await store.blobs.remove(removed)
    if removed:
        log.line("files_removed", count=len(removed))
    with _logged(log):
        await store.blobs.remove_stale_uploads()


@contextmanager
def _logged(
    log: Log,
    kinds: type[TchatError] | tuple[type[TchatError], ...] = (StorageError, StorageFull),
) -> Iterator[None]:
    """Log a storage error instead of raising it: chat does not depend on removing files."""
    try:
        yield
    except kinds as error:
        log.line("fault", where="the files", reason=error.sentence)

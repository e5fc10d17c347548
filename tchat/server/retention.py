"""Retention: periodically remove expired and unreferenced files.

A file expires `Limits.keep_files` after it was last shared. An upload that was never shared, or an
unfinished one, is kept for a day.

A file that somebody removed from its group is deleted. One that only a clock, or its absence in the
index, says is not needed any more goes to the trash for a day first (see `store.blobs`): both may
be wrong. Nothing expires while the clock is not certain (see `clock`).
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import trio

from tchat.errors import StorageError, TchatError
from tchat.machine_clocks import DAY_MS
from tchat.store.base import DataDamaged, StorageFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tchat.server.clock import ServerClock
    from tchat.server.log import Log
    from tchat.store.base import Store

SWEEP_SECONDS = 60.0


async def resume_clock(clock: ServerClock, store: Store, directory: Path) -> None:
    """Let the clock go on from where the former process that used the data has stopped."""
    if not clock.resume(directory):
        clock.resume_at(await store.maintenance.newest())


async def remove_expired_files(
    store: Store, log: Log, keep_files: Callable[[], int | None], clock: ServerClock
) -> None:
    """Remove files that a crash left behind, then sweep every `SWEEP_SECONDS`. Never returns.

    `keep_files` returns `Limits.keep_files`, which may change.
    """
    async with store.blobs.lock():
        # If the index is damaged, the files that it does not name are not known to be unused.
        with _logged(log), suppress(DataDamaged):
            await store.blobs.remove_unknown(await store.files.digests())
    while True:
        await sweep(store, log, keep_files(), clock.expiry_time())
        await trio.sleep(SWEEP_SECONDS)


async def sweep(store: Store, log: Log, keep_files: int | None, now: int | None) -> None:
    """Remove files that no group refers to any more, and what has expired by `now`.

    If `now` is None, nothing expires.
    """
    await remove_unreferenced_files(store, log)
    if now is None:
        return
    expired: list[bytes] = []
    async with store.blobs.lock():
        with _logged(log, StorageFull), suppress(DataDamaged):
            expired = await store.files.expire(
                now - DAY_MS, 0 if keep_files is None else max(0, now - keep_files)
            )
        with _logged(log):
            await store.blobs.discard(expired)
            await store.blobs.empty_trash(now - DAY_MS)
    if expired:
        log.line("files_expired", count=len(expired))
    with _logged(log):
        await store.blobs.remove_stale_uploads(now - DAY_MS)


async def remove_unreferenced_files(store: Store, log: Log) -> None:
    """Delete the files that no group refers to any more, although they have not expired."""
    removed: list[bytes] = []
    async with store.blobs.lock():
        # Only a full disk and damage are tolerated here: after any other error the database is
        # unreliable, and the server has to stop.
        with _logged(log, StorageFull), suppress(DataDamaged):
            removed = await store.files.sweep()
        with _logged(log):
            await store.blobs.remove(removed)
    if removed:
        log.line("files_removed", count=len(removed))


async def erase_files(store: Store, log: Log) -> None:
    """Delete unreferenced files, and what is in the trash, since an operator erases something.

    Nobody knows any more whose files are in the trash, so that all of them go.
    """
    await remove_unreferenced_files(store, log)
    async with store.blobs.lock():
        with _logged(log):
            await store.blobs.empty_trash()


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

"""Salvage a damaged data directory: what can be read goes on, and the rest is marked as missing.

A new database is written below the data directory, where `serve` does not look, and brought up to
date. When it is complete and on the disk, the damaged one is moved aside, and the new one takes its
place. In between, the directory has no database, so no server starts on it; calling this again
completes the change. Nothing is deleted: the damaged database stays in a directory `damaged-…`,
with the files that no group refers to any more, which a server would remove.

All groups get new identities, since clients have more of their logs, or other events.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tchat.durable_directory import sync_directory
from tchat.errors import Code, Refused, StartupError
from tchat.file_lock import try_lock
from tchat.server.clock import ServerClock
from tchat.server.log import Log
from tchat.server.operations.drafts import disk_errors, free_name, give_to_owner
from tchat.store.open import open_store
from tchat.store.sqlite.directory import DATABASE, SALVAGED, write_record
from tchat.store.sqlite.salvage import Salvaged, salvage_database
from tchat.transfer.partial_file import DIGESTS_SUFFIX

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

_DRAFT, _ASIDE = "salvage-unfinished", "damaged-"
_ASIDE_NAME = "aside"  # a file that names the directory of the damaged database
_WITH_DATABASE = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")


@dataclass(frozen=True, slots=True)
class SalvageReport:
    """What was salvaged, and where the damaged database is now.

    If an earlier call was interrupted and this one has finished it, `salvaged` is None.
    """

    data: str
    aside: str
    salvaged: Salvaged | None
    unknown_files: int


def salvage(data: Path) -> SalvageReport:
    """Replace the database of a data directory by what can be read of it.

    Raises `Refused` (busy, file_unreadable, storage_full) or `StartupError`; then nothing has
    changed, or the next call finishes the change.
    """
    if not any((data / name).exists() for name in (DATABASE, SALVAGED)):
        raise StartupError(
            Code.CANNOT_START,
            f"There is no server data in {data}. Give the directory of a server with --data.",
        )
    with disk_errors(f"Salvaging {data}"):
        lock = try_lock(data / "lock")
        if lock is None:
            raise Refused(Code.BUSY, f"A server is using {data}; stop it first.")
        with lock:
            return _salvage(data, lock)


def _salvage(data: Path, lock: FileIO) -> SalvageReport:
    complete = data / SALVAGED
    found = None
    if (data / DATABASE).exists() or not (complete / DATABASE).exists():
        for left in (data / _DRAFT, complete):  # of a call that was interrupted before the change
            shutil.rmtree(left, ignore_errors=True)
        found = _write_draft(data, data / _DRAFT)
        (data / _DRAFT).rename(complete)
        sync_directory(data)
        aside = free_name(data / f"{_ASIDE}{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
        aside.mkdir(mode=0o700)
        # Not found by the times in the names, which are those of clocks that may have been wrong.
        (complete / _ASIDE_NAME).write_text(aside.name)
    else:
        aside = _aside_of(data, complete)
    write_record(lock, 0, 0)  # what it says of the damaged database is not so of the new one
    for name in _WITH_DATABASE:  # the database first: without it, no server starts
        with suppress(FileNotFoundError):
            (data / name).rename(aside / name)
    unknown = _move_unknown_files(complete / DATABASE, data / "files", aside / "files")
    for directory in (aside, data):
        sync_directory(directory)
    for made in (aside, complete):
        give_to_owner(made, data)
    (complete / DATABASE).rename(data / DATABASE)
    sync_directory(data)
    shutil.rmtree(complete, ignore_errors=True)
    _log(found)
    return SalvageReport(str(data), str(aside), found, unknown)


def _aside_of(data: Path, complete: Path) -> Path:
    """Return the directory to which an interrupted call has moved the damaged database."""
    with suppress(OSError, ValueError):
        name = (complete / _ASIDE_NAME).read_text()
        if name.startswith(_ASIDE) and (data / name).is_dir() and "/" not in name:
            return data / name
    aside = free_name(data / f"{_ASIDE}unknown")
    aside.mkdir(mode=0o700)
    return aside


def _write_draft(data: Path, draft: Path) -> Salvaged:
    """Write the new database, with new identities, to a directory of its own."""
    draft.mkdir(mode=0o700)
    try:
        found = salvage_database(data / DATABASE, draft / DATABASE, data / "files", _time_at(data))
        trio.run(_renew, draft)
    except sqlite3.Error as error:
        raise Refused(
            Code.FILE_UNREADABLE,
            f"The new database cannot be written: {error}. Nothing has changed. Look for a full or"
            f" broken disk at {draft.parent}, and run salvage again.",
        ) from error
    sync_directory(draft)
    return found


def _time_at(data: Path) -> int:
    """Return the time by which the server of a data directory would date events now."""
    clock = ServerClock()
    clock.resume(data)
    return clock()


async def _renew(draft: Path) -> None:
    async with open_store(draft) as store:
        await store.maintenance.renew_identities()


def _move_unknown_files(database: Path, files: Path, aside: Path) -> int:
    """Move the files that are not in the new index, which a server would remove."""
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as new:
        known = {sha256.hex() for (sha256,) in new.execute("SELECT sha256 FROM blobs")}
    unknown = [
        path
        for path in files.glob("??/*")
        if path.name.removesuffix(DIGESTS_SUFFIX) not in known and path.is_file()
    ]
    for path in unknown:
        place = aside / path.parent.name
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.rename(place / path.name)
        sync_directory(place)
        sync_directory(path.parent)
    return sum(not path.name.endswith(DIGESTS_SUFFIX) for path in unknown)


def _log(found: Salvaged | None) -> None:
    """Write the lines of the server's log about a salvage to standard error."""
    if found is None:
        return
    log = Log(stream=sys.stderr)
    for group in found.groups:
        if group.lost:
            log.line("salvaged", group=group.name, count=group.missing, events=group.events)
    log.close()

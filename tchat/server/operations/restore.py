"""Restore a backup: replace a whole data directory by it, atomically.

The backup is copied to a draft beside the data directory, brought to this version's format there,
and verified. Only then it takes the place of the data directory, by one rename that exchanges the
two where the system can do so. What was there before is kept beside it and never deleted. So a
crash at any time leaves the old data or the new one in place; the next call removes an unfinished
draft, or says where the former data is.

The restored server has its key as of the backup, so no client is alarmed. But its logs end earlier
than those that clients know, so every group gets a new identity: clients then drop what is no
longer so. What happened after the backup is undone, whatever it was: removed keys, bans, erased
people and used invites are valid again (`UNDONE`). Link codes are in no backup: a server keeps them
in memory.
"""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tchat.durable_directory import sync_directory
from tchat.errors import Code, Refused, StartupError, StorageError
from tchat.file_lock import try_lock
from tchat.server.operations.backup import KEY_FILES, check_replaceable, copy_data
from tchat.server.operations.drafts import (
    complete,
    disk_errors,
    draft_of,
    drafts_of,
    free_name,
    give_to_owner,
    is_draft,
    make_parents,
    remove_abandoned,
    resolved,
)
from tchat.server.operations.verification import verify_server
from tchat.store.open import open_store
from tchat.store.sqlite.directory import DATABASE
from tchat.store.sqlite.reports import all_groups
from tchat.store.sqlite.view import open_view

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNDONE = (
    "What happened since then is undone: repeat what has to hold, such as `erase`, `ban`, removed"
    " keys and kicks. Invites that were used since then can be used again until they expire."
)
"""What an operator has to think of after a restore."""

_UNFINISHED = ".restoring"
_DATA = (DATABASE, "files", "lock", *KEY_FILES)
_AT_WORKING_DIRECTORY = -100
_EXCHANGE = 2  # of renameat2(2)


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """A restored directory, and where the former one is, if there was one.

    `last_at` is the time of the newest event (ms), 0 if there are no events.
    """

    data: str
    groups: int
    people: int
    events: int
    last_at: int
    files: int
    size: int
    former: str | None


def restore(backup: Path, data: Path) -> RestoreReport:
    """Put a verified copy of the backup in the place of the data directory.

    Raises `Refused` (bad_file, busy, file_damaged, file_unreadable, storage_full), `StartupError`
    or `StorageError`; then the data directory is as it was.
    """
    backup, data = resolved(backup), resolved(data)
    with disk_errors(f"The restore of {backup}"):
        _check_paths(backup, data)
        make_parents(data)
        remove_abandoned(data, _UNFINISHED)
        with _locked(data), draft_of(data, _UNFINISHED) as draft:
            former = _name_former(data)
            report = _fill(draft, backup, data)
            _give_owner(draft, data)
            sync_directory(draft)
            former = _replace(data, draft) or former
            complete(data)  # only now: what is called as a draft and has no mark is former data
    return RestoreReport(str(data), *report, str(former) if former else None)


def _check_paths(backup: Path, data: Path) -> None:
    """Raise `Refused` unless a copy of `backup` can take the place of `data`."""
    if backup == data or backup in data.parents or data in backup.parents:
        raise Refused(
            Code.BAD_FILE, f"{backup} and {data} contain each other; choose another directory."
        )
    check_replaceable(data)
    if not data.exists():
        return
    is_empty = data.is_dir() and not any(data.iterdir())
    if not is_empty and not any((data / name).exists() for name in _DATA):
        raise Refused(Code.BAD_FILE, f"{data} has files of something else; choose a new directory.")


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Keep servers from using the former data. Raises `Refused` (busy) if one does."""
    if not data.exists() or not any(data.iterdir()):
        yield
        return
    lock = try_lock(data / "lock")
    if lock is None:
        raise Refused(Code.BUSY, f"A server is using {data}; stop it first.")
    with lock:
        yield


def _fill(draft: Path, backup: Path, data: Path) -> tuple[int, int, int, int, int, int]:
    """Copy the backup, bring it up to date, and verify it; return the numbers of the report."""
    advice = (
        "Restore another backup; or copy this one to a new directory with `cp -r`, and run `tchat"
        " admin salvage --data` on that."
    )
    try:
        copied = copy_data(backup, draft)
        trio.run(_update, draft)
        found = verify_server(draft)
    except StartupError as error:  # there is no data, or not that of a server
        sentence = error.sentence.replace(str(draft), str(backup))
        raise StartupError(error.code, sentence) from error
    except StorageError as error:
        sentence = error.sentence.replace(str(draft), str(backup))
        raise Refused(Code.FILE_DAMAGED, f"{sentence} {data} is as it was. {advice}") from error
    count = found.count + len(copied.damaged)
    if count:
        first = found.faults[0].sentence if found.faults else "A file is missing or damaged."
        raise Refused(
            Code.FILE_DAMAGED,
            f"{backup} has {count} fault{'s' * (count != 1)}, the first: {first} {data} is as it"
            f" was. {advice}",
        )
    with open_view(draft) as connection:
        last_at = max((row.last_at for row in all_groups(connection)), default=0)
        (people,) = connection.execute("SELECT count(*) FROM people").fetchone()
    return found.groups, people, found.events, last_at, found.files, found.size


async def _update(draft: Path) -> None:
    """Apply the migrations of this version, and give every group a new identity."""
    async with open_store(draft) as store:
        await store.maintenance.renew_identities()


def _give_owner(draft: Path, data: Path) -> None:
    """Give the draft to the owner of the former data, if root restores it for somebody else."""
    give_to_owner(draft, data if data.exists() else data.parent)


# ------------------------------------------------------------------ replacing a directory


def _replace(data: Path, draft: Path) -> Path | None:
    """Put the draft in the place of `data`; return where the former data is, if there was any."""
    if not data.exists() or not any(data.iterdir()):
        draft.replace(data)
        sync_directory(data.parent)
        return None
    if not _exchange(draft, data):
        aside = _name_aside(data)
        with ExitStack() as undo:
            data.rename(aside)
            undo.callback(aside.rename, data)
            draft.rename(data)
            undo.pop_all()
        sync_directory(data.parent)
        return aside
    sync_directory(data.parent)
    return _name_former(data)


def _name_former(data: Path) -> Path | None:
    """Name what a restore has replaced, which may have been interrupted; return the latest.

    It has the name of a draft, but not its marker.
    """
    aside = None
    for former in drafts_of(data, _UNFINISHED):
        if any((former / name).exists() for name in _DATA) and not is_draft(former):
            aside = _name_aside(data)
            former.rename(aside)
            sync_directory(data.parent)
    return aside


def _name_aside(data: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return free_name(data.with_name(f"{data.name}.replaced-{stamp}"))


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two directories atomically; return whether the system can do so."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # not Linux, or an old C library
        return False
    paths = os.fsencode(one), os.fsencode(other)
    here = _AT_WORKING_DIRECTORY
    return bool(rename(here, paths[0], here, paths[1], _EXCHANGE) == 0)

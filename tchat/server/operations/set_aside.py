"""Set aside what keeps a server from starting: move it into a new directory, and delete nothing.

Without a database that can be used, that is everything but the keys: the server begins anew, and
the clients that know its key still trust it. If the database can be used, it is only what does not
belong to it, such as files that are newer than a restored database.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING

from tchat.durable_directory import make_directory, sync_directory
from tchat.errors import Code, Refused
from tchat.file_lock import try_lock
from tchat.net.tls import make_credentials
from tchat.private_directory import check_directory
from tchat.server.operations.drafts import give_to_owner
from tchat.store.sqlite.directory import (
    DATABASE,
    KEYS,
    LOCK,
    Unusable,
    check_age,
    check_unopened,
    commits_of,
    open_for_reading,
    require_present,
    write_record,
)
from tchat.store.sqlite.schema import MIGRATIONS
from tchat.store.sqlite.store import create_database, startup_errors

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class SetAside:
    """Where everything was moved to, how many entries, and whether the database is a new one.

    `target` is empty if nothing was wrong.
    """

    target: str
    moved: int
    anew: bool


def set_aside(directory: Path) -> SetAside:
    """Move what `serve` refuses in a data directory aside, so that a server can start there.

    Raises `StartupError` if it cannot be used for another reason, such as a damaged key, which is
    for the operator to restore, and `Refused` (busy) if it is in use.
    """
    with startup_errors(directory):
        with suppress(Unusable):
            require_present(directory)
        lock = try_lock(directory / LOCK)
    if lock is None:
        raise Refused(Code.BUSY, f"A server is using {directory}; stop it first.")
    with lock, startup_errors(directory):
        fault = _fault_of(directory)
        if fault is None:
            _check_as_serve(directory)
            return SetAside("", 0, anew=False)
        target, moved = _move(directory, fault.aside)
        anew = DATABASE in fault.aside
        if anew:
            write_record(lock, 0, 0)
            create_database(directory)
            give_to_owner(directory / DATABASE, directory)
        else:
            _accept(directory, lock)
        give_to_owner(target, directory)
    return SetAside(str(target), moved, anew)


def _check_as_serve(directory: Path) -> None:
    """Raise `StartupError` if `serve` would refuse a directory for its permissions or its keys."""
    check_directory(directory, "the server's data")
    if any(os.path.lexists(directory / name) for name in KEYS):
        make_credentials(directory)


def _fault_of(directory: Path) -> Unusable | None:
    """Return what keeps a server from using a directory, if setting aside helps."""
    try:
        check_unopened(directory)
        with closing(open_for_reading(directory)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == len(MIGRATIONS):  # an older one is compared when it has been migrated
                check_age(directory, connection)
    except Unusable as fault:
        return fault
    return None


def _move(directory: Path, names: tuple[str, ...]) -> tuple[Path, int]:
    """Move entries into a new directory in the same one; return that, and their number."""
    present = [name for name in names if os.path.lexists(directory / name)]
    stem = f"set-aside-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}"
    names_of_target = (f"{stem}{f'-{number}' if number else ''}" for number in count())
    target = next(one for name in names_of_target if not (one := directory / name).exists())
    make_directory(target)
    for name in present:
        make_directory((target / name).parent)
        (directory / name).rename(target / name)
        sync_directory((target / name).parent)
        sync_directory((directory / name).parent)
    return target, len(present)


def _accept(directory: Path, lock: FileIO) -> None:
    """Record the commits of a database that was found to be older than its files."""
    with closing(open_for_reading(directory)) as connection:
        write_record(lock, commits_of(connection) or 0, 0)

"""A read-only view of a data directory: one snapshot of its database, while a server may run.

The reports for operators, `verify` and `backup` read the file themselves. They need no server, and
see one consistent state: WAL mode lets them read while the server writes, which does not wait for
them. But as long as one is reading, the server cannot empty its write-ahead log, and texts that are
deleted meanwhile stay there; so views should be short. They change nothing, so they need no lock.
Whatever changes data goes through the server instead.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from tchat.errors import Code, StartupError, StorageError
from tchat.store.sqlite.damage import SegmentDamaged
from tchat.store.sqlite.directory import (
    DATABASE,
    check_kind,
    require_present,
    unreadable,
)
from tchat.store.sqlite.schema import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WAIT_SECONDS = 10.0
_FIRST_WITH_FILES = 3  # migrations


@contextmanager
def open_view(directory: Path) -> Iterator[sqlite3.Connection]:
    """Read one state of the database in `directory` for the length of the block.

    Raises `StartupError` if there is none that this version can read, and `StorageError` if it is
    damaged.
    """
    with reading(directory), closing(connect_read_only(directory)) as connection:
        connection.execute("BEGIN")  # one snapshot for all statements
        _check_version(connection, directory)
        yield connection


@contextmanager
def open_view_of_any_age(directory: Path) -> Iterator[sqlite3.Connection]:
    """Read one state of a database that this version or an earlier one has written."""
    with reading(directory), closing(connect_read_only(directory)) as connection:
        connection.execute("BEGIN")
        _check_version(connection, directory, oldest=_FIRST_WITH_FILES)
        yield connection


def connect_read_only(directory: Path) -> sqlite3.Connection:
    """Open the database in `directory` for reading. Raises `StartupError` if there is none."""
    require_present(directory)
    check_kind(directory)
    path = directory / DATABASE
    uri = f"{path.absolute().as_uri()}?mode=ro"
    if not os.access(directory, os.W_OK) and _is_alone(directory):
        uri += "&immutable=1"  # otherwise SQLite creates companions, even for reading
    return sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)


def _is_alone(directory: Path) -> bool:
    """Return whether the file of a database is all there is: no server uses it, or was killed."""
    shm, wal = (directory / f"{DATABASE}{suffix}" for suffix in ("-shm", "-wal"))
    return not shm.exists() and not (wal.exists() and wal.stat().st_size)


@contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Turn an error of SQLite within the block into `StartupError` or `StorageError`."""
    try:
        yield
    except SegmentDamaged as damaged:
        raise StorageError(
            Code.FILE_DAMAGED,
            f"Events {damaged.first} to {damaged.last} of a group in {directory} are damaged"
            f" ({damaged}): `tchat admin verify` says more.",
        ) from damaged
    except sqlite3.DatabaseError as error:
        kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if kind in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            raise StartupError(Code.CANNOT_START, unreadable(directory, error)) from error
        raise StorageError(
            Code.FILE_DAMAGED,
            f"The database in {directory} cannot be read: {error}. Run `tchat admin verify` on it.",
        ) from error


def _check_version(
    connection: sqlite3.Connection, directory: Path, oldest: int = len(MIGRATIONS)
) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < oldest:
        raise StartupError(
            Code.CANNOT_START,
            f"{directory} was written by an older version of tchat; start a server of this version"
            " on it first, or `restore` it if it is a backup.",
        )

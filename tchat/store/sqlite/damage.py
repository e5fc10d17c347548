"""Tell damaged data from a broken database: what a failed query or write of one group means.

A page that cannot be read, or a row that is not what was written, costs what is stored there: the
statement fails, its transaction is rolled back, and everything else goes on. What makes the *next*
write unsafe is another matter: a commit or an fsync that failed, a file that cannot be locked, a
schema that cannot be parsed. After that, the server stops (see `database`).
"""

from __future__ import annotations

import sqlite3
from traceback import extract_tb

from tchat.errors import ProtocolError
from tchat.store.base import DataDamaged, LogDamaged

_PRIMARY = 0xFF
_KINDS = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT}
_READ_ERRORS = {
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_DATA,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
}
_WRONG_VALUES = (ProtocolError, TypeError, ValueError, OverflowError)
"""What Python raises for a row with values of other types than were written."""


class SegmentDamaged(Exception):
    """Events `first` to `last` of the log that is being read are damaged."""

    def __init__(self, first: int, last: int, reason: str) -> None:
        super().__init__(reason)
        self.first = first
        self.last = last


def damage_in(error: Exception, group: str | None) -> DataDamaged | None:
    """Return what is damaged if a query, or a write, failed because of it; else None.

    `group` is the group that it concerned, if it was about a single one.
    """
    if isinstance(error, DataDamaged):
        return error
    first, last = 0, 0
    if isinstance(error, SegmentDamaged):
        first, last = error.first, error.last
    elif not is_damage(error):
        return None
    reason = _reason_of(error)
    return DataDamaged(reason) if group is None else LogDamaged(group, first, last, reason)


def _reason_of(error: Exception) -> str:
    """Return how damage was found; for an error of Python also where, since it may be a bug."""
    if not isinstance(error, TypeError | ValueError | OverflowError):
        return str(error)
    frames = extract_tb(error.__traceback__)
    place = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def is_damage(error: Exception) -> bool:
    """Return whether an exception of SQLite, or of a value that it returned, means damage."""
    if not isinstance(error, sqlite3.Error):
        return isinstance(error, _WRONG_VALUES)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # not from SQLite: a text that is no UTF-8
        return isinstance(error, sqlite3.OperationalError)
    if code == sqlite3.SQLITE_ERROR:  # the search index has no other code for its own tables
        return "fts5" in str(error)
    return code & _PRIMARY in _KINDS or code in _READ_ERRORS

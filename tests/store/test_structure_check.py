"""The check of the structure at the start: errors of the checkpoint that precedes it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tchat.store.sqlite.soundness import check_structure

if TYPE_CHECKING:
    from pathlib import Path


def connect(path: Path, code: int) -> sqlite3.Connection:
    """Open a database whose checkpoints fail with an error code of SQLite."""

    class Failing(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:  # noqa: ANN401
            if "wal_checkpoint" in sql:
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = code
                raise error
            return super().execute(sql, *args)

    return sqlite3.connect(path, factory=Failing)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE])
def test_full_disk_postpones_the_check(tmp_path: Path, code: int) -> None:
    with closing(connect(tmp_path / "tchat.db", code)) as connection:
        check_structure(connection)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_READ])
def test_other_checkpoint_errors_are_raised(tmp_path: Path, code: int) -> None:
    with closing(connect(tmp_path / "tchat.db", code)) as connection:
        with pytest.raises(sqlite3.OperationalError) as raised:
            check_structure(connection)
        assert raised.value.sqlite_errorcode == code

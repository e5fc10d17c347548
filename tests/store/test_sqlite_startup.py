"""Opening the SQLite store: locks, permissions, and clear errors."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tchat.errors import Code, StartupError
from tchat.store.open import open_store
from tchat.store.sqlite.schema import APPLICATION_ID, MIGRATIONS
from tests.store.batches import append

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.store.sqlite.store import SqliteStore

# ------------------------------------------------------------------ opening


async def test_missing_parent_directories_are_created(tmp_path: Path) -> None:
    async with open_store(tmp_path / "far" / "away") as store:
        await append(store, "ops", b"one")
    assert (tmp_path / "far" / "away" / "tchat.db").is_file()


async def assert_cannot_start(directory: Path, reason: str) -> None:
    with pytest.raises(StartupError, match=reason) as caught:
        async with open_store(directory):
            pass
    assert caught.value.code == Code.CANNOT_START


async def test_a_directory_is_locked(sqlite: SqliteStore, tmp_path: Path) -> None:
    await assert_cannot_start(tmp_path / "data", "Another tchat server is using")
    await append(sqlite, "ops", b"one")


async def test_a_closed_store_unlocks_its_directory(tmp_path: Path) -> None:
    async with open_store(tmp_path):
        pass
    async with open_store(tmp_path) as store:
        await append(store, "ops", b"one")


async def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    await assert_cannot_start(tmp_path, "newer version of tchat")
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


async def test_a_file_as_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a directory")
    await assert_cannot_start(tmp_path / "data", "is not a directory")


async def test_a_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    await assert_cannot_start(tmp_path / "file" / "data", "cannot be used: Not a directory")


async def test_a_foreign_database_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "tchat.db").write_text("Dear diary, this is not a database. " * 50)
    await assert_cannot_start(tmp_path, "is not a database of SQLite")
    assert (tmp_path / "tchat.db").read_text().startswith("Dear diary")


async def test_a_failed_start_unlocks_the_directory(tmp_path: Path) -> None:
    (tmp_path / "tchat.db").mkdir()
    await assert_cannot_start(tmp_path, "is not a file")
    (tmp_path / "tchat.db").rmdir()
    async with open_store(tmp_path) as store:
        await append(store, "ops", b"one")


def modes(directory: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in directory.glob("tchat.db*")}


async def test_database_files_are_private(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.append("ops", 0, 1, b"\0\0\0\0")
        assert modes(tmp_path) == {0o600}

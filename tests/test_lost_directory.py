"""A server whose data directory is moved, removed or replaced stops, and acknowledges nothing."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tchat.errors import StorageError
from tchat.exits import OUTPUT
from tchat.store.open import open_store
from tchat.store.sqlite.watch import FileWatch
from tests.processes import launching
from tests.store.batches import append, last_seq, read_all
from tests.store.conftest import sqlite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tchat.store.sqlite.store import SqliteStore

__all__ = ["sqlite"]


def replaced(data: Path) -> str:
    """Put a copy in its place, as a restored backup does."""
    shutil.copytree(data, data.with_name("copy"), ignore=shutil.ignore_patterns("control"))
    data.rename(data.with_name("elsewhere"))
    data.with_name("copy").rename(data)
    return "tchat.db was replaced"


async def test_server_stops_when_its_directory_is_lost(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        replaced(tmp_path / "data")
        await alice.type("lost?")
        assert await server.exit() == OUTPUT
        assert "tchat.db was replaced" in str(server.err)
        assert "so nothing can be stored any more" in str(server.err)


# ------------------------------------------------------------------ each way


def removed(data: Path) -> str:
    shutil.rmtree(data)
    return "tchat.db was moved or removed"


def moved(data: Path) -> str:
    data.rename(data.with_name("elsewhere"))
    return "tchat.db was moved or removed"


def database_removed(data: Path) -> str:
    (data / "tchat.db").unlink()
    return "tchat.db was moved or removed"


def log_removed(data: Path) -> str:
    """Remove the file that alone has the latest commits."""
    (data / "tchat.db-wal").unlink()
    return "tchat.db-wal was moved or removed"


def lock_removed(data: Path) -> str:
    (data / "lock").unlink()
    return "lock was moved or removed"


def lock_replaced(data: Path) -> str:
    """Let a second server lock another file."""
    (data / "lock").unlink()
    (data / "lock").touch()
    return "lock was replaced"


def overwritten(data: Path) -> str:
    """Restore an older copy as `cp` does: into the same file."""
    with (data / "tchat.db").open("r+b") as file:
        file.truncate(8192)
    return "tchat.db was overwritten"


@pytest.mark.parametrize(
    "breaking",
    [
        *(removed, moved, replaced, database_removed, overwritten),
    ],
)
async def test_nothing_is_acknowledged_without_its_files(
    sqlite: SqliteStore, tmp_path: Path, breaking: Callable[[Path], str]
) -> None:
    await append(sqlite, "ops", b"one")
    expected = breaking(tmp_path / "data")
    for _ in range(2):
        with pytest.raises(StorageError, match=f"{expected} while the server was using it"):
            await sqlite.append("ops", 1, 1, b"\0\0\0\1x")


@pytest.mark.parametrize("breaking", [log_removed, lock_removed, lock_replaced])
async def test_other_files_are_checked_every_second(
    sqlite: SqliteStore, tmp_path: Path, breaking: Callable[[Path], str]
) -> None:
    await append(sqlite, "ops", b"one")
    data, times = tmp_path / "data", iter([0.0, 0.0, 0.5, 1.0])
    watch = FileWatch(data / "tchat.db", data / "lock", clock=lambda: next(times))
    assert watch.lost() is None
    expected = breaking(data)
    assert watch.lost() is None
    assert expected in str(watch.lost())


async def test_a_removed_log_loses_nothing(tmp_path: Path) -> None:
    """SQLite copies what is in the open log to the database when it closes that."""
    async with open_store(tmp_path) as store:
        (tmp_path / "tchat.db-wal").unlink()
        await append(store, "ops", b"one", b"two")
    async with open_store(tmp_path) as store:
        assert await read_all(store, "ops") == [b"one", b"two"]


async def test_a_moved_directory_has_everything(tmp_path: Path) -> None:
    """SQLite leaves the write-ahead log alone when it closes a database that was moved."""
    async with open_store(tmp_path / "data") as store:
        await append(store, "ops", b"one", b"two")
        (tmp_path / "data").rename(tmp_path / "elsewhere")
        with pytest.raises(StorageError):
            await append(store, "ops", b"three")
    with closing(sqlite3.connect(tmp_path / "elsewhere" / "tchat.db")) as connection:
        assert connection.execute("SELECT last FROM groups").fetchone() == (3,)


async def test_compaction_may_shrink_the_database(sqlite: SqliteStore) -> None:
    for seq in range(50):
        await append(sqlite, "ops", bytes(9000))
        if seq == 40:
            await sqlite.database.write(lambda c: c.execute("DELETE FROM segments").rowcount)
            await sqlite.database.write(lambda c: c.execute("UPDATE groups SET last = 0").rowcount)
            await sqlite.database.compact()
    assert await last_seq(sqlite, "ops") == 9

"""The database on a file system that is really full: nothing is lost, and it goes on afterwards."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import closing
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
import trio.testing

from tchat.core.group.messages import Deleted, Posted
from tchat.errors import Code, Refused, StorageError
from tchat.store.open import open_store
from tchat.store.words import terms_of
from tests.full_disk import KINDS, small_disk
from tests.helpers import log_of, texts
from tests.store.logs import write

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.store.base import Store
    from tests.full_disk import Kind

LONG = "x" * 10_000


async def write_until_refused(store: Store) -> None:
    """Write messages; the write-ahead log may have a little room left."""
    while True:
        await write(store, "ops", Posted(LONG))


@pytest.mark.parametrize("kind", KINDS)
async def test_full_disk_rejects_and_recovers(tmp_path: Path, kind: Kind) -> None:
    with small_disk(kind, tmp_path / "disk") as disk:
        async with open_store(disk.path / "data") as store:
            await write(store, "ops", Posted("before"))
            disk.fill()
            for _ in range(3):
                with pytest.raises(Refused) as refusal:
                    await write_until_refused(store)
                assert refusal.value.code == Code.STORAGE_FULL
            kept = texts(await log_of(store))
            disk.free()
            await write(store, "ops", Posted("after"))
            assert texts(await log_of(store)) == [*kept, "after"]
        async with open_store(disk.path / "data") as store:
            assert texts(await log_of(store)) == [*kept, "after"]
            assert kept[0] == "before"


async def test_room_made_during_the_probe_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by an upload that fails for the same reason, and removes its file before the probe.

    Then the failed write looks like a broken disk, which stops the server.
    """
    with small_disk("limit", tmp_path / "disk") as disk:
        async with open_store(disk.path / "data") as store:
            await write(store, "ops", Posted("before"))
            disk.fill()

            def probe(**_: object) -> BytesIO:
                disk.free()
                return BytesIO()

            monkeypatch.setattr("tchat.store.sqlite.database.TemporaryFile", probe)
            for number in range(3):
                await write(store, "ops", Posted(f"{number} {LONG}"))
            kept = [text[:6] for text in texts(await log_of(store))]
            assert kept == ["before", "0 xxxx", "1 xxxx", "2 xxxx"]


async def test_room_made_after_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There seems to be room, but somebody else needs a moment to make it."""
    with small_disk("limit", tmp_path / "disk") as disk:
        async with open_store(disk.path / "data") as store:
            await write(store, "ops", Posted("before"))
            disk.fill()
            monkeypatch.setattr("tchat.store.sqlite.database.TemporaryFile", lambda **_: BytesIO())
            monkeypatch.setattr("tchat.store.sqlite.database.sleep", lambda _: disk.free())
            for _ in range(3):
                await write(store, "ops", Posted(LONG))
            assert texts(await log_of(store)) == ["before", LONG, LONG, LONG]


async def test_write_that_always_fails_breaks_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room, but no write succeeds: the disk is damaged."""
    with small_disk("limit", tmp_path / "disk") as disk:
        async with open_store(disk.path / "data") as store:
            await write(store, "ops", Posted("before"))
            disk.fill()

            monkeypatch.setattr("tchat.store.sqlite.database.TemporaryFile", lambda **_: BytesIO())
            with pytest.raises(StorageError):
                await write_until_refused(store)
            disk.free()
            with pytest.raises(StorageError):
                await write(store, "ops", Posted("after"))


async def found(store: Store) -> list[int]:
    return [hit.seq for hit in await store.search(["ops"], terms_of("before"), 0, 9)]


@pytest.mark.parametrize("kind", KINDS)
async def test_full_disk_opens_for_reading_and_recovers(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tchat.store.sqlite.database.FULL_SECONDS", 0)
    with small_disk(kind, tmp_path / "disk") as disk:
        async with open_store(disk.path / "data") as store:
            await store.accounts.claim("alice", "Alice", b"key", 1)
            await write(store, "ops", Posted("before"))
            assert not store.troubles.current
        disk.fill()
        changes: list[tuple[str, bool]] = []
        async with open_store(disk.path / "data") as store:
            store.troubles.listen(lambda trouble, begins: changes.append((trouble.kind, begins)))
            assert texts(await log_of(store)) == ["before"]
            assert await store.accounts.claim("alice", "Alice", b"key", 2) == "Alice"
            assert await found(store) in ([], [1])
            with pytest.raises(Refused) as refusal:
                await write_until_refused(store)
            assert refusal.value.code == Code.STORAGE_FULL
            disk.free()
            await write(store, "ops", Posted("after"))
            assert texts(await log_of(store))[-1] == "after"
            assert await found(store) == [1]
            await trio.testing.wait_all_tasks_blocked()
        assert ("disk_full", True) in changes
        assert changes[-1] == ("disk_full", False)
        async with open_store(disk.path / "data") as store:
            assert not store.troubles.current
            assert texts(await log_of(store))[-1] == "after"


@pytest.mark.parametrize("kind", KINDS)
async def test_log_of_a_killed_server_opens_when_full(tmp_path: Path, kind: Kind) -> None:
    """The write-ahead log has pages that the database file has no room for."""
    killed, said = "killed", [f"{number} {LONG}" for number in range(8)]
    with small_disk(kind, tmp_path / "disk") as disk:
        async with open_store(disk.path / "data") as store:
            for text in said:
                await write(store, "ops", Posted(text))
            shutil.copytree(disk.path / "data", disk.path / killed, ignore=_lock)
        assert (disk.path / killed / "tchat.db-wal").stat().st_size
        shutil.rmtree(disk.path / "data")
        disk.fill()
        async with open_store(disk.path / killed) as store:
            assert "disk_full" in store.troubles.current
            assert texts(await log_of(store)) == said
            disk.free()
            await write(store, "ops", Posted("after"))
        async with open_store(disk.path / killed) as store:
            assert texts(await log_of(store)) == [*said, "after"]


def _lock(_: str, names: list[str]) -> set[str]:
    """Leave the lock file out of a copy: it says which file the server had open."""
    return {"lock"} & set(names)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
async def test_every_kind_of_full_disk_is_recognized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """SQLite reports an I/O error; a probe says what the system calls it."""

    def probe(**_: object) -> BytesIO:
        raise OSError(number, os.strerror(number))

    with small_disk("limit", tmp_path / "disk") as disk:
        async with open_store(disk.path / "data") as store:
            await write(store, "ops", Posted("before"))
            disk.fill()
            monkeypatch.setattr("tchat.store.sqlite.database.TemporaryFile", probe)
            with pytest.raises(Refused) as refusal:
                await write_until_refused(store)
            assert refusal.value.code == Code.STORAGE_FULL
            disk.free()
            await write(store, "ops", Posted("after"))


async def test_erasure_on_a_full_disk_is_finished_later(tmp_path: Path) -> None:
    """What a crash has left to erase does not keep a server from starting."""
    with small_disk("tmpfs", tmp_path / "disk") as disk:
        async with open_store(disk.path / "data") as store:
            await write(store, "ops", Posted("the secret"))
        with closing(sqlite3.connect(disk.path / "data" / "tchat.db")) as connection, connection:
            connection.execute("UPDATE groups SET erase_to = last")
        disk.fill()
        async with open_store(disk.path / "data") as store:
            disk.free()
            assert await store.maintenance.settle()
        for path in (disk.path / "data").iterdir():
            assert not path.is_file() or b"the secret" not in path.read_bytes()


async def test_failed_checkpoints_and_scrubs_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file cannot grow, and the write-ahead log can: every commit succeeds."""
    monkeypatch.setattr("tchat.store.sqlite.database.LONG_LOG", 1 << 16)
    monkeypatch.setattr("tchat.store.sqlite.database.LOOK_SECONDS", 0)
    monkeypatch.setattr("tchat.store.sqlite.erasing.SCRUB_AGAIN_SECONDS", 0.001)
    changes: list[tuple[str, bool]] = []
    with small_disk("limit", tmp_path / "disk") as disk:
        async with open_store(disk.path / "data") as store:
            store.troubles.listen(lambda trouble, begins: changes.append((trouble.kind, begins)))
            for _ in range(300):
                await write(store, "ops", Posted(LONG))
            assert await store.maintenance.settle()
        async with open_store(disk.path / "data") as store:  # the log is in the file
            store.troubles.listen(lambda trouble, begins: changes.append((trouble.kind, begins)))
            disk.fill()
            for _ in range(20):
                last = await write(store, "ops", Posted(LONG))
            await write(store, "ops", Deleted(last), erased=(last,))
            for _ in range(3000):
                if len(changes) == 2:
                    break
                await trio.sleep(0.01)
            assert set(changes) == {("checkpoint_failed", True), ("scrub_failed", True)}
            assert store.troubles.current["scrub_failed"].wal_bytes > 1 << 16
            disk.free()
            await write(store, "ops", Posted("after"))
            assert await store.maintenance.settle()
            await write(store, "ops", Posted("and after"))
            await trio.testing.wait_all_tasks_blocked()
            assert not store.troubles.current
    assert sorted(changes[2:]) == [("checkpoint_failed", False), ("scrub_failed", False)]

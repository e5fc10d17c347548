"""The database on a file system that is really full: nothing is lost, and it goes on afterwards."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.messages import Posted
from tchat.errors import Code, Refused, StorageError
from tchat.store.open import open_store
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

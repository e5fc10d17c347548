"""Files on disk: whole or not there, for their owner only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.errors import Refused
from tchat.store.sqlite import SqliteStore, open_store
from tests.store.batches import CONTENT, DIGEST, keep

if TYPE_CHECKING:
    from pathlib import Path

# ------------------------------------------------------------------ files


def files_in(directory: Path) -> list[str]:
    return [path.name for path in (directory / "files").rglob("*") if path.is_file()]


async def test_a_file_is_stored_under_its_digest_and_once(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    await keep(sqlite)
    await keep(sqlite)
    assert files_in(tmp_path / "data") == [DIGEST.hex()]


async def test_a_file_is_on_disk_before_it_has_its_name_and_its_name_before_it_is_kept(
    sqlite: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    place = tmp_path / "data" / "files" / DIGEST.hex()[:2] / DIGEST.hex()

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        assert place.exists() == (len(synced) > 1)

    monkeypatch.setattr("os.fsync", fsync)
    await keep(sqlite)
    assert synced == [path.stat().st_ino for path in (place, place.parent, place.parent.parent)]


async def test_an_upload_that_was_given_up_leaves_no_file(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    async with sqlite.incoming() as incoming:
        await incoming.write(CONTENT)
        assert len(files_in(tmp_path / "data")) == 1
    assert files_in(tmp_path / "data") == []


async def test_an_upload_that_was_cancelled_leaves_no_file(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    with trio.CancelScope() as scope:
        async with sqlite.incoming() as incoming:
            await incoming.write(CONTENT)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert files_in(tmp_path / "data") == []


async def test_an_upload_with_a_wrong_digest_leaves_no_file(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    async with sqlite.incoming() as incoming:
        await incoming.write(CONTENT + b"!")
        with pytest.raises(Refused):
            await incoming.keep(DIGEST)
    assert files_in(tmp_path / "data") == []


async def test_what_a_crash_left_of_an_upload_is_removed_at_the_start(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await keep(store)
    (tmp_path / "files" / "incoming-0123456789abcdef").write_bytes(b"half a fi")
    async with open_store(tmp_path):
        assert files_in(tmp_path) == [DIGEST.hex()]


async def test_what_the_store_makes_is_for_its_owner_alone(
    sqlite: SqliteStore, tmp_path: Path
) -> None:
    await keep(sqlite)
    data = tmp_path / "data"
    for path in (data, data / "files", *(data / "files").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path

"""What a server does by itself about its files: at its start, and from time to time."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from tchat.core.group.commands import RemoveFile
from tchat.errors import Code, StorageError
from tchat.store.base import StorageFull
from tchat.store.open import open_store
from tests.helpers import members, raw_client, running_server
from tests.memory_store import MemoryFileIndex
from tests.server.carrying import (
    DATA,
    SHA,
    Keeper,
    begun,
    download,
    keeper,
    kept,
    place_of,
    send_some,
    sha,
    share,
    upload,
)
from tests.store.files import blob_path

__all__ = ["keeper"]


def broken_unlink(self: Path, missing_ok: bool = False) -> None:
    """Fail as on a disk that is read-only by now."""
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


async def test_files_that_nobody_knows_are_removed_at_the_start(
    tmp_path: Path, keeper: Keeper
) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice") as (alice,),
    ):
        await share(server, alice, DATA)
        await upload(server, alice, b"held")
        await send_some(server, alice, b"begun", 3)
        (part,) = begun(server)
        unknown = place_of(server, b"unknown")
        unknown.parent.mkdir(exist_ok=True)
        for name in (unknown.name, unknown.name + ".sums"):
            unknown.with_name(name).write_bytes(b"unknown")
        (tmp_path / "files" / "incoming-0123456789abcdef").write_bytes(b"of an older version")
    async with open_store(tmp_path) as store, running_server(store) as server:
        await keeper.sweep()  # which comes after what is done at the start
        assert kept(server) == {SHA.hex(), sha(b"held").hex(), part.name}
        assert part.read_bytes() == b"beg"
        sums = [path.name for path in blob_path(store).glob("??/*.sums")]
        assert sums == [f"{SHA.hex()}.sums"]
        async with raw_client(server.address, "alice") as alice:
            await download(server, alice, 1, DATA)


async def test_a_disk_that_removes_nothing_is_a_line_in_the_log_and_no_reason_to_stop(
    tmp_path: Path, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path) as store:
        unknown = blob_path(store) / "ab" / ("ab" * 32)
        unknown.parent.mkdir()
        unknown.write_bytes(b"unknown")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", broken_unlink)
            async with running_server(store) as server, members(server, "alice") as (alice,):
                assert "Read-only file system" in await server.logged("fault in the files")
                await alice.post("the chat goes on")
        assert unknown.exists()
        async with running_server(store) as server, members(server, "bob", group="his") as (bob,):
            await share(server, bob, b"data", group="his")
            await bob.command(RemoveFile, 1, group="his")
            with monkeypatch.context() as patch:
                patch.setattr(Path, "unlink", broken_unlink)
                await keeper.sweep()
            await server.logged("fault in the files")
            await bob.post("the chat goes on", group="his")
            assert place_of(server, b"data").exists()
        async with running_server(store) as server:
            await keeper.sweep()
            assert kept(server) == set(), "what could not be removed then is removed now"


async def test_a_full_disk_is_a_line_in_the_log_and_no_reason_to_stop(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"data")
        await alice.command(RemoveFile, 1)
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileIndex, "sweep", AsyncMock(side_effect=StorageFull))
            await keeper.sweep()
        assert "disk is full" in await server.logged("fault in the files")
        await keeper.sweep()
        assert kept(server) == set()


async def test_a_log_that_is_in_doubt_ends_the_server(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_server():
        await keeper.sweep()
        failure = StorageError(Code.INTERNAL, "The log is gone.")
        monkeypatch.setattr(MemoryFileIndex, "sweep", AsyncMock(side_effect=failure))
        with pytest.raises(StorageError, match="The log is gone"):
            await keeper.sweep()


async def test_the_server_sweeps_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tchat.server.connections.files.SWEEP_SECONDS", 0.01)
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"data")
        await alice.command(RemoveFile, 1)
        await server.logged("1 files that no group has any more were removed")
        assert kept(server) == set()
        await alice.post("the chat goes on")

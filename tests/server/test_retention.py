"""Retention: expired and unknown files are removed, at the start and periodically."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tchat.core.group.files import RemoveFile
from tchat.errors import Code, StorageError
from tchat.server.control import perform
from tchat.store.open import open_store
from tests.faulty_store import FaultyStore
from tests.helpers import NO_RATE_LIMITS, members, raw_client, running_server
from tests.server.file_transfers import (
    DATA,
    SHA,
    ShiftedClock,
    clock,
    download,
    interrupt_upload,
    partial_files,
    sha,
    share,
    stored_names,
    stored_path,
    sweep,
    trashed_names,
    upload,
)
from tests.store.files import blob_path

__all__ = ["clock"]

HOUR = 3_600_000
DAY = 24 * HOUR


def broken(*_: object, **__: object) -> None:
    """Fail as on a disk that has become read-only."""
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


async def test_unknown_files_are_removed_at_the_start(tmp_path: Path, clock: ShiftedClock) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store, clock=clock) as server,
        members(server, "alice") as (alice,),
    ):
        await share(server, alice, DATA)
        await upload(server, alice, b"held")
        await interrupt_upload(server, alice, b"partial", 3)
        (part,) = partial_files(server)
        unknown = stored_path(server, b"unknown")
        unknown.parent.mkdir(exist_ok=True)
        for name in (unknown.name, unknown.name + ".sums"):
            unknown.with_name(name).write_bytes(b"unknown")
        (tmp_path / "files" / "incoming-0123456789abcdef").write_bytes(b"of an older version")
    async with open_store(tmp_path) as store, running_server(store, clock=clock) as server:
        await sweep(server)  # after the cleaning at the start
        assert stored_names(server) == {SHA.hex(), sha(b"held").hex(), part.name}
        assert part.read_bytes() == b"par"
        sums = [path.name for path in blob_path(store).glob("??/*.sums")]
        assert sums == [f"{SHA.hex()}.sums"]
        async with raw_client(server.address, "alice") as alice:
            await download(server, alice, 1, DATA)


async def test_undeletable_file_is_logged_and_not_fatal(
    tmp_path: Path, clock: ShiftedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path) as store:
        unknown = blob_path(store) / "ab" / ("ab" * 32)
        unknown.parent.mkdir()
        unknown.write_bytes(b"unknown")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", broken)
            async with (
                running_server(store, clock=clock) as server,
                members(server, "alice") as (alice,),
            ):
                assert "Read-only file system" in await server.logged("fault in the files")
                await alice.post("the chat goes on")
        assert unknown.exists()
        async with (
            running_server(store, clock=clock) as server,
            members(server, "bob", group="his") as (bob,),
        ):
            await share(server, bob, b"data", group="his")
            await bob.command(RemoveFile, 1, group="his")
            with monkeypatch.context() as patch:
                patch.setattr(Path, "unlink", broken)
                await sweep(server)
            await server.logged("fault in the files")
            await bob.post("the chat goes on", group="his")
            assert stored_path(server, b"data").exists()
        async with running_server(store, clock=clock) as server:
            await sweep(server)
            assert stored_names(server) == set(), "what could not be removed then is removed now"


async def test_expired_file_is_kept_for_a_day(clock: ShiftedClock) -> None:
    keep = replace(NO_RATE_LIMITS, keep_files=10 * DAY)
    async with (
        running_server(limits=keep, clock=clock) as server,
        members(server, "alice") as (alice,),
    ):
        await share(server, alice, DATA)
        clock.later += 11 * DAY
        await sweep(server)
        await server.logged("moved 1 expired files to the trash, where they are kept for a day")
        assert (stored_names(server), trashed_names(server)) == (set(), {SHA.hex()})
        await share(server, alice, DATA)
        assert (stored_names(server), trashed_names(server)) == ({SHA.hex()}, set())
        clock.later += 11 * DAY
        await sweep(server)
        clock.later += DAY - HOUR
        await sweep(server)
        assert trashed_names(server) == {SHA.hex()}
        clock.later += 2 * HOUR
        await sweep(server)
        assert trashed_names(server) == set()


async def test_operator_who_erases_empties_the_trash(tmp_path: Path, clock: ShiftedClock) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store, clock=clock, data=tmp_path) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await upload(server, bob, b"held")
        clock.later += 2 * DAY
        await sweep(server)
        await share(server, bob, DATA)
        assert trashed_names(server) == {sha(b"held").hex()}
        await perform(tmp_path, "erase", name="bob")
        assert stored_names(server) == trashed_names(server) == set()
        await alice.post("the chat goes on")


async def test_full_disk_during_a_sweep_is_not_fatal() -> None:
    store = FaultyStore()
    async with running_server(store) as server, members(server, "alice") as (alice,):
        await share(server, alice, b"data")
        await alice.command(RemoveFile, 1)
        store.fill("files.sweep", times=1)
        await sweep(server)
        assert "disk is full" in await server.logged("fault in the files")
        await sweep(server)
        assert stored_names(server) == set()


async def test_unreliable_log_ends_the_server() -> None:
    store = FaultyStore()
    async with running_server(store) as server:
        await sweep(server)
        await store.wait_done("files.sweep", 2)  # the server's own at the start, too
        store.fail(StorageError(Code.INTERNAL, "The log is gone."), "files.sweep")
        with pytest.raises(StorageError, match="The log is gone"):
            await sweep(server)


async def test_server_sweeps_periodically(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tchat.server.retention.SWEEP_SECONDS", 0.01)
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"data")
        await alice.command(RemoveFile, 1)
        await server.logged("removed 1 files that no group refers to any more")
        assert stored_names(server) == set()
        await alice.post("the chat goes on")

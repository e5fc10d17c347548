"""Uploads: resumed where they were cut, announced only when complete."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.files import FileShared, Share
from tchat.core.protocol.frames import AlreadyStored, DigestRequired, Have, StartAt, Stored, Ticket
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.store.blobs import BlobDirectory
from tchat.store.open import open_store
from tchat.transfer.pieces import EMPTY_DIGEST
from tests.helpers import (
    GUARD,
    NO_RATE_LIMITS,
    log_of,
    members,
    raw_client,
    running_server,
)
from tests.server.file_transfers import (
    DATA,
    SHA,
    ShiftedClock,
    clock,
    download,
    have_at,
    interrupt_upload,
    offer,
    partial_files,
    pieces,
    resume_upload,
    running_digests,
    sending,
    sha,
    share,
    stored_names,
    sweep,
    ticket_to_send,
    transfer,
    upload,
    with_flipped_byte,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.transfer.partial_file import PartialFile
    from tests.helpers import RunningServer


__all__ = ["clock"]

IN_A_PIECE = PIECE_SIZE + 300_000

PLACES = [1, 300_000, PIECE_SIZE - 1, PIECE_SIZE, IN_A_PIECE, 2 * PIECE_SIZE + 1, len(DATA) - 1]


# ------------------------------------------------------------------ complete uploads


@pytest.mark.parametrize("size", [0, 1, PIECE_SIZE, PIECE_SIZE + 1, len(DATA)])
async def test_file_arrives_with_the_same_bytes(tmp_path: Path, size: int) -> None:
    data = DATA[:size]
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await share(server, alice, data, "plan.bin")
        (event,) = await bob.events(1)
        assert event.body == FileShared(1, "plan.bin", size, sha(data))
        await download(server, bob, 1, data)
        assert (stored_names(server), partial_files(server)) == ({sha(data).hex()}, [])
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        raw_client(server.address, "bob") as bob,
    ):
        await download(server, bob, 1, data)


async def test_file_name_is_sanitized() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"data", "../../etc/\x1b[2Jpass\u202ewd\n")
        (event,) = await alice.events(1)
        assert event.body == FileShared(1, "_[2Jpasswd_", 4, sha(b"data"))


# ------------------------------------------------------------------ resuming


@pytest.mark.parametrize("at", PLACES)
async def test_interrupted_upload_resumes_where_it_was_cut(at: int) -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await interrupt_upload(server, alice, DATA, at)
        await resume_upload(server, alice, DATA, at)
        await alice.command(Share, "plan.bin", len(DATA), SHA)
        await download(server, bob, 1, DATA)
        assert partial_files(server) == []


async def test_upload_resumes_after_a_server_restart(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice") as (alice,),
    ):
        await interrupt_upload(server, alice, DATA, IN_A_PIECE)
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        raw_client(server.address, "alice") as alice,
    ):
        await resume_upload(server, alice, DATA, IN_A_PIECE)
        assert stored_names(server) == {SHA.hex()}


async def test_data_received_before_a_shutdown_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_come = trio.Event()

    def on_progress(offset: int) -> None:
        if offset == IN_A_PIECE:
            has_come.set()

    monkeypatch.setattr("tchat.server.connections.transfers.ignore_progress", on_progress)
    monkeypatch.setattr("tchat.server.app.GRACE_SECONDS", 0.01)
    (first, content), (second, more), _ = pieces(DATA)
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice") as (alice,),
        sending(server, alice, DATA) as (connection, _),
    ):
        await connection.send(StartAt(0), first, raw=content)
        await connection.send(second, raw=more[:300_000])
        await has_come.wait()
        await server.end()
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        raw_client(server.address, "alice") as alice,
    ):
        await resume_upload(server, alice, DATA, IN_A_PIECE)


async def test_complete_partial_file_is_not_sent_again() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await interrupt_upload(server, alice, DATA, len(DATA) - 1)
        (part,) = partial_files(server)
        part.write_bytes(DATA)
        part.with_name(part.name + ".sums").write_bytes(b"".join(running_digests(DATA)))
        await resume_upload(server, alice, DATA, len(DATA))


async def test_last_piece_without_its_digest_is_sent_again() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await interrupt_upload(server, alice, DATA, len(DATA) - 1)
        (part,) = partial_files(server)
        part.write_bytes(DATA)  # as after a crash between the two writes
        async with sending(server, alice, DATA) as (connection, have):
            assert have == have_at(DATA, 2 * PIECE_SIZE)
            await connection.send_pieces(DATA, have.offset)
            assert await connection.until_end() == [Stored(SHA)]
        assert stored_names(server) == {SHA.hex()}


async def test_flipped_byte_costs_its_piece_only() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await interrupt_upload(server, alice, DATA, IN_A_PIECE)
        (part,) = partial_files(server)
        part.write_bytes(with_flipped_byte(part.read_bytes(), 5))
        await resume_upload(server, alice, DATA, 0)


@pytest.mark.parametrize("differs_at", [IN_A_PIECE - 5, PIECE_SIZE + 5])
async def test_another_file_with_the_same_beginning_starts_over(differs_at: int) -> None:
    other = with_flipped_byte(DATA, differs_at)
    async with running_server() as server, members(server, "alice") as (alice,):
        await interrupt_upload(server, alice, other, 2 * PIECE_SIZE + 10)
        async with sending(server, alice, DATA) as (connection, have):
            assert have == have_at(other, 2 * PIECE_SIZE + 10)
            await connection.send_pieces(
                DATA
            )  # from 0 on, since the server's part is of another file
            assert await connection.until_end() == [Stored(SHA)]
        assert stored_names(server) == {SHA.hex()}


async def test_partial_files_are_per_person() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await interrupt_upload(server, alice, DATA, IN_A_PIECE)
        await upload(server, bob, DATA)
        await resume_upload(server, alice, DATA, IN_A_PIECE)


async def test_same_file_may_be_uploaded_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tchat.server.connections.transfers.QUIET_SECONDS", 60)
    async with running_server() as server, members(server, "alice") as (alice,):
        await interrupt_upload(server, alice, DATA, IN_A_PIECE)
        async with (
            sending(server, alice, DATA) as (first, some),
            sending(server, alice, DATA) as (second, nothing),
        ):
            assert (some, nothing) == (have_at(DATA, IN_A_PIECE), Have(0, EMPTY_DIGEST))
            await first.send(StartAt(IN_A_PIECE))
            await second.send_pieces(DATA)
            assert await second.until_end() == [Stored(SHA)]
            for piece, content in pieces(DATA, IN_A_PIECE):
                await first.send(piece, raw=content)
            assert await first.until_end() == [Stored(SHA)]
        assert (stored_names(server), partial_files(server)) == ({SHA.hex()}, [])


async def test_upload_waiting_for_the_server_is_not_displaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tchat.server.connections.transfers.QUIET_SECONDS", 0)
    may_begin, begin = threading.Event(), BlobDirectory.open_partial

    def begin_slowly(blobs: BlobDirectory, part: PartialFile) -> None:
        monkeypatch.setattr(BlobDirectory, "open_partial", begin)
        may_begin.wait(GUARD)
        begin(blobs, part)

    async with running_server() as server, members(server, "alice") as (alice,):
        await interrupt_upload(server, alice, DATA, IN_A_PIECE)
        monkeypatch.setattr(BlobDirectory, "open_partial", begin_slowly)
        ticket = await ticket_to_send(alice, DATA)
        async with transfer(server, ticket, len(DATA)) as first:
            async with sending(server, alice, DATA) as (_, have):
                assert have == Have(0, EMPTY_DIGEST)
            may_begin.set()
            assert await first.expect(Have) == have_at(DATA, IN_A_PIECE)


# ------------------------------------------------------------------ partial uploads


def make_older(server: RunningServer, part: Path, seconds: float) -> None:
    at = time.time() - seconds
    for path in (part, part.with_name(part.name + ".sums")):
        if path.exists():
            os.utime(path, (at, at))
    assert isinstance(server.store.blobs, BlobDirectory)
    server.store.blobs.begun.load()


async def test_partial_upload_is_kept_for_a_day(clock: ShiftedClock) -> None:
    hour = 3600
    async with (
        running_server(clock=clock) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await interrupt_upload(server, alice, DATA, IN_A_PIECE)
        await interrupt_upload(server, bob, DATA, IN_A_PIECE)
        (hers,) = partial_files(server)[:1]
        make_older(server, hers, 23 * hour)
        await sweep(server)
        assert len(partial_files(server)) == 2
        make_older(server, hers, 25 * hour)
        await sweep(server)
        assert (hers.exists(), len(partial_files(server))) == (False, 1)


async def test_running_upload_never_expires(clock: ShiftedClock) -> None:
    async with running_server(clock=clock) as server, members(server, "alice") as (alice,):
        await interrupt_upload(server, alice, DATA, IN_A_PIECE)
        async with sending(server, alice, DATA) as (connection, have):
            (part,) = partial_files(server)
            make_older(server, part, 1e6)
            await sweep(server)
            await connection.send_pieces(DATA, have.offset)
            assert await connection.until_end() == [Stored(SHA)]


async def test_simultaneous_offers_do_not_drop_each_other() -> None:
    limits = replace(NO_RATE_LIMITS, files_per_user=len(DATA) + 1000)
    async with running_server(limits=limits) as server, members(server, "alice") as (alice,):
        await interrupt_upload(server, alice, DATA, 2 * PIECE_SIZE)
        ticket = await ticket_to_send(alice, DATA)
        await ticket_to_send(alice, b"x" * 1000)
        async with transfer(server, ticket, len(DATA)) as connection:
            assert await connection.expect(Have) == have_at(DATA, 2 * PIECE_SIZE)


async def test_oldest_partial_uploads_make_room_for_new_ones() -> None:
    a, b, c = (letter * 400 for letter in (b"a", b"b", b"c"))
    async with (
        running_server(limits=replace(NO_RATE_LIMITS, files_per_user=1000)) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        for age, data in ((300, a), (100, b), (200, c)):
            await interrupt_upload(server, alice, data, 300)
            (part,) = (p for p in partial_files(server) if p.read_bytes()[:1] == data[:1])
            make_older(server, part, age)
        await interrupt_upload(server, bob, a, 300)

        def left() -> list[bytes]:
            return sorted(path.read_bytes()[:1] for path in partial_files(server))

        await ticket_to_send(alice, b"d" * 100)  # leaves 900
        assert left() == [b"a", b"a", b"b", b"c"]
        await ticket_to_send(alice, b"e" * 100)  # leaves 800
        assert left() == [b"a", b"b", b"c"]
        await ticket_to_send(alice, c)  # leaves 400; c itself is not counted
        assert left() == [b"a", b"b", b"c"]
        await ticket_to_send(alice, b"f" * 200)  # leaves 200, and c is about to be resumed
        assert left() == [b"a", b"c"]


async def test_recognized_file_drops_no_partial_upload() -> None:
    async with (
        running_server(limits=replace(NO_RATE_LIMITS, files_per_user=1000)) as server,
        members(server, "alice") as (alice,),
    ):
        await interrupt_upload(server, alice, b"b" * 400, 300)
        digest = await share(server, alice, b"a" * 700)
        assert isinstance(await offer(alice, b"a" * 700), DigestRequired)
        assert isinstance(await offer(alice, b"a" * 700, digest), AlreadyStored)
        assert len(partial_files(server)) == 1
        assert isinstance(await offer(alice, b"c" * 300), Ticket)
        assert partial_files(server) == []


# ------------------------------------------------------------------ sharing


async def test_repeated_share_is_recognized_after_a_restart() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await upload(server, alice, b"data")
        assert (await alice.command(Share, "data", 4, sha(b"data"), n=70)).seq == 2
    async with (
        running_server(server.store) as server,
        raw_client(server.address, "alice", client=alice.client) as again,
    ):
        assert (await again.command(Share, "data", 4, sha(b"data"), n=70)).seq is None
    assert len(await log_of(server.store)) == 2

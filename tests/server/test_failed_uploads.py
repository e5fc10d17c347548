"""Failing uploads: nothing is stored or announced, and nobody else is affected."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from io import FileIO
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.files import FileShared, Share
from tchat.core.protocol.frames import Failed, Piece, Ping, StartAt, Stored, encode
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import Code
from tests.faulty_store import FaultyStore
from tests.helpers import (
    NO_RATE_LIMITS,
    log_of,
    members,
    running_server,
)
from tests.server.file_transfers import (
    DATA,
    SHA,
    TransferConnection,
    clock,
    have_at,
    interrupt_upload,
    offer,
    partial_files,
    pieces,
    refusal_code,
    resume_upload,
    sending,
    sha,
    stored_names,
    ticket_to_send,
    transfer,
    upload,
    with_flipped_byte,
)

if TYPE_CHECKING:
    from tests.helpers import RawClient, RunningServer

__all__ = ["clock"]

IN_A_PIECE = PIECE_SIZE + 300_000


async def assert_not_announced(server: RunningServer) -> None:
    assert not any(isinstance(e.body, FileShared) for e in await log_of(server.store))


# ------------------------------------------------------------------ invalid uploads


@pytest.mark.parametrize("at", [5, PIECE_SIZE + 5, 2 * PIECE_SIZE + 5])
async def test_piece_with_a_wrong_digest_is_not_stored(at: int) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        async with sending(server, alice, DATA) as (connection, _):
            await connection.send(StartAt(0))
            for piece, content in zip(
                (piece for piece, _ in pieces(DATA)),
                (content for _, content in pieces(with_flipped_byte(DATA, at))),
                strict=True,
            ):
                await connection.send(piece, raw=content)
            (failure,) = await connection.until_end()
            assert refusal_code(failure) == Code.FILE_CHANGED
        assert stored_names(server) - {path.name for path in partial_files(server)} == set()
        assert (await alice.refusal(Share, "f", len(DATA), SHA)).code == Code.NOT_UPLOADED
        await assert_not_announced(server)
        await resume_upload(server, alice, DATA, at - at % PIECE_SIZE)


async def test_withdrawn_upload_leaves_nothing_behind() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        for offset in (0, IN_A_PIECE):
            await interrupt_upload(server, alice, DATA, offset)
            async with sending(server, alice, DATA) as (connection, have):
                await connection.send(StartAt(have.offset), Failed("file_changed", "It changed."))
                await connection.until_end()
            assert (stored_names(server), partial_files(server)) == (set(), [])
        await upload(server, alice, DATA)


BAD = {
    "another beginning than was asked for": encode(StartAt(5)),
    "a piece before the beginning": encode(Piece(4, SHA)) + b"data",
    "a piece that is too long": encode(StartAt(0)) + encode(Piece(5, SHA)) + b"datas",
    "a piece that is too short": encode(StartAt(0)) + encode(Piece(3, SHA)) + b"dat",
    "a frame that has no place here": encode(StartAt(0)) + encode(Stored(SHA)),
    "a frame that nobody knows": b"\x00\x00\x00\x0c\xa1dtypeedance",
    "no frame": b"\xff\xff\xff\xff",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_protocol_violation_ends_the_upload_and_stores_nothing(bad: bytes) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        async with sending(server, alice, b"data") as (connection, _):
            await connection.send(raw=bad)
            (failure,) = await connection.until_end()
        assert refusal_code(failure) in (Code.MALFORMED, Code.FRAME_TOO_LARGE, Code.UNKNOWN_TYPE)
        assert stored_names(server) == set()
        await assert_not_announced(server)
        await alice.post("the chat goes on")


async def test_sender_may_ping_while_it_computes_digests() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        sending(server, alice, b"data") as (connection, _),
    ):
        await connection.send(
            Ping(), Ping(), StartAt(0), Ping(), Piece(4, sha(b"data")), raw=b"data"
        )
        assert await connection.until_end() == [Stored(sha(b"data"))]


async def test_stalled_upload_is_ended_and_can_resume() -> None:
    async with (
        running_server(limits=replace(NO_RATE_LIMITS, stall_seconds=0.05)) as server,
        members(server, "alice") as (alice,),
    ):
        async with sending(server, alice, DATA) as (connection, _):
            (piece, content), *_ = pieces(DATA)
            await connection.send(StartAt(0), piece, raw=content[:1000])
            (failure,) = await connection.until_end()
            assert refusal_code(failure) == Code.IDLE
        async with sending(server, alice, DATA) as (_, have):
            assert have == have_at(DATA, 1000)


# ------------------------------------------------------------------ disk errors


class FullDisk(FileIO):
    """A disk that stores `capacity` bytes of a file and fails afterwards."""

    capacity = 0
    reason = errno.ENOSPC

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self.capacity:
            super().write(data[: max(0, self.capacity - self.tell())])
            raise OSError(self.reason, os.strerror(self.reason))
        return super().write(data)


@pytest.mark.parametrize("capacity", [0, 5, PIECE_SIZE, PIECE_SIZE + 5])
@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (errno.ENOSPC, Code.STORAGE_FULL),
        (errno.EDQUOT, Code.STORAGE_FULL),
        (errno.EIO, Code.FILE_UNREADABLE),
    ],
)
async def test_disk_error_ends_the_upload_and_stores_nothing(
    monkeypatch: pytest.MonkeyPatch, capacity: int, reason: int, code: Code
) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        with monkeypatch.context() as patch:
            patch.setattr("tchat.transfer.partial_file.FileIO", FullDisk)
            patch.setattr(FullDisk, "capacity", capacity)
            patch.setattr(FullDisk, "reason", reason)
            assert await upload_refusal(server, alice) == code
        assert stored_names(server) == set()
        await assert_not_announced(server)
        await alice.post("the chat goes on")
        await upload(server, alice, DATA)


async def upload_refusal(server: RunningServer, person: RawClient) -> str:
    ticket = await ticket_to_send(person, DATA)
    async with transfer(server, ticket, len(DATA)) as connection, trio.open_nursery() as nursery:
        nursery.start_soon(send_until_closed, connection)
        *earlier, failure = await connection.until_end()
        assert not any(isinstance(frame, Stored) for frame in earlier)
        nursery.cancel_scope.cancel()
    return refusal_code(failure)


async def send_until_closed(connection: TransferConnection) -> None:
    try:
        await connection.send_pieces(DATA)
    except trio.BrokenResourceError:
        return


async def test_failed_sync_discards_the_partial_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with running_server() as server, members(server, "alice") as (alice,):
        with monkeypatch.context() as patch:
            patch.setattr("tchat.transfer.partial_file.os.fsync", fsync)
            assert await upload_refusal(server, alice) == Code.FILE_UNREADABLE
        assert stored_names(server) == set()
        assert (await alice.refusal(Share, "f", len(DATA), SHA)).code == Code.NOT_UPLOADED


async def test_full_log_leaves_no_file_behind() -> None:
    store = FaultyStore()
    async with running_server(store) as server, members(server, "alice", "bob") as (alice, bob):
        store.fill("files.add", times=1)
        assert await upload_refusal(server, alice) == Code.STORAGE_FULL
        assert stored_names(server) == set()
        await upload(server, alice, DATA)
        store.fill("files.add", times=1)
        assert await upload_refusal(server, bob) == Code.STORAGE_FULL
        assert stored_names(server) == {SHA.hex()}  # as Alice has it


async def test_upload_larger_than_the_free_space_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage("/")
    async with running_server() as server, members(server, "alice") as (alice,):
        with monkeypatch.context() as patch:
            patch.setattr("shutil.disk_usage", lambda _: usage._replace(free=len(DATA) - 1))
            assert refusal_code(await offer(alice, DATA)) == Code.STORAGE_FULL
            patch.setattr("shutil.disk_usage", lambda _: usage._replace(free=len(DATA)))
            await upload(server, alice, DATA)


async def test_offer_is_refused_if_making_room_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with running_server() as server, members(server, "alice") as (alice,):
        await interrupt_upload(server, alice, b"begun", 3)
        with monkeypatch.context() as patch:
            patch.setattr("tchat.store.begun_uploads.MAX_EACH", 0)
            patch.setattr("tchat.store.blobs._remove_upload", broken)
            assert refusal_code(await offer(alice, DATA)) == Code.FILE_UNREADABLE
        await alice.post("the chat goes on")
        await upload(server, alice, DATA)

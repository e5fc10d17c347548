"""Files that go wrong on their way up: not kept, not announced, and nobody else's trouble."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from io import FileIO
from typing import TYPE_CHECKING
from unittest.mock import AsyncMock

import pytest
import trio

from tchat.core.group.commands import Share
from tchat.core.group.events import FileShared
from tchat.core.protocol.frames import Failed, Piece, Ping, StartAt, Stored, encode
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.errors import Code
from tchat.store.base import StorageFull
from tests.helpers import (
    UNHURRIED,
    log_of,
    members,
    running_server,
)
from tests.memory_store import MemoryFileIndex
from tests.server.carrying import (
    DATA,
    SHA,
    Carrier,
    begun,
    code_of,
    flipped,
    go_on,
    having,
    keeper,
    kept,
    offer,
    pieces,
    send_some,
    sending,
    sha,
    ticket_to_send,
    transfer,
    upload,
)

if TYPE_CHECKING:
    from tests.helpers import RawClient, RunningServer

__all__ = ["keeper"]

IN_A_PIECE = PIECE_SIZE + 300_000


async def nothing_was_said_of_it(server: RunningServer) -> None:
    assert not any(isinstance(e.body, FileShared) for e in await log_of(server.store))


# ------------------------------------------------------------------ what is not as it should be


@pytest.mark.parametrize("at", [5, PIECE_SIZE + 5, 2 * PIECE_SIZE + 5])
async def test_a_piece_that_is_not_what_its_digest_says_is_not_kept(at: int) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        async with sending(server, alice, DATA) as (carrier, _):
            await carrier.send(StartAt(0))
            for piece, content in zip(
                (piece for piece, _ in pieces(DATA)),
                (content for _, content in pieces(flipped(DATA, at))),
                strict=True,
            ):
                await carrier.send(piece, raw=content)
            (failure,) = await carrier.until_end()
            assert code_of(failure) == Code.FILE_CHANGED
        assert kept(server) - {path.name for path in begun(server)} == set()
        assert (await alice.refusal(Share, "f", len(DATA), SHA)).code == Code.NOT_UPLOADED
        await nothing_was_said_of_it(server)
        await go_on(server, alice, DATA, at - at % PIECE_SIZE)


async def test_one_who_takes_back_what_he_sent_leaves_nothing() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        for offset in (0, IN_A_PIECE):
            await send_some(server, alice, DATA, offset)
            async with sending(server, alice, DATA) as (carrier, have):
                await carrier.send(StartAt(have.offset), Failed("file_changed", "It changed."))
                await carrier.until_end()
            assert (kept(server), begun(server)) == (set(), [])
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
async def test_one_who_breaks_the_rules_is_told_and_nothing_is_kept(bad: bytes) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        async with sending(server, alice, b"data") as (carrier, _):
            await carrier.send(raw=bad)
            (failure,) = await carrier.until_end()
        assert code_of(failure) in (Code.MALFORMED, Code.FRAME_TOO_LARGE, Code.UNKNOWN_TYPE)
        assert kept(server) == set()
        await nothing_was_said_of_it(server)
        await alice.post("the chat goes on")


async def test_one_who_looks_through_his_file_may_say_that_he_lives() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        sending(server, alice, b"data") as (carrier, _),
    ):
        await carrier.send(Ping(), Ping(), StartAt(0), Ping(), Piece(4, sha(b"data")), raw=b"data")
        assert await carrier.until_end() == [Stored(sha(b"data"))]


async def test_an_upload_that_stands_still_is_ended_and_gone_on_with() -> None:
    async with (
        running_server(limits=replace(UNHURRIED, stall_seconds=0.05)) as server,
        members(server, "alice") as (alice,),
    ):
        async with sending(server, alice, DATA) as (carrier, _):
            (piece, content), *_ = pieces(DATA)
            await carrier.send(StartAt(0), piece, raw=content[:1000])
            (failure,) = await carrier.until_end()
            assert code_of(failure) == Code.IDLE
        async with sending(server, alice, DATA) as (_, have):
            assert have == having(DATA, 1000)


# ------------------------------------------------------------------ disks


class FullDisk(FileIO):
    """Takes so many bytes of a file, and then no more."""

    takes = 0
    reason = errno.ENOSPC

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self.takes:
            super().write(data[: max(0, self.takes - self.tell())])
            raise OSError(self.reason, os.strerror(self.reason))
        return super().write(data)


@pytest.mark.parametrize("takes", [0, 5, PIECE_SIZE, PIECE_SIZE + 5])
@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (errno.ENOSPC, Code.STORAGE_FULL),
        (errno.EDQUOT, Code.STORAGE_FULL),
        (errno.EIO, Code.FILE_UNREADABLE),
    ],
)
async def test_a_disk_that_takes_no_more_ends_the_transfer_and_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, takes: int, reason: int, code: Code
) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        with monkeypatch.context() as patch:
            patch.setattr("tchat.transfer.partial_file.FileIO", FullDisk)
            patch.setattr(FullDisk, "takes", takes)
            patch.setattr(FullDisk, "reason", reason)
            assert await refused_by_the_disk(server, alice) == code
        assert kept(server) == set()
        await nothing_was_said_of_it(server)
        await alice.post("the chat goes on")
        await upload(server, alice, DATA)


async def refused_by_the_disk(server: RunningServer, person: RawClient) -> str:
    ticket = await ticket_to_send(person, DATA)
    async with transfer(server, ticket, len(DATA)) as carrier, trio.open_nursery() as nursery:
        nursery.start_soon(send_all_it_takes, carrier)
        *earlier, failure = await carrier.until_end()
        assert not any(isinstance(frame, Stored) for frame in earlier)
        nursery.cancel_scope.cancel()
    return code_of(failure)


async def send_all_it_takes(carrier: Carrier) -> None:
    try:
        await carrier.send_pieces(DATA)
    except trio.BrokenResourceError:
        return


async def test_a_disk_that_loses_what_it_was_given_is_no_place_to_go_on_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with running_server() as server, members(server, "alice") as (alice,):
        with monkeypatch.context() as patch:
            patch.setattr("tchat.transfer.partial_file.os.fsync", fsync)
            assert await refused_by_the_disk(server, alice) == Code.FILE_UNREADABLE
        assert kept(server) == set()
        assert (await alice.refusal(Share, "f", len(DATA), SHA)).code == Code.NOT_UPLOADED


async def test_a_log_that_has_no_room_for_a_file_leaves_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        full = AsyncMock(side_effect=StorageFull)
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileIndex, "add", full)
            assert await refused_by_the_disk(server, alice) == Code.STORAGE_FULL
        assert kept(server) == set()
        await upload(server, alice, DATA)
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileIndex, "add", full)
            assert await refused_by_the_disk(server, bob) == Code.STORAGE_FULL
        assert kept(server) == {SHA.hex()}, "which somebody else has"


async def test_what_there_is_no_room_for_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    async with running_server() as server, members(server, "alice") as (alice,):
        with monkeypatch.context() as patch:
            patch.setattr("shutil.disk_usage", lambda _: usage._replace(free=len(DATA) - 1))
            assert await refused_by_the_disk(server, alice) == Code.STORAGE_FULL
            assert kept(server) == set()
            patch.setattr("shutil.disk_usage", lambda _: usage._replace(free=len(DATA)))
            await upload(server, alice, DATA)


async def test_an_offer_for_which_the_disk_cannot_be_tidied_up_is_refused_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with running_server() as server, members(server, "alice") as (alice,):
        with monkeypatch.context() as patch:
            patch.setattr("tchat.store.blobs._remove_oldest", broken)
            assert code_of(await offer(alice, DATA)) == Code.FILE_UNREADABLE
        await alice.post("the chat goes on")
        await upload(server, alice, DATA)

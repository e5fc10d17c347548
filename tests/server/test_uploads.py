"""Files on their way up: gone on with where they were cut, and whole or not announced at all."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.commands import Share
from tchat.core.group.events import FileShared
from tchat.core.protocol.frames import AlreadyStored, DigestRequired, Have, StartAt, Stored, Ticket
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.server.connections import files
from tchat.store.blobs import BlobDirectory
from tchat.store.open import open_store
from tchat.transfer.pieces import EMPTY_DIGEST
from tests.helpers import (
    GUARD,
    UNHURRIED,
    log_of,
    members,
    raw_client,
    running_server,
)
from tests.server.carrying import (
    DATA,
    SHA,
    Keeper,
    begun,
    download,
    flipped,
    go_on,
    having,
    keeper,
    kept,
    offer,
    pieces,
    running,
    send_some,
    sending,
    sha,
    share,
    ticket_to_send,
    transfer,
    upload,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.transfer.partial_file import PartialFile


__all__ = ["keeper"]

IN_A_PIECE = PIECE_SIZE + 300_000

PLACES = [1, 300_000, PIECE_SIZE - 1, PIECE_SIZE, IN_A_PIECE, 2 * PIECE_SIZE + 1, len(DATA) - 1]


# ------------------------------------------------------------------ whole


@pytest.mark.parametrize("size", [0, 1, PIECE_SIZE, PIECE_SIZE + 1, len(DATA)])
async def test_a_file_reaches_the_others_with_the_same_bytes(tmp_path: Path, size: int) -> None:
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
        assert (kept(server), begun(server)) == ({sha(data).hex()}, [])
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        raw_client(server.address, "bob") as bob,
    ):
        await download(server, bob, 1, data)


async def test_the_name_of_a_file_is_made_harmless_on_its_way_in() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"data", "../../etc/\x1b[2Jpass\u202ewd\n")
        (event,) = await alice.events(1)
        assert event.body == FileShared(1, "_[2Jpasswd_", 4, sha(b"data"))


# ------------------------------------------------------------------ gone on with


@pytest.mark.parametrize("at", PLACES)
async def test_an_upload_goes_on_where_it_was_cut(at: int) -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await send_some(server, alice, DATA, at)
        await go_on(server, alice, DATA, at)
        await alice.command(Share, "plan.bin", len(DATA), SHA)
        await download(server, bob, 1, DATA)
        assert begun(server) == []


async def test_it_goes_on_after_a_restart_of_the_server(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice") as (alice,),
    ):
        await send_some(server, alice, DATA, IN_A_PIECE)
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        raw_client(server.address, "alice") as alice,
    ):
        await go_on(server, alice, DATA, IN_A_PIECE)
        assert kept(server) == {SHA.hex()}


async def test_what_came_until_the_server_stopped_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_come = trio.Event()

    def told(offset: int) -> None:
        if offset == IN_A_PIECE:
            has_come.set()

    monkeypatch.setattr(files, "_nobody_told", told)
    monkeypatch.setattr("tchat.server.app.GRACE_SECONDS", 0.01)
    (first, content), (second, more), _ = pieces(DATA)
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice") as (alice,),
        sending(server, alice, DATA) as (carrier, _),
    ):
        await carrier.send(StartAt(0), first, raw=content)
        await carrier.send(second, raw=more[:300_000])
        await has_come.wait()
        await server.end()
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        raw_client(server.address, "alice") as alice,
    ):
        await go_on(server, alice, DATA, IN_A_PIECE)


async def test_an_upload_that_was_whole_when_the_server_died_is_not_sent_again() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await send_some(server, alice, DATA, len(DATA) - 1)
        (part,) = begun(server)
        part.write_bytes(DATA)
        part.with_name(part.name + ".sums").write_bytes(b"".join(running(DATA)))
        await go_on(server, alice, DATA, len(DATA))


async def test_a_last_piece_of_which_the_digest_was_not_written_comes_again() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await send_some(server, alice, DATA, len(DATA) - 1)
        (part,) = begun(server)
        part.write_bytes(DATA)  # as a server leaves it that dies between the two writes
        async with sending(server, alice, DATA) as (carrier, have):
            assert have == having(DATA, 2 * PIECE_SIZE)
            await carrier.send_pieces(DATA, have.offset)
            assert await carrier.until_end() == [Stored(SHA)]
        assert kept(server) == {SHA.hex()}


async def test_a_byte_that_flipped_in_what_was_begun_costs_its_piece() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await send_some(server, alice, DATA, IN_A_PIECE)
        (part,) = begun(server)
        part.write_bytes(flipped(part.read_bytes(), 5))
        await go_on(server, alice, DATA, 0)


@pytest.mark.parametrize("differs_at", [IN_A_PIECE - 5, PIECE_SIZE + 5])
async def test_another_file_that_begins_alike_is_sent_from_its_beginning(differs_at: int) -> None:
    other = flipped(DATA, differs_at)
    async with running_server() as server, members(server, "alice") as (alice,):
        await send_some(server, alice, other, 2 * PIECE_SIZE + 10)
        async with sending(server, alice, DATA) as (carrier, have):
            assert have == having(other, 2 * PIECE_SIZE + 10)
            await carrier.send_pieces(DATA)  # from 0 on: that is not what she has
            assert await carrier.until_end() == [Stored(SHA)]
        assert kept(server) == {SHA.hex()}


async def test_what_somebody_else_began_is_no_part_of_it() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await send_some(server, alice, DATA, IN_A_PIECE)
        await upload(server, bob, DATA)
        await go_on(server, alice, DATA, IN_A_PIECE)


async def test_a_file_may_be_sent_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tchat.server.connections.files.QUIET_SECONDS", 60)
    async with running_server() as server, members(server, "alice") as (alice,):
        await send_some(server, alice, DATA, IN_A_PIECE)
        async with (
            sending(server, alice, DATA) as (first, some),
            sending(server, alice, DATA) as (second, nothing),
        ):
            assert (some, nothing) == (having(DATA, IN_A_PIECE), Have(0, EMPTY_DIGEST))
            await first.send(StartAt(IN_A_PIECE))
            await second.send_pieces(DATA)
            assert await second.until_end() == [Stored(SHA)]
            for piece, content in pieces(DATA, IN_A_PIECE):
                await first.send(piece, raw=content)
            assert await first.until_end() == [Stored(SHA)]
        assert (kept(server), begun(server)) == ({SHA.hex()}, [])


async def test_one_that_the_server_keeps_waiting_does_not_give_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tchat.server.connections.files.QUIET_SECONDS", 0)
    may_begin, begin = threading.Event(), BlobDirectory.open_partial

    def begin_slowly(blobs: BlobDirectory, part: PartialFile) -> None:
        monkeypatch.setattr(BlobDirectory, "open_partial", begin)
        may_begin.wait(GUARD)
        begin(blobs, part)

    async with running_server() as server, members(server, "alice") as (alice,):
        await send_some(server, alice, DATA, IN_A_PIECE)
        monkeypatch.setattr(BlobDirectory, "open_partial", begin_slowly)
        ticket = await ticket_to_send(alice, DATA)
        async with transfer(server, ticket, len(DATA)) as first:
            async with sending(server, alice, DATA) as (_, have):
                assert have == Have(0, EMPTY_DIGEST)
            may_begin.set()
            assert await first.expect(Have) == having(DATA, IN_A_PIECE)


# ------------------------------------------------------------------ what was begun, and left


def make_older(part: Path, seconds: float) -> None:
    at = time.time() - seconds
    for path in (part, part.with_name(part.name + ".sums")):
        if path.exists():
            os.utime(path, (at, at))


async def test_what_was_begun_and_left_is_kept_for_a_day(keeper: Keeper) -> None:
    hour = 3600
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await send_some(server, alice, DATA, IN_A_PIECE)
        await send_some(server, bob, DATA, IN_A_PIECE)
        (hers,) = begun(server)[:1]
        make_older(hers, 23 * hour)
        await keeper.sweep()
        assert len(begun(server)) == 2
        make_older(hers, 25 * hour)
        await keeper.sweep()
        assert (hers.exists(), len(begun(server))) == (False, 1)


async def test_what_is_being_sent_at_the_moment_is_never_too_old(keeper: Keeper) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await send_some(server, alice, DATA, IN_A_PIECE)
        async with sending(server, alice, DATA) as (carrier, have):
            (part,) = begun(server)
            make_older(part, 1e6)
            await keeper.sweep()
            await carrier.send_pieces(DATA, have.offset)
            assert await carrier.until_end() == [Stored(SHA)]


async def test_what_is_offered_at_once_is_not_dropped_for_each_other() -> None:
    limits = replace(UNHURRIED, files_per_user=len(DATA) + 1000)
    async with running_server(limits=limits) as server, members(server, "alice") as (alice,):
        await send_some(server, alice, DATA, 2 * PIECE_SIZE)
        ticket = await ticket_to_send(alice, DATA)
        await ticket_to_send(alice, b"x" * 1000)
        async with transfer(server, ticket, len(DATA)) as carrier:
            assert await carrier.expect(Have) == having(DATA, 2 * PIECE_SIZE)


async def test_what_was_begun_gives_way_to_what_is_sent_the_oldest_first() -> None:
    a, b, c = (letter * 400 for letter in (b"a", b"b", b"c"))
    async with (
        running_server(limits=replace(UNHURRIED, files_per_user=1000)) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        for age, data in ((300, a), (100, b), (200, c)):
            await send_some(server, alice, data, 300)
            (part,) = (p for p in begun(server) if p.read_bytes()[:1] == data[:1])
            make_older(part, age)
        await send_some(server, bob, a, 300)

        def left() -> list[bytes]:
            return sorted(path.read_bytes()[:1] for path in begun(server))

        await ticket_to_send(alice, b"d" * 100)  # leaves 900
        assert left() == [b"a", b"a", b"b", b"c"]
        await ticket_to_send(alice, b"e" * 100)  # leaves 800
        assert left() == [b"a", b"b", b"c"]
        await ticket_to_send(alice, c)  # leaves 400, c being none of what has to go
        assert left() == [b"a", b"b", b"c"]
        await ticket_to_send(alice, b"f" * 200)  # leaves 200, and c is about to be gone on with
        assert left() == [b"a", b"c"]


async def test_what_was_begun_does_not_give_way_to_what_need_not_be_sent() -> None:
    async with (
        running_server(limits=replace(UNHURRIED, files_per_user=1000)) as server,
        members(server, "alice") as (alice,),
    ):
        await send_some(server, alice, b"b" * 400, 300)
        digest = await share(server, alice, b"a" * 700)
        assert isinstance(await offer(alice, b"a" * 700), DigestRequired)
        assert isinstance(await offer(alice, b"a" * 700, digest), AlreadyStored)
        assert len(begun(server)) == 1
        assert isinstance(await offer(alice, b"c" * 300), Ticket)
        assert begun(server) == []


# ------------------------------------------------------------------ shared


async def test_a_share_sent_again_after_a_restart_is_recognised() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await upload(server, alice, b"data")
        assert (await alice.command(Share, "data", 4, sha(b"data"), n=70)).seq == 2
    async with (
        running_server(server.store) as server,
        raw_client(server.address, "alice", client=alice.client) as again,
    ):
        assert (await again.command(Share, "data", 4, sha(b"data"), n=70)).seq is None
    assert len(await log_of(server.store)) == 2

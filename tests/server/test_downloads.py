"""Files on their way down: gone on with, and never damaged without a word."""

from __future__ import annotations

import errno
import hashlib
import socket
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.commands import Kick
from tchat.core.protocol.frames import Download, Have, StartAt, Stored, Ticket
from tchat.core.protocol.handshake import PIECE_SIZE, VERSION, TransferHello
from tchat.errors import Code
from tchat.store.blobs import BlobFile
from tchat.transfer.pieces import EMPTY_DIGEST
from tests.helpers import GUARD, members, raw_client, running_server
from tests.server.carrying import (
    DATA,
    SHA,
    Carrier,
    code_of,
    download,
    fetching,
    flipped,
    having,
    kept,
    offer,
    place_of,
    running,
    sha,
    share,
    shelf_of,
    ticket_to_fetch,
    transfer,
    upload,
)
from tests.store.files import blob_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.helpers import RawClient


async def who_fetched(person: RawClient, number: int = 1) -> list[str]:
    shelf = await shelf_of(person)
    at = shelf.numbers.index(number)
    names = shelf.by[at].split("\n") if shelf.by[at] else []
    assert shelf.fetched[at] == len(names)
    return names


def sums_of(place: Path) -> Path:
    return place.with_name(place.name + ".sums")


# ------------------------------------------------------------------ gone on with


@pytest.mark.parametrize("offset", [0, 1, PIECE_SIZE, PIECE_SIZE + 5, len(DATA) - 1, len(DATA)])
async def test_a_download_goes_on_where_it_was_cut(offset: int) -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA)
        async with fetching(server, bob, 1, len(DATA)) as carrier:
            await carrier.send(having(DATA, offset))
            await carrier.fetch(DATA, offset)
            await carrier.send(Stored(SHA))
            assert await carrier.until_end() == []
        assert await who_fetched(alice) == ["bob"]


@pytest.mark.parametrize(
    "have",
    [
        having(flipped(DATA, 5), PIECE_SIZE),
        having(flipped(DATA, PIECE_SIZE + 5), 2 * PIECE_SIZE + 500),
        having(flipped(DATA, len(DATA) - 1), len(DATA)),
        Have(PIECE_SIZE, EMPTY_DIGEST),
        Have(len(DATA) + 1, SHA),
        Have(3 * PIECE_SIZE, SHA),
        Have(2**62, SHA),
    ],
)
async def test_one_who_has_another_file_gets_this_one_from_its_beginning(have: Have) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        async with fetching(server, alice, 1, len(DATA)) as carrier:
            await carrier.send(have)
            await carrier.fetch(DATA, 0)


async def test_an_empty_file_is_fetched_at_once() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"")
        await download(server, alice, 1, b"")


# ------------------------------------------------------------------ who has fetched it


async def test_a_file_says_who_has_fetched_it_each_once() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "Bob", "carol") as (alice, bob, carol),
    ):
        await share(server, alice, DATA)
        assert await who_fetched(alice) == []
        for person in (carol, bob, carol):
            await download(server, person, 1, DATA)
        assert await who_fetched(alice) == ["carol", "Bob"]


async def test_a_download_that_was_cut_is_none() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA)
        async with fetching(server, bob, 1, len(DATA)) as carrier:
            await carrier.send(Have(0, EMPTY_DIGEST))
            await carrier.fetch(DATA[:PIECE_SIZE], 0)
            await trio.aclose_forcefully(carrier.stream)
        async with fetching(server, bob, 1, len(DATA)) as carrier:
            await carrier.send(Have(0, EMPTY_DIGEST))
            await carrier.fetch(DATA, 0)
            await carrier.cut()
        assert await who_fetched(alice) == []
        await download(server, bob, 1, DATA)
        assert await who_fetched(alice) == ["bob"]


@pytest.mark.parametrize("data", [DATA, b"small"])
async def test_one_who_has_stored_another_file_has_not_fetched_this_one(data: bytes) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, data)
        async with fetching(server, alice, 1, len(data)) as carrier:
            await carrier.send(Have(0, EMPTY_DIGEST))
            await carrier.fetch(data, 0)
            await carrier.send(Stored(sha(b"another")))
            await carrier.until_end()
        assert await who_fetched(alice) == []


async def test_one_who_says_that_he_has_what_was_not_sent_has_not_fetched_it() -> None:
    data = DATA * 8  # more than sockets take by themselves
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, data)
        async with fetching(server, alice, 1, len(data)) as carrier:
            await carrier.send(Have(0, EMPTY_DIGEST), Stored(sha(data)))
            with trio.move_on_after(GUARD):
                await carrier.stream.receive_some(1)
                while await carrier._more():
                    pass
        assert await who_fetched(alice) == []


async def test_one_who_is_put_out_fetches_nothing_more() -> None:
    data = DATA * 10
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, data)
        async with fetching(server, bob, 1, len(data)) as carrier:
            assert isinstance(carrier.stream, trio.SocketStream)
            # So that all of it does not wait here already.
            carrier.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            await carrier.send(Have(0, EMPTY_DIGEST))
            await carrier.expect(StartAt)
            await carrier.piece()
            await alice.command(Kick, "bob")
            assert await carrier.rest() < len(data) - PIECE_SIZE
        await download(server, alice, 1, data)


async def test_a_ticket_of_one_who_was_put_out_is_worth_nothing() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA)
        ticket = await ticket_to_fetch(bob, 1)
        await alice.command(Kick, "bob")
        async with raw_client(server.address) as raw:
            carrier = Carrier(raw.stream)
            await carrier.send(TransferHello(VERSION, ticket))
            (refusal,) = await carrier.until_end()
            assert code_of(refusal) == Code.BAD_TICKET


# ------------------------------------------------------------------ damage


async def in_doubt(carrier: Carrier, data: bytes, offset: int = 0) -> None:
    have = having(data, offset)
    await carrier.send(Have(have.offset, have.sha256, doubt=True))


@pytest.mark.parametrize("data", [DATA, b"small"])
async def test_a_damaged_file_is_found_when_it_is_in_doubt_and_healed_by_who_sends_it_again(
    data: bytes,
) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, bob),
        members(server, "carol", group="hers") as (carol,),
    ):
        await share(server, alice, data)
        await share(server, carol, data, group="hers")
        place_of(server, data).write_bytes(flipped(data, 3))
        async with fetching(server, bob, 1, len(data)) as carrier:
            await in_doubt(carrier, data)
            (failure,) = await carrier.until_end()
            assert code_of(failure) == Code.FILE_DAMAGED
        assert "file 1 of ops" in await server.logged("damaged and was removed")
        assert list(blob_path(server.store).glob("??/*")) == []
        assert (await shelf_of(bob)).numbers == ()
        assert (await shelf_of(carol, group="hers")).numbers == ()
        answer = await carol.ask(lambda i: Download(i, "hers", 1))
        assert code_of(answer) == Code.NO_SUCH_FILE
        # It has to be sent now, and is there again for everybody.
        assert isinstance(await offer(bob, data, sha(data)), Ticket)
        await upload(server, bob, data)
        await download(server, alice, 1, data)
        await download(server, carol, 1, data, "hers")


@pytest.mark.parametrize("doubt", [True, False])
async def test_whoever_finds_a_file_damaged_waits_for_no_other_thread(
    monkeypatch: pytest.MonkeyPatch, doubt: bool
) -> None:
    monkeypatch.setattr("tchat.transfer.threads._FILE_THREADS", trio.CapacityLimiter(1))
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        place_of(server, DATA).write_bytes(flipped(DATA, 3) if doubt else DATA[1:])
        async with fetching(server, alice, 1, len(DATA)) as carrier:
            await carrier.send(Have(0, EMPTY_DIGEST, doubt))
            (failure,) = await carrier.until_end()
            assert code_of(failure) == Code.FILE_DAMAGED
        await upload(server, alice, DATA)


async def test_a_file_that_is_in_doubt_and_right_is_sent() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        async with fetching(server, alice, 1, len(DATA)) as carrier:
            await in_doubt(carrier, DATA, PIECE_SIZE)
            await carrier.fetch(DATA, PIECE_SIZE)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda sums: flipped(sums, 40),
    "cut": lambda sums: sums[:-1],
    "empty": lambda _: b"",
    "longer": lambda sums: sums + bytes(32),
    "of another file": lambda _: b"".join(running(flipped(DATA, 5))),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("doubt", [True, False])
async def test_digests_that_are_damaged_are_made_anew(damage: str, doubt: bool) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        sums = sums_of(place_of(server, DATA))
        right = sums.read_bytes()
        sums.write_bytes(DAMAGE[damage](right))
        async with fetching(server, alice, 1, len(DATA)) as carrier:
            have = having(DATA, PIECE_SIZE)
            await carrier.send(Have(have.offset, have.sha256, doubt))
            if damage == "flipped" and not doubt:
                return  # only whoever gets it notices: see the next test
            await carrier.fetch(DATA, PIECE_SIZE)
        assert sums.read_bytes() == right == b"".join(running(DATA))


async def test_a_digest_that_flipped_is_found_by_who_gets_it_and_put_right() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        sums = sums_of(place_of(server, DATA))
        sums.write_bytes(flipped(sums.read_bytes(), 40))
        async with fetching(server, alice, 1, len(DATA)) as carrier:
            await carrier.send(Have(0, EMPTY_DIGEST))
            assert await carrier.receive() == StartAt(0)
            await carrier.piece()
            piece, content = await carrier.piece()
            assert hashlib.sha256(DATA[:PIECE_SIZE] + content).digest() != piece.sha256
        async with fetching(server, alice, 1, len(DATA)) as carrier:
            await in_doubt(carrier, DATA, PIECE_SIZE)
            await carrier.fetch(DATA, PIECE_SIZE)
        await download(server, alice, 1, DATA)


async def test_missing_digests_are_made_anew() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        sums_of(place_of(server, DATA)).unlink()
        await download(server, alice, 1, DATA)
        assert sums_of(place_of(server, DATA)).read_bytes() == b"".join(running(DATA))


@pytest.mark.parametrize("cut", [1, PIECE_SIZE, -1])
async def test_a_file_that_became_shorter_or_longer_is_damaged(cut: int) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        place_of(server, DATA).write_bytes(DATA[:-cut] if cut > 0 else DATA + b"!")
        async with fetching(server, alice, 1, len(DATA)) as carrier:
            await carrier.send(Have(0, EMPTY_DIGEST))
            (failure,) = await carrier.until_end()
            assert code_of(failure) == Code.FILE_DAMAGED
        await server.logged("damaged and was removed")
        assert kept(server) == set()


async def test_a_file_that_the_server_lost_is_as_good_as_damaged() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"data")
        place_of(server, b"data").unlink()
        async with fetching(server, alice, 1, 4) as carrier:
            (failure,) = await carrier.until_end()
            assert code_of(failure) == Code.FILE_DAMAGED
        await server.logged("damaged and was removed")
        await alice.post("the chat goes on")
        await upload(server, alice, b"data")
        await download(server, alice, 1, b"data")


class BadSector:
    """A file that cannot be read behind a place."""

    def __init__(self, file: object) -> None:
        self._file = file

    def readinto(self, room: memoryview) -> int:
        if self._file.tell() >= PIECE_SIZE:  # type: ignore[attr-defined]
            raise OSError(errno.EIO, "Input/output error")
        size: int = self._file.readinto(room)  # type: ignore[attr-defined]
        return size

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


@pytest.mark.parametrize("doubt", [True, False])
async def test_a_disk_that_cannot_be_read_costs_the_transfer_and_not_the_server(
    monkeypatch: pytest.MonkeyPatch, doubt: bool
) -> None:
    begin = BlobFile.__init__

    def begin_on_a_bad_disk(self: BlobFile, file: object, *more: object) -> None:
        begin(self, BadSector(file), *more)  # type: ignore[arg-type]

    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        with monkeypatch.context() as patch:
            patch.setattr(BlobFile, "__init__", begin_on_a_bad_disk)
            async with fetching(server, alice, 1, len(DATA)) as carrier:
                await carrier.send(Have(0, EMPTY_DIGEST, doubt))
                if not doubt:
                    await carrier.fetch(DATA[:PIECE_SIZE], 0)
                failure = (await carrier.until_end())[0]
            assert code_of(failure) == Code.FILE_UNREADABLE
        await alice.post("the chat goes on")
        await download(server, alice, 1, DATA)


# ------------------------------------------------------------------ and nobody else


async def test_a_slow_file_holds_up_no_conversation() -> None:
    data = DATA * 8
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, data)
        async with transfer(server, await ticket_to_fetch(bob, 1), len(data)) as carrier:
            await carrier.send(Have(0, EMPTY_DIGEST))
            await carrier.receive()
            # The file is stuck: bob reads nothing more of it. What is said arrives all the same.
            await alice.post("hello")
            assert len(await bob.events(2)) == 2

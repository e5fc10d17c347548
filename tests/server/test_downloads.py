"""Downloads: resumed after an interruption, damaged files detected."""

from __future__ import annotations

import errno
import hashlib
import socket
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.membership import Kick
from tchat.core.protocol.frames import Download, Have, StartAt, Stored, Ticket
from tchat.core.protocol.handshake import PIECE_SIZE, VERSION, TransferHello
from tchat.errors import Code
from tchat.store.blobs import BlobFile
from tchat.transfer.pieces import EMPTY_DIGEST
from tests.helpers import GUARD, members, raw_client, running_server
from tests.server.file_transfers import (
    DATA,
    SHA,
    TransferConnection,
    download,
    fetching,
    have_at,
    list_files,
    offer,
    refusal_code,
    running_digests,
    sha,
    share,
    stored_names,
    stored_path,
    ticket_to_fetch,
    transfer,
    upload,
    with_flipped_byte,
)
from tests.store.files import blob_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.helpers import RawClient


async def downloaders(person: RawClient, number: int = 1) -> list[str]:
    shelf = await list_files(person)
    (file,) = [file for file in shelf.files if file.number == number]
    names = list(file.by)
    assert file.fetched == len(names)
    return names


def digests_path(place: Path) -> Path:
    return place.with_name(place.name + ".sums")


# ------------------------------------------------------------------ resuming


@pytest.mark.parametrize("offset", [0, 1, PIECE_SIZE, PIECE_SIZE + 5, len(DATA) - 1, len(DATA)])
async def test_interrupted_download_resumes_where_it_was_cut(offset: int) -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA)
        async with fetching(server, bob, 1, len(DATA)) as connection:
            await connection.send(have_at(DATA, offset))
            await connection.fetch(DATA, offset)
            await connection.send(Stored(SHA))
            assert await connection.until_end() == []
        assert await downloaders(alice) == ["bob"]


@pytest.mark.parametrize(
    "have",
    [
        have_at(with_flipped_byte(DATA, 5), PIECE_SIZE),
        have_at(with_flipped_byte(DATA, PIECE_SIZE + 5), 2 * PIECE_SIZE + 500),
        have_at(with_flipped_byte(DATA, len(DATA) - 1), len(DATA)),
        Have(PIECE_SIZE, EMPTY_DIGEST),
        Have(len(DATA) + 1, SHA),
        Have(3 * PIECE_SIZE, SHA),
        Have(2**62, SHA),
    ],
)
async def test_receiver_of_another_file_starts_from_the_beginning(have: Have) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        async with fetching(server, alice, 1, len(DATA)) as connection:
            await connection.send(have)
            await connection.fetch(DATA, 0)


async def test_empty_file_is_downloaded_at_once() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"")
        await download(server, alice, 1, b"")


# ------------------------------------------------------------------ counting downloads


async def test_each_person_counts_once_as_having_downloaded() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "Bob", "carol") as (alice, bob, carol),
    ):
        await share(server, alice, DATA)
        assert await downloaders(alice) == []
        for person in (carol, bob, carol):
            await download(server, person, 1, DATA)
        assert await downloaders(alice) == ["carol", "Bob"]


async def test_interrupted_download_does_not_count() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA)
        async with fetching(server, bob, 1, len(DATA)) as connection:
            await connection.send(Have(0, EMPTY_DIGEST))
            await connection.fetch(DATA[:PIECE_SIZE], 0)
            await trio.aclose_forcefully(connection.stream)
        async with fetching(server, bob, 1, len(DATA)) as connection:
            await connection.send(Have(0, EMPTY_DIGEST))
            await connection.fetch(DATA, 0)
            await connection.close_sending()
        assert await downloaders(alice) == []
        await download(server, bob, 1, DATA)
        assert await downloaders(alice) == ["bob"]


@pytest.mark.parametrize("data", [DATA, b"small"])
async def test_confirming_another_digest_does_not_count_as_download(data: bytes) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, data)
        async with fetching(server, alice, 1, len(data)) as connection:
            await connection.send(Have(0, EMPTY_DIGEST))
            await connection.fetch(data, 0)
            await connection.send(Stored(sha(b"another")))
            await connection.until_end()
        assert await downloaders(alice) == []


async def test_confirming_an_unsent_file_does_not_count() -> None:
    data = DATA * 8  # more than the sockets' buffers hold
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, data)
        async with fetching(server, alice, 1, len(data)) as connection:
            await connection.send(Have(0, EMPTY_DIGEST), Stored(sha(data)))
            with trio.move_on_after(GUARD):
                await connection.stream.receive_some(1)
                while await connection._more():
                    pass
        assert await downloaders(alice) == []


async def test_kicked_member_cannot_continue_a_download() -> None:
    data = DATA * 10
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, data)
        async with fetching(server, bob, 1, len(data)) as connection:
            assert isinstance(connection.stream, trio.SocketStream)
            # So that the socket's buffer does not hold all of it yet.
            connection.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            await connection.send(Have(0, EMPTY_DIGEST))
            await connection.expect(StartAt)
            await connection.piece()
            await alice.command(Kick, "bob")
            assert await connection.rest() < len(data) - PIECE_SIZE
        await download(server, alice, 1, data)


async def test_ticket_of_a_kicked_member_is_void() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA)
        ticket = await ticket_to_fetch(bob, 1)
        await alice.command(Kick, "bob")
        async with raw_client(server.address) as raw:
            connection = TransferConnection(raw.stream)
            await connection.send(TransferHello(VERSION, ticket))
            (refusal,) = await connection.until_end()
            assert refusal_code(refusal) == Code.BAD_TICKET


# ------------------------------------------------------------------ damage


async def question_file(connection: TransferConnection, data: bytes, offset: int = 0) -> None:
    have = have_at(data, offset)
    await connection.send(Have(have.offset, have.sha256, doubt=True))


@pytest.mark.parametrize("data", [DATA, b"small"])
async def test_damaged_file_is_removed_and_can_be_reuploaded(
    data: bytes,
) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, bob),
        members(server, "carol", group="hers") as (carol,),
    ):
        await share(server, alice, data)
        await share(server, carol, data, group="hers")
        stored_path(server, data).write_bytes(with_flipped_byte(data, 3))
        async with fetching(server, bob, 1, len(data)) as connection:
            await question_file(connection, data)
            (failure,) = await connection.until_end()
            assert refusal_code(failure) == Code.FILE_DAMAGED
        assert "file 1 of ops" in await server.logged("damaged and was removed")
        assert list(blob_path(server.store).glob("??/*")) == []
        assert (await list_files(bob)).files == ()
        assert (await list_files(carol, group="hers")).files == ()
        answer = await carol.ask(lambda i: Download(i, "hers", 1))
        assert refusal_code(answer) == Code.NO_SUCH_FILE
        # It has to be uploaded again, and is then available to everybody.
        assert isinstance(await offer(bob, data, sha(data)), Ticket)
        await upload(server, bob, data)
        await download(server, alice, 1, data)
        await download(server, carol, 1, data, "hers")


@pytest.mark.parametrize("doubt", [True, False])
async def test_finding_damage_needs_no_second_thread(
    monkeypatch: pytest.MonkeyPatch, doubt: bool
) -> None:
    monkeypatch.setattr("tchat.transfer.threads._FILE_THREADS", trio.CapacityLimiter(1))
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        stored_path(server, DATA).write_bytes(with_flipped_byte(DATA, 3) if doubt else DATA[1:])
        async with fetching(server, alice, 1, len(DATA)) as connection:
            await connection.send(Have(0, EMPTY_DIGEST, doubt))
            (failure,) = await connection.until_end()
            assert refusal_code(failure) == Code.FILE_DAMAGED
        await upload(server, alice, DATA)


async def test_questioned_but_intact_file_is_sent() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        async with fetching(server, alice, 1, len(DATA)) as connection:
            await question_file(connection, DATA, PIECE_SIZE)
            await connection.fetch(DATA, PIECE_SIZE)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flipped byte": lambda sums: with_flipped_byte(sums, 40),
    "cut": lambda sums: sums[:-1],
    "empty": lambda _: b"",
    "longer": lambda sums: sums + bytes(32),
    "of another file": lambda _: b"".join(running_digests(with_flipped_byte(DATA, 5))),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("doubt", [True, False])
async def test_damaged_digests_are_computed_again(damage: str, doubt: bool) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        sums = digests_path(stored_path(server, DATA))
        right = sums.read_bytes()
        sums.write_bytes(DAMAGE[damage](right))
        async with fetching(server, alice, 1, len(DATA)) as connection:
            have = have_at(DATA, PIECE_SIZE)
            await connection.send(Have(have.offset, have.sha256, doubt))
            if damage == "flipped byte" and not doubt:
                return  # only the receiver notices: see the next test
            await connection.fetch(DATA, PIECE_SIZE)
        assert sums.read_bytes() == right == b"".join(running_digests(DATA))


async def test_flipped_digest_is_detected_by_receiver_and_repaired() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        sums = digests_path(stored_path(server, DATA))
        sums.write_bytes(with_flipped_byte(sums.read_bytes(), 40))
        async with fetching(server, alice, 1, len(DATA)) as connection:
            await connection.send(Have(0, EMPTY_DIGEST))
            assert await connection.receive() == StartAt(0)
            await connection.piece()
            piece, content = await connection.piece()
            assert hashlib.sha256(DATA[:PIECE_SIZE] + content).digest() != piece.sha256
        async with fetching(server, alice, 1, len(DATA)) as connection:
            await question_file(connection, DATA, PIECE_SIZE)
            await connection.fetch(DATA, PIECE_SIZE)
        await download(server, alice, 1, DATA)


async def test_missing_digests_are_computed_again() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        digests_path(stored_path(server, DATA)).unlink()
        await download(server, alice, 1, DATA)
        assert digests_path(stored_path(server, DATA)).read_bytes() == b"".join(
            running_digests(DATA)
        )


@pytest.mark.parametrize("removed", [1, PIECE_SIZE, -1])
async def test_file_of_changed_length_counts_as_damaged(removed: int) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        stored_path(server, DATA).write_bytes(DATA[:-removed] if removed > 0 else DATA + b"!")
        async with fetching(server, alice, 1, len(DATA)) as connection:
            await connection.send(Have(0, EMPTY_DIGEST))
            (failure,) = await connection.until_end()
            assert refusal_code(failure) == Code.FILE_DAMAGED
        await server.logged("damaged and was removed")
        assert stored_names(server) == set()


async def test_missing_file_counts_as_damaged() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"data")
        stored_path(server, b"data").unlink()
        async with fetching(server, alice, 1, 4) as connection:
            (failure,) = await connection.until_end()
            assert refusal_code(failure) == Code.FILE_DAMAGED
        await server.logged("damaged and was removed")
        await alice.post("the chat goes on")
        await upload(server, alice, b"data")
        await download(server, alice, 1, b"data")


class BadSector:
    """A file that cannot be read beyond some offset."""

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
async def test_unreadable_disk_ends_the_transfer_only(
    monkeypatch: pytest.MonkeyPatch, doubt: bool
) -> None:
    begin = BlobFile.__init__

    def begin_on_a_bad_disk(self: BlobFile, file: object, *more: object) -> None:
        begin(self, BadSector(file), *more)  # type: ignore[arg-type]

    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        with monkeypatch.context() as patch:
            patch.setattr(BlobFile, "__init__", begin_on_a_bad_disk)
            async with fetching(server, alice, 1, len(DATA)) as connection:
                await connection.send(Have(0, EMPTY_DIGEST, doubt))
                if not doubt:
                    await connection.fetch(DATA[:PIECE_SIZE], 0)
                failure = (await connection.until_end())[0]
            assert refusal_code(failure) == Code.FILE_UNREADABLE
        await alice.post("the chat goes on")
        await download(server, alice, 1, DATA)


# ------------------------------------------------------------------ effects on others


async def test_slow_download_does_not_delay_the_chat() -> None:
    data = DATA * 8
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, data)
        async with transfer(server, await ticket_to_fetch(bob, 1), len(data)) as connection:
            await connection.send(Have(0, EMPTY_DIGEST))
            await connection.receive()
            # Bob stops reading the file, so it stalls; messages arrive all the same.
            await alice.post("hello")
            assert len(await bob.events(2)) == 2

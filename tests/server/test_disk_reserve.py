"""Files leave a reserve of the disk: messages, leaving and new names need it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tchat.core.group.files import RemoveFile, Share
from tchat.core.group.membership import Join, Leave
from tchat.core.protocol.frames import AlreadyStored, Failed, Have, StartAt, Ticket, Upload
from tchat.core.protocol.handshake import PIECE_SIZE, VERSION, TransferHello
from tchat.errors import Code
from tchat.store.open import open_store
from tests.full_disk import small_disk
from tests.helpers import GROUP, NO_RATE_LIMITS, members, raw_client, running_server
from tests.server.file_transfers import (
    DATA,
    SHA,
    interrupt_upload,
    offer,
    partial_files,
    pieces,
    refusal_code,
    sending,
    sha,
    share,
    stored_names,
    ticket_to_send,
    transfer,
    upload,
    with_flipped_byte,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.helpers import RawClient, RunningServer

RESERVE = 1 << 20
PART = 1 << 19


async def share_until_refused(server: RunningServer, person: RawClient, size: int) -> Failed:
    """Share files of that size, until the server refuses one."""
    for number in range(1000):
        data = number.to_bytes(4, "big") * (size // 4)
        answer = await offer(person, data)
        if isinstance(answer, Failed):
            return answer
        assert isinstance(answer, Ticket)
        async with transfer(server, answer.ticket, size) as connection:
            await connection.expect(Have)
            await connection.send_pieces(data)
            await connection.until_end()
        await person.command(Share, "file", size, sha(data))
    raise AssertionError("no upload was refused")


async def test_files_leave_room_for_messages(tmp_path: Path) -> None:
    with small_disk("tmpfs", tmp_path / "disk") as disk:
        data = disk.path / "data"
        async with (
            open_store(data) as store,
            running_server(store, replace(NO_RATE_LIMITS, disk_reserve=RESERVE)) as server,
            members(server, "alice", "mallory") as (alice, mallory),
        ):
            for size in (1 << 19, 1 << 16, 1 << 12):
                failure = await share_until_refused(server, mallory, size)
                assert (failure.code, "kept for messages" in failure.text) == (
                    Code.STORAGE_FULL,
                    True,
                )
            # The log has grown meanwhile.
            assert RESERVE // 2 < shutil.disk_usage(disk.path).free < 2 * RESERVE
            for number in range(20):
                await alice.post(f"{number} " + "x" * 10_000)
            await mallory.command(Leave)
            async with raw_client(server.address, "carol") as carol:
                await carol.command(Join, group="hers")


def free_space(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    usage = shutil.disk_usage("/")

    def set_free(free: int) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=free))

    return set_free


async def test_promised_uploads_count(monkeypatch: pytest.MonkeyPatch) -> None:
    set_free = free_space(monkeypatch)
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        set_free(len(DATA) + 500)
        ticket = await ticket_to_send(alice, DATA)
        assert isinstance(await offer(bob, b"x" * 500), Ticket)
        async with transfer(server, ticket, len(DATA)):
            assert refusal_code(await offer(bob, b"x" * 501)) == Code.STORAGE_FULL
            assert isinstance(await offer(bob, b"x" * 500), Ticket)


async def test_what_is_begun_needs_no_new_space(monkeypatch: pytest.MonkeyPatch) -> None:
    set_free = free_space(monkeypatch)
    async with running_server() as server, members(server, "alice") as (alice,):
        await interrupt_upload(server, alice, DATA, PIECE_SIZE)
        set_free(len(DATA) - PIECE_SIZE - 1)
        assert refusal_code(await offer(alice, DATA)) == Code.STORAGE_FULL
        set_free(len(DATA) - PIECE_SIZE)
        async with sending(server, alice, DATA) as (connection, have):
            await connection.send_pieces(DATA, have.offset)
            await connection.until_end()
        assert stored_names(server) == {SHA.hex()}


async def test_a_disk_filled_by_others_ends_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    set_free = free_space(monkeypatch)
    async with running_server() as server, members(server, "alice") as (alice,):
        async with sending(server, alice, DATA) as (connection, _):
            (piece, content), *_ = pieces(DATA)
            await connection.send(StartAt(0), piece, raw=content[:-1])
            set_free(-1)  # less than the reserve
            await connection.send(raw=content[-1:])
            (failure,) = await connection.until_end()
            assert refusal_code(failure) == Code.STORAGE_FULL
        assert partial_files(server) == []
        await alice.post("the chat goes on")


async def test_a_full_disk_reveals_no_stored_file(monkeypatch: pytest.MonkeyPatch) -> None:
    set_free = free_space(monkeypatch)
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        members(server, "eve", group="hers") as (eve,),
    ):
        await share(server, alice, DATA)
        set_free(-1)
        for data in (DATA, with_flipped_byte(DATA, 0)):
            for sha256 in (None, sha(data)):
                answer = await offer(eve, data, sha256, "hers")
                assert refusal_code(answer) == Code.STORAGE_FULL
        assert isinstance(await offer(alice, DATA, SHA), AlreadyStored), "it takes no space"


# ------------------------------------------------------------------ quotas


async def test_a_group_has_a_quota() -> None:
    limits = replace(NO_RATE_LIMITS, files_per_group=1000)
    async with (
        running_server(limits=limits) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await share(server, alice, b"x" * 600)
        await bob.command(Join, group="his")
        answer = await offer(bob, b"y" * 401)
        assert isinstance(answer, Failed)
        assert (answer.code, "files of this group" in answer.text) == (Code.QUOTA_EXCEEDED, True)
        # An upload for another group does not get around it.
        digest = await upload(server, bob, b"y" * 401, group="his")
        assert isinstance(await offer(bob, b"y" * 401, digest), AlreadyStored)
        refusal = await bob.refusal(Share, "file", 401, digest)
        assert refusal.code == Code.QUOTA_EXCEEDED
        await share(server, bob, b"z" * 400)
        await bob.command(Share, "again", 400, sha(b"z" * 400))  # counts once
        await alice.command(RemoveFile, 1)
        await share(server, bob, b"w" * 600)


async def test_all_files_have_a_quota() -> None:
    limits = replace(NO_RATE_LIMITS, files_total=1000)
    async with (
        running_server(limits=limits) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await share(server, alice, b"x" * 600)
        answer = await offer(bob, b"y" * 401)
        assert isinstance(answer, Failed)
        assert (answer.code, "All files" in answer.text) == (Code.QUOTA_EXCEEDED, True)
        async with sending(server, bob, b"y" * 300):
            assert refusal_code(await offer(alice, b"z" * 101)) == Code.QUOTA_EXCEEDED
            assert isinstance(await offer(alice, b"z" * 100), Ticket)


async def test_unshared_uploads_have_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tchat.server.connections.file_requests.MAX_UNSHARED", 2)
    async with running_server() as server, members(server, "alice") as (alice,):
        await upload(server, alice, b"one")
        digest = await upload(server, alice, b"two")
        assert refusal_code(await offer(alice, b"three")) == Code.TOO_MANY
        await alice.command(Share, "two", 3, digest)
        await upload(server, alice, b"three")


# ------------------------------------------------------------------ promised space


async def tickets_for_nothing(person: RawClient, count: int) -> list[bytes]:
    """Get tickets for uploads that never begin."""
    files = [number.to_bytes(4, "big") * (PART // 4) for number in range(count)]
    return [await ticket_to_send(person, data) for data in files]


async def test_unused_tickets_make_room_for_others(tmp_path: Path) -> None:
    """Nobody can keep others from sending files by asking for tickets and using none."""
    with small_disk("tmpfs", tmp_path / "disk") as disk:
        async with (
            open_store(disk.path / "data") as store,
            running_server(store, replace(NO_RATE_LIMITS, disk_reserve=RESERVE)) as server,
            members(server, "alice", "mallory") as (alice, mallory),
        ):
            tickets = await tickets_for_nothing(mallory, 8)
            await upload(server, alice, DATA)
            async with raw_client(server.address) as raw:
                await raw.send(TransferHello(VERSION, tickets[0]))
                assert (await raw.expect(Failed)).code == Code.BAD_TICKET


async def test_unused_tickets_make_room_within_the_total(tmp_path: Path) -> None:
    limits = replace(NO_RATE_LIMITS, files_total=6 * PART)
    async with (
        open_store(tmp_path) as store,
        running_server(store, limits) as server,
        members(server, "alice", "mallory") as (alice, mallory),
    ):
        assert len(await tickets_for_nothing(mallory, 6)) == 6
        await upload(server, alice, DATA)
        answer = await alice.ask(lambda i: Upload(i, GROUP, 6 * PART, bytes(32)))
        assert refusal_code(answer) == Code.QUOTA_EXCEEDED


async def test_tickets_are_not_revoked_in_vain(tmp_path: Path) -> None:
    """Otherwise, whoever asks for too much again and again keeps others from sending files."""
    limits = replace(NO_RATE_LIMITS, files_total=len(DATA) + 6 * PART)
    async with (
        open_store(tmp_path) as store,
        running_server(store, limits) as server,
        members(server, "alice", "mallory") as (alice, mallory),
        raw_client(server.address, "eve") as outsider,
    ):
        await share(server, alice, DATA)
        data = b"x" * PART
        ticket = await ticket_to_send(alice, data)
        for person, parts, code in ((mallory, 7, Code.QUOTA_EXCEEDED), (outsider, 6, "not_member")):
            for _ in range(3):
                ask = partial(Upload, group=GROUP, size=parts * PART, head=bytes(32))
                answer = await person.ask(ask)
                assert refusal_code(answer) == code
        async with transfer(server, ticket, len(data)):
            pass


async def test_begun_uploads_keep_their_promised_space(tmp_path: Path) -> None:
    limits = replace(NO_RATE_LIMITS, files_total=len(DATA))
    async with (
        open_store(tmp_path) as store,
        running_server(store, limits) as server,
        members(server, "alice", "bob") as (alice, bob),
        sending(server, alice, DATA) as (connection, _),
    ):
        answer = await bob.ask(lambda i: Upload(i, GROUP, 1, bytes(32)))
        assert refusal_code(answer) == Code.QUOTA_EXCEEDED
        await connection.send_pieces(DATA)
        await connection.until_end()

"""Files: on connections of their own, for members only, and whole or not at all."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from tchat.core.commands import Join, Kick, Share
from tchat.core.events import FileShared
from tchat.core.frames import Digest, Download, Failed, Ping, Stored, Ticket, Upload, encode
from tchat.core.handshake import VERSION, Ready, Transfer
from tchat.errors import Code, Refused
from tchat.server.tickets import TICKET_SECONDS, Permission, Tickets
from tchat.store.sqlite import open_store
from tests.helpers import (
    GROUP,
    UNHURRIED,
    RawClient,
    RunningServer,
    members,
    raw_client,
    running_server,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DATA = bytes(range(256)) * 4096  # 1 MiB
SHA = hashlib.sha256(DATA).digest()


async def ticket_to_send(person: RawClient, size: int) -> bytes:
    answer = await person.ask(lambda i: Upload(i, GROUP, size))
    assert isinstance(answer, Ticket), answer
    return answer.ticket


async def ticket_to_fetch(person: RawClient, number: int) -> bytes:
    answer = await person.ask(lambda i: Download(i, GROUP, number))
    assert isinstance(answer, Ticket), answer
    return answer.ticket


async def refused_ticket(person: RawClient, request: type[Upload | Download]) -> str:
    answer = await person.ask(lambda i: request(i, GROUP, 1))
    assert isinstance(answer, Failed)
    return answer.code


@asynccontextmanager
async def transfer(server: RunningServer, ticket: bytes, size: int) -> AsyncIterator[RawClient]:
    async with raw_client(server.address) as carrier:
        await carrier.send(Transfer(VERSION, ticket))
        assert await carrier.receive() == Ready(VERSION, size)
        yield carrier


async def upload(server: RunningServer, person: RawClient, data: bytes) -> bytes:
    """Send a file to the server; return its digest."""
    digest = hashlib.sha256(data).digest()
    async with transfer(server, await ticket_to_send(person, len(data)), len(data)) as carrier:
        await carrier.stream.send_all(data + encode(Digest(digest)))
        assert await carrier.until_end() == [Stored(digest)]
    return digest


async def download(server: RunningServer, person: RawClient, number: int, size: int) -> bytes:
    async with transfer(server, await ticket_to_fetch(person, number), size) as carrier:
        return await carrier.unframed()


async def test_a_file_reaches_the_others_with_the_same_bytes(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await upload(server, alice, DATA)
        await alice.command(Share, "plan.bin", len(DATA), SHA)
        (event,) = await bob.events(1)
        assert event.body == FileShared(1, "plan.bin", len(DATA), SHA)
        assert await download(server, bob, 1, len(DATA)) == DATA
        assert await download(server, bob, 1, len(DATA)) == DATA


async def test_a_file_is_there_after_a_restart(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice") as (alice,),
    ):
        await upload(server, alice, DATA)
        await alice.command(Share, "plan.bin", len(DATA), SHA)
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice", "bob") as (_, bob),
    ):
        assert await download(server, bob, 1, len(DATA)) == DATA


async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        digest = await upload(server, alice, b"")
        await alice.command(Share, "nothing", 0, digest)
        assert await download(server, bob, 1, 0) == b""


async def test_files_are_numbered_and_the_same_bytes_are_kept_once(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        for person, name in ((alice, "one"), (bob, "two")):
            await upload(server, person, DATA)
            await person.command(Share, name, len(DATA), SHA)
        assert [event.body for event in await bob.events(2)] == [
            FileShared(1, "one", len(DATA), SHA),
            FileShared(2, "two", len(DATA), SHA),
        ]
    assert kept_files(tmp_path) == [SHA.hex()]


async def test_the_name_of_a_file_is_made_harmless_on_its_way_in() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        digest = await upload(server, alice, b"data")
        await alice.command(Share, "../../etc/\x1b[2Jpass\u202ewd\n", 4, digest)
        (event,) = await alice.events(1)
        assert event.body == FileShared(1, "_[2Jpasswd_", 4, digest)


async def test_a_file_may_be_shared_with_every_group_of_whoever_sent_it() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        members(server, "bob", group="other") as (bob,),
    ):
        await alice.command(Join, group="third")
        digest = await upload(server, alice, b"data")
        await alice.command(Share, "data", 4, digest)
        await alice.command(Share, "data", 4, digest, group="third")
        assert (await bob.refusal(Share, "data", 4, digest, group="other")).code == (
            Code.NOT_UPLOADED
        )


# ------------------------------------------------------------------ who may, and what may not


async def test_outsiders_and_those_who_wait_get_no_tickets() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        digest = await upload(server, alice, b"data")
        await alice.command(Share, "data", 4, digest)
        async with raw_client(server.address, "eve") as eve:
            assert await refused_ticket(eve, Upload) == Code.NOT_MEMBER
            assert await refused_ticket(eve, Download) == Code.NOT_MEMBER
            await eve.command(Join)
            assert await refused_ticket(eve, Upload) == Code.NOT_MEMBER
            assert await refused_ticket(eve, Download) == Code.NOT_MEMBER


async def test_one_who_was_kicked_gets_no_tickets() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Kick, "bob")
        assert await refused_ticket(bob, Upload) == Code.NOT_MEMBER


async def test_there_is_no_ticket_for_a_file_that_the_group_does_not_have() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        assert await refused_ticket(alice, Download) == Code.NO_SUCH_FILE


async def test_a_file_above_the_limit_gets_no_ticket() -> None:
    async with (
        running_server(limits=replace(UNHURRIED, file=1000)) as server,
        members(server, "alice") as (alice,),
    ):
        answer = await alice.ask(lambda i: Upload(i, GROUP, 1001))
        assert isinstance(answer, Failed)
        assert (answer.code, "1001" in answer.text) == (Code.FILE_TOO_LARGE, True)
        await upload(server, alice, bytes(1000))


async def test_a_ticket_is_good_for_one_transfer() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        ticket = await ticket_to_send(alice, 4)
        async with transfer(server, ticket, 4), raw_client(server.address) as second:
            await second.send(Transfer(VERSION, ticket))
            (failure,) = await second.until_end()
            assert isinstance(failure, Failed)
            assert failure.code == Code.BAD_TICKET


async def test_a_ticket_expires(autojump_clock: trio.testing.MockClock) -> None:
    tickets = Tickets()
    permission = Permission("upload", "alice", 4)
    late, soon = tickets.issue(permission), tickets.issue(permission)
    autojump_clock.jump(TICKET_SECONDS - 1)
    assert tickets.redeem(soon) == permission
    autojump_clock.jump(2)
    assert redeemed(tickets, late) == Code.BAD_TICKET
    assert redeemed(tickets, tickets.issue(permission)) is None


def redeemed(tickets: Tickets, ticket: bytes) -> str | None:
    try:
        tickets.redeem(ticket)
    except Refused as refusal:
        return refusal.code
    return None


async def test_what_was_not_uploaded_cannot_be_shared() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        digest = await upload(server, alice, b"data")
        assert (await bob.refusal(Share, "data", 4, digest)).code == Code.NOT_UPLOADED
        assert (await alice.refusal(Share, "data", 5, digest)).code == Code.NOT_UPLOADED
        assert (await alice.refusal(Share, "data", 4, bytes(32))).code == Code.NOT_UPLOADED
        assert (await alice.command(Share, "data", 4, digest)).seq == 4


async def test_a_share_sent_again_after_a_restart_is_recognised() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        digest = await upload(server, alice, b"data")
        assert (await alice.command(Share, "data", 4, digest, n=70)).seq == 2
    async with (
        running_server(server.store) as server,
        raw_client(server.address, "alice", client=alice.client) as again,
    ):
        # This server knows of no upload, but it knows the request.
        assert (await again.command(Share, "data", 4, digest, n=70)).seq is None


# ------------------------------------------------------------------ what goes wrong on the way


async def failed_upload(server: RunningServer, person: RawClient, size: int, sent: bytes) -> Failed:
    """Return what the server answers to bytes that are not the file that was announced."""
    async with transfer(server, await ticket_to_send(person, size), size) as carrier:
        await carrier.stream.send_all(sent)
        (failure,) = await carrier.until_end()
    assert isinstance(failure, Failed)
    return failure


def kept_files(data: Path) -> list[str]:
    return [path.name for path in (data / "files").rglob("*") if path.is_file()]


async def test_what_does_not_fit_its_digest_is_not_kept(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice") as (alice,),
    ):
        wrong = b"tada" + encode(Digest(hashlib.sha256(b"data").digest()))
        assert (await failed_upload(server, alice, 4, wrong)).code == Code.FILE_CHANGED
        assert kept_files(tmp_path) == []
        digest = hashlib.sha256(b"tada").digest()
        assert (await alice.refusal(Share, "f", 4, digest)).code == Code.NOT_UPLOADED


async def test_another_frame_than_the_digest_ends_the_transfer(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice") as (alice,),
    ):
        failure = await failed_upload(server, alice, 4, b"data" + encode(Ping()))
        assert failure.code == Code.FILE_CHANGED
        failure = await failed_upload(server, alice, 4, b"data" + b"\xff\xff\xff\xff")
        assert failure.code == Code.FRAME_TOO_LARGE
        assert kept_files(tmp_path) == []


async def test_an_upload_that_is_cut_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice") as (alice,),
    ):
        for size in (0, 1, 300_000, len(DATA)):
            ticket = await ticket_to_send(alice, len(DATA))
            async with transfer(server, ticket, len(DATA)) as carrier:
                await carrier.stream.send_all(DATA[:size])
    assert kept_files(tmp_path) == []


async def test_an_upload_that_stands_still_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store, replace(UNHURRIED, stall_seconds=0.05)) as server,
        members(server, "alice") as (alice,),
    ):
        failure = await failed_upload(server, alice, 1000, b"only so much")
        assert failure.code == Code.IDLE
        assert kept_files(tmp_path) == []


async def test_a_download_that_is_cut_concerns_nobody_else(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await upload(server, alice, 8 * DATA)
        await alice.command(Share, "big", 8 * len(DATA), hashlib.sha256(8 * DATA).digest())
        async with transfer(server, await ticket_to_fetch(bob, 1), 8 * len(DATA)) as carrier:
            await carrier.stream.receive_some()
            await trio.aclose_forcefully(carrier.stream)
        assert await download(server, bob, 1, 8 * len(DATA)) == 8 * DATA


async def test_a_file_that_the_server_lost_is_refused_and_not_died_of(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice") as (alice,),
    ):
        await upload(server, alice, b"data")
        await alice.command(Share, "data", 4, hashlib.sha256(b"data").digest())
        (path,) = (path for path in (tmp_path / "files").rglob("*") if path.is_file())
        path.unlink()
        ticket = await ticket_to_fetch(alice, 1)
        async with transfer(server, ticket, 4) as carrier:
            (failure,) = await carrier.until_end()
            assert isinstance(failure, Failed)
            assert failure.code == Code.NO_SUCH_FILE
        await alice.post("the chat goes on")


async def test_a_slow_file_holds_up_no_conversation(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await upload(server, alice, 16 * DATA)
        await alice.command(Share, "big", 16 * len(DATA), hashlib.sha256(16 * DATA).digest())
        async with transfer(server, await ticket_to_fetch(bob, 1), 16 * len(DATA)):
            # The file is stuck: bob reads nothing of it. What is said arrives all the same.
            await alice.post("hello")
            assert len(await bob.events(2)) == 2

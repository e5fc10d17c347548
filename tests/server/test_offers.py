"""Offers of files: deduplication that reveals nothing about files of others, and quota."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.files import FileShared, RemoveFile, Share
from tchat.core.group.membership import Approve, Join, Kick, Leave
from tchat.core.protocol.frames import (
    AlreadyStored,
    DigestRequired,
    Download,
    Failed,
    Ticket,
    Upload,
)
from tchat.core.protocol.handshake import VERSION, TransferHello
from tchat.errors import Code, Refused
from tchat.server.tickets import TICKET_SECONDS, Permission, Tickets
from tchat.store.open import open_store
from tests.faulty_store import FaultyStore
from tests.helpers import GROUP, NO_RATE_LIMITS, RawClient, members, raw_client, running_server
from tests.server.file_transfers import (
    DATA,
    SHA,
    offer,
    refusal_code,
    sha,
    share,
    stored_names,
    stored_path,
    ticket_to_send,
    transfer,
    upload,
    with_flipped_byte,
)

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from tchat.core.protocol.schema import Frame

OTHER = with_flipped_byte(DATA, len(DATA) - 1)
"""A file with the same size and first piece."""

# ------------------------------------------------------------------ deduplication


async def test_unknown_file_has_to_be_uploaded() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        assert isinstance(await offer(alice, DATA), Ticket)
        assert isinstance(await offer(alice, DATA, SHA), Ticket)


async def test_downloadable_file_is_shared_without_an_upload() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA, "one")
        assert isinstance(await offer(bob, DATA), DigestRequired)
        assert isinstance(await offer(bob, DATA, SHA), AlreadyStored)
        await bob.command(Share, "two", len(DATA), SHA)
        assert [event.body for event in await bob.events(2)] == [
            FileShared(1, "one", len(DATA), SHA),
            FileShared(2, "two", len(DATA), SHA),
        ]
        assert stored_names(server) == {SHA.hex()}


async def test_stored_file_needs_no_upload_for_other_groups() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA)
        await bob.command(Join, group="his")
        assert isinstance(await offer(bob, DATA, group="his"), DigestRequired)
        assert isinstance(await offer(bob, DATA, SHA, "his"), AlreadyStored)
        await bob.command(Share, "file", len(DATA), SHA, group="his")


async def test_file_with_a_similar_beginning_is_uploaded() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA)
        assert isinstance(await offer(bob, OTHER), DigestRequired)
        assert isinstance(await offer(bob, OTHER, sha(OTHER)), Ticket)
        await share(server, bob, OTHER)
        assert stored_names(server) == {SHA.hex(), sha(OTHER).hex()}


@pytest.mark.parametrize("other", [DATA[:-1], with_flipped_byte(DATA, 0)])
async def test_different_size_or_first_piece_is_not_similar(other: bytes) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        assert isinstance(await offer(alice, other), Ticket)


async def test_uploaded_but_unshared_file_needs_no_second_upload() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await upload(server, alice, DATA)
        assert isinstance(await offer(alice, DATA), DigestRequired)
        assert isinstance(await offer(alice, DATA, SHA), AlreadyStored)
        assert isinstance(await offer(bob, DATA), Ticket)


async def test_digest_with_another_size_is_no_known_file() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        assert isinstance(await offer(alice, DATA + b"!", SHA), Ticket)


# ------------------------------------------------------------------ files of others

STANDINGS = ["a newcomer", "waiting", "kicked", "gone"]


async def become(what: str, eve: RawClient, admin: RawClient) -> None:
    if what != "a newcomer":
        await eve.command(Join)
    if what in ("kicked", "gone"):
        await admin.command(Approve, eve.user)
    if what == "kicked":
        await admin.command(Kick, eve.user)
    if what == "gone":
        await eve.command(Leave)


@pytest.mark.parametrize("what", STANDINGS)
@pytest.mark.parametrize("shared", [True, False])
async def test_file_of_a_foreign_group_is_not_revealed(
    tmp_path: Path, what: str, shared: bool
) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice") as (alice,),
        members(server, "eve", group="hers") as (eve,),
    ):
        await become(what, eve, alice)
        await (share if shared else upload)(server, alice, DATA)
        for data in (DATA, OTHER, with_flipped_byte(DATA, 0)):
            for sha256 in (None, sha(data)):
                assert isinstance(await offer(eve, data, sha256, "hers"), Ticket)
        refusals = [
            await eve.refusal(Share, "file", len(data), sha(data), group="hers")
            for data in (DATA, OTHER)
        ]
        assert refusals[0].code == refusals[1].code == Code.NOT_UPLOADED
        assert refusals[0].sentence == refusals[1].sentence
        # She has to upload all of it, and may then share it.
        await share(server, eve, DATA, group="hers")
        assert stored_names(server) == {SHA.hex()}
        assert isinstance(await offer(eve, DATA, SHA, "hers"), AlreadyStored)


@pytest.mark.parametrize("what", STANDINGS)
async def test_outsider_gets_no_ticket_and_no_hint(what: str) -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "eve") as eve,
    ):
        await share(server, alice, DATA)
        await become(what, eve, alice)
        answers = [
            await offer(eve, DATA),
            await offer(eve, DATA, SHA),
            await offer(eve, OTHER),
            await offer(eve, DATA, group="nowhere"),
            await eve.ask(lambda i: Download(i, GROUP, 1)),
            await eve.ask(lambda i: Download(i, GROUP, 2)),
            await eve.ask(lambda i: Download(i, "nowhere", 1)),
        ]
        # A waiting person is told that they wait; no answer depends on the group's files.
        codes = {Code.NOT_MEMBER} | ({Code.NOT_APPROVED} if what == "waiting" else set())
        assert {refusal_code(answer) for answer in answers} == codes
        refusals = {replace(a, re=0) for a in answers if isinstance(a, Failed)}
        assert len(refusals) == (2 if what == "waiting" else 1)


async def test_new_member_may_share_the_groups_files() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        members(server, "bob", group="his") as (bob,),
    ):
        await share(server, alice, DATA)
        await bob.command(Join)
        assert isinstance(await offer(bob, DATA, group="his"), Ticket)
        await alice.command(Approve, "bob")
        assert isinstance(await offer(bob, DATA, group="his"), DigestRequired)


# ------------------------------------------------------------------ refused offers and tickets


@pytest.mark.parametrize("head", [b"", SHA[1:], SHA + b"!"])
@pytest.mark.parametrize("sha256", [None, SHA])
async def test_offer_needs_valid_digests(head: bytes, sha256: bytes | None) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        for digests in ((head, sha256), (SHA, head)):
            answer = await alice.ask(lambda i: Upload(i, GROUP, 4, *digests))  # noqa: B023
            assert refusal_code(answer) == Code.BAD_FILE


async def test_file_above_the_size_limit_gets_no_ticket() -> None:
    async with (
        running_server(limits=replace(NO_RATE_LIMITS, file=1000)) as server,
        members(server, "alice") as (alice,),
    ):
        answer = await offer(alice, bytes(1001))
        assert isinstance(answer, Failed)
        assert (answer.code, "at most" in answer.text) == (Code.FILE_TOO_LARGE, True)
        await upload(server, alice, bytes(1000))


async def test_ticket_is_good_for_one_transfer() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        ticket = await ticket_to_send(alice, b"data")
        async with transfer(server, ticket, 4), raw_client(server.address) as second:
            await second.send(TransferHello(VERSION, ticket))
            (failure,) = await second.until_end()
            assert refusal_code(failure) == Code.BAD_TICKET


async def test_ticket_expires(autojump_clock: MockClock) -> None:
    tickets = Tickets()
    permission = Permission("upload", "alice", 4)
    late, soon = tickets.issue(permission), tickets.issue(permission)
    autojump_clock.jump(TICKET_SECONDS - 1)
    assert tickets.redeem(soon) == permission
    autojump_clock.jump(2)
    with pytest.raises(Refused) as caught:
        tickets.redeem(late)
    assert caught.value.code == Code.BAD_TICKET
    assert "has expired; start the transfer again" in str(caught.value)
    for used_or_unknown in (soon, bytes(16)):
        with pytest.raises(Refused, match="is not valid: it was used, was revoked or has expired;"):
            tickets.redeem(used_or_unknown)
    assert tickets.promised_bytes("alice") == 0


# ------------------------------------------------------------------ quota

FEW_FILES = replace(NO_RATE_LIMITS, files_per_user=1000)


async def is_refused(person: RawClient, size: int, group: str = GROUP) -> bool:
    answer = await offer(person, bytes(size), group=group)
    assert isinstance(answer, Ticket) or refusal_code(answer) == Code.QUOTA_EXCEEDED
    return not isinstance(answer, Ticket)


async def test_quota_covers_all_files_of_a_person() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await alice.command(Join, group="hers")
        await share(server, alice, b"x" * 600)
        assert await is_refused(alice, 401)
        assert await is_refused(alice, 401, "hers")
        await upload(server, bob, b"y" * 1000)
        await upload(server, alice, b"z" * 400, "hers")
        assert await is_refused(alice, 1)
        assert not await is_refused(alice, 0)


async def test_quota_counts_promised_and_running_uploads() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        ticket = await ticket_to_send(alice, b"x" * 600)
        assert await is_refused(alice, 401)
        async with transfer(server, ticket, 600) as connection:
            await connection.receive()
            assert await is_refused(alice, 401)
            assert not await is_refused(bob, 1000)
            await connection.close_sending()
        assert not await is_refused(alice, 1000)


async def test_simultaneous_offers_cannot_exceed_the_quota() -> None:
    store = FaultyStore()
    async with (
        running_server(store, FEW_FILES) as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "alice") as her_other_device,
    ):
        answers: list[Frame] = []
        both_asked = store.hold("files.usage")

        async def ask(device: RawClient, data: bytes) -> None:
            answers.append(await offer(device, data))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, alice, b"x" * 600)
            nursery.start_soon(ask, her_other_device, b"y" * 600)
            while store.count("files.usage") < 2:
                await trio.lowlevel.checkpoint()
            both_asked.release()
        (refused,) = (answer for answer in answers if not isinstance(answer, Ticket))
        assert refusal_code(refused) == Code.QUOTA_EXCEEDED


async def test_file_shared_twice_counts_once() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice") as (alice,),
    ):
        await alice.command(Join, group="hers")
        digest = await share(server, alice, b"x" * 400)
        assert isinstance(await offer(alice, b"x" * 400, digest, "hers"), AlreadyStored)
        await alice.command(Share, "again", 400, digest, group="hers")
        assert await is_refused(alice, 601)
        assert not await is_refused(alice, 600)


async def test_own_file_may_be_shared_again_at_quota() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice") as (alice,),
    ):
        await alice.command(Join, group="hers")
        digest = await share(server, alice, b"x" * 1000)
        assert isinstance(await offer(alice, b"x" * 1000, group="hers"), DigestRequired)
        assert isinstance(await offer(alice, b"x" * 1000, digest, "hers"), AlreadyStored)
        assert (
            refusal_code(await offer(alice, b"y" * 1000, sha(b"y"), "hers")) == Code.QUOTA_EXCEEDED
        )


async def test_recognized_file_counts_towards_the_quota_too() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        digest = await share(server, alice, b"x" * 600)
        assert isinstance(await offer(bob, b"x" * 600, digest), AlreadyStored)
        assert await is_refused(bob, 401)


async def test_file_of_others_is_refused_above_quota() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        digest = await share(server, alice, b"x" * 600)
        await share(server, bob, b"y" * 500)
        assert refusal_code(await offer(bob, b"x" * 600, digest)) == Code.QUOTA_EXCEEDED
        assert await server.store.files.usage("bob") == 500
        refusal = await bob.refusal(Share, "file", 600, digest)
        assert refusal.code == Code.QUOTA_EXCEEDED


async def test_known_digest_makes_no_room_for_another_file() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice") as (alice,),
    ):
        digest = await share(server, alice, b"x" * 600)
        assert refusal_code(await offer(alice, b"y" * 401, digest)) == Code.QUOTA_EXCEEDED
        assert isinstance(await offer(alice, b"y" * 400, digest), Ticket)


async def test_removing_a_file_frees_quota() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice") as (alice,),
    ):
        await share(server, alice, b"x" * 600)
        assert await is_refused(alice, 1000)
        await alice.command(RemoveFile, 1)
        assert not await is_refused(alice, 1000)


async def test_file_of_several_senders_is_stored_once() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        members(server, "bob", group="his") as (bob,),
    ):
        await share(server, alice, DATA)
        first = stored_path(server, DATA).stat().st_size
        await share(server, bob, DATA, group="his")
        assert stored_names(server) == {SHA.hex()}
        assert stored_path(server, DATA).stat().st_size == first == len(DATA)

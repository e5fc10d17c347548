"""Offers: what need not be sent, and that nobody learns from that what others have stored."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.commands import Approve, Join, Kick, Leave, RemoveFile, Share
from tchat.core.group.events import FileShared
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
from tests.helpers import GROUP, UNHURRIED, RawClient, members, raw_client, running_server
from tests.server.carrying import (
    DATA,
    SHA,
    code_of,
    flipped,
    kept,
    offer,
    place_of,
    sha,
    share,
    ticket_to_send,
    transfer,
    upload,
)

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from tchat.core.protocol.schema import Frame

OTHER = flipped(DATA, len(DATA) - 1)
"""A file of the same size and beginning."""

# ------------------------------------------------------------------ what need not be sent


async def test_a_file_that_nobody_has_is_to_be_sent() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        assert isinstance(await offer(alice, DATA), Ticket)
        assert isinstance(await offer(alice, DATA, SHA), Ticket)


async def test_a_file_that_one_could_fetch_is_shared_without_a_byte_sent() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA, "one")
        assert isinstance(await offer(bob, DATA), DigestRequired)
        assert isinstance(await offer(bob, DATA, SHA), AlreadyStored)
        await bob.command(Share, "two", len(DATA), SHA)
        assert [event.body for event in await bob.events(2)] == [
            FileShared(1, "one", len(DATA), SHA),
            FileShared(2, "two", len(DATA), SHA),
        ]
        assert kept(server) == {SHA.hex()}


async def test_it_need_not_be_sent_to_another_group_either() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA)
        await bob.command(Join, group="his")
        assert isinstance(await offer(bob, DATA, group="his"), DigestRequired)
        assert isinstance(await offer(bob, DATA, SHA, "his"), AlreadyStored)
        await bob.command(Share, "file", len(DATA), SHA, group="his")


async def test_a_file_that_only_begins_alike_is_to_be_sent() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA)
        assert isinstance(await offer(bob, OTHER), DigestRequired)
        assert isinstance(await offer(bob, OTHER, sha(OTHER)), Ticket)
        await share(server, bob, OTHER)
        assert kept(server) == {SHA.hex(), sha(OTHER).hex()}


@pytest.mark.parametrize("other", [DATA[:-1], flipped(DATA, 0)])
async def test_a_file_of_another_size_or_beginning_is_not_alike(other: bytes) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        assert isinstance(await offer(alice, other), Ticket)


async def test_one_who_has_sent_a_file_and_not_shared_it_need_not_send_it_again() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await upload(server, alice, DATA)
        assert isinstance(await offer(alice, DATA), DigestRequired)
        assert isinstance(await offer(alice, DATA, SHA), AlreadyStored)
        assert isinstance(await offer(bob, DATA), Ticket)


async def test_a_digest_with_another_size_than_the_file_has_is_no_file() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, DATA)
        assert isinstance(await offer(alice, DATA + b"!", SHA), Ticket)


# ------------------------------------------------------------------ what others have stored

WHAT_ONE_IS = ["a stranger", "waiting", "kicked", "gone"]


async def become(what: str, eve: RawClient, admin: RawClient) -> None:
    if what != "a stranger":
        await eve.command(Join)
    if what in ("kicked", "gone"):
        await admin.command(Approve, eve.user)
    if what == "kicked":
        await admin.command(Kick, eve.user)
    if what == "gone":
        await eve.command(Leave)


@pytest.mark.parametrize("what", WHAT_ONE_IS)
@pytest.mark.parametrize("shared", [True, False])
async def test_a_file_of_a_group_of_others_is_as_good_as_not_there(
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
        for data in (DATA, OTHER, flipped(DATA, 0)):
            for sha256 in (None, sha(data)):
                assert isinstance(await offer(eve, data, sha256, "hers"), Ticket)
        refusals = [
            await eve.refusal(Share, "file", len(data), sha(data), group="hers")
            for data in (DATA, OTHER)
        ]
        assert refusals[0].code == refusals[1].code == Code.NOT_UPLOADED
        assert refusals[0].sentence == refusals[1].sentence
        # She has to send every byte of it, and then it is hers.
        await share(server, eve, DATA, group="hers")
        assert kept(server) == {SHA.hex()}
        assert isinstance(await offer(eve, DATA, SHA, "hers"), AlreadyStored)


@pytest.mark.parametrize("what", WHAT_ONE_IS)
async def test_who_is_no_member_gets_neither_ticket_nor_hint(what: str) -> None:
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
        assert {code_of(answer) for answer in answers} == {Code.NOT_MEMBER}
        assert len({replace(a, re=0) for a in answers if isinstance(a, Failed)}) == 1


async def test_one_who_came_in_may_have_what_the_group_has() -> None:
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


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("head", [b"", SHA[1:], SHA + b"!"])
@pytest.mark.parametrize("sha256", [None, SHA])
async def test_a_file_is_offered_by_its_digests(head: bytes, sha256: bytes | None) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        for digests in ((head, sha256), (SHA, head)):
            answer = await alice.ask(lambda i: Upload(i, GROUP, 4, *digests))  # noqa: B023
            assert code_of(answer) == Code.BAD_FILE


async def test_a_file_above_the_limit_gets_no_ticket() -> None:
    async with (
        running_server(limits=replace(UNHURRIED, file=1000)) as server,
        members(server, "alice") as (alice,),
    ):
        answer = await offer(alice, bytes(1001))
        assert isinstance(answer, Failed)
        assert (answer.code, "at most" in answer.text) == (Code.FILE_TOO_LARGE, True)
        await upload(server, alice, bytes(1000))


async def test_a_ticket_is_good_for_one_transfer() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        ticket = await ticket_to_send(alice, b"data")
        async with transfer(server, ticket, 4), raw_client(server.address) as second:
            await second.send(TransferHello(VERSION, ticket))
            (failure,) = await second.until_end()
            assert code_of(failure) == Code.BAD_TICKET


async def test_a_ticket_expires(autojump_clock: MockClock) -> None:
    tickets = Tickets()
    permission = Permission("upload", "alice", 4)
    late, soon = tickets.issue(permission), tickets.issue(permission)
    autojump_clock.jump(TICKET_SECONDS - 1)
    assert tickets.redeem(soon) == permission
    autojump_clock.jump(2)
    with pytest.raises(Refused) as caught:
        tickets.redeem(late)
    assert caught.value.code == Code.BAD_TICKET
    assert tickets.promised("alice") == 0


# ------------------------------------------------------------------ files of one person

FEW_FILES = replace(UNHURRIED, files_per_user=1000)


async def is_refused(person: RawClient, size: int, group: str = GROUP) -> bool:
    answer = await offer(person, bytes(size), group=group)
    assert isinstance(answer, Ticket) or code_of(answer) == Code.QUOTA_EXCEEDED
    return not isinstance(answer, Ticket)


async def test_all_files_of_a_person_together_are_bounded() -> None:
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


async def test_what_was_promised_counts_and_what_is_on_its_way() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        ticket = await ticket_to_send(alice, b"x" * 600)
        assert await is_refused(alice, 401)
        async with transfer(server, ticket, 600) as carrier:
            await carrier.receive()
            assert await is_refused(alice, 401)
            assert not await is_refused(bob, 1000)
            await carrier.cut()
        assert not await is_refused(alice, 1000)


async def test_one_who_asks_twice_at_once_is_promised_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "alice") as her_other_device,
    ):
        used, both = server.store.files.usage, trio.Event()
        answers: list[Frame] = []
        waiting = 0

        async def used_once_both_ask(person: str, besides: bytes | None = None) -> int:
            nonlocal waiting
            waiting += 1
            if waiting == 2:
                both.set()
            await both.wait()
            return await used(person, besides)

        async def ask(device: RawClient, data: bytes) -> None:
            answers.append(await offer(device, data))

        monkeypatch.setattr(server.store.files, "usage", used_once_both_ask)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, alice, b"x" * 600)
            nursery.start_soon(ask, her_other_device, b"y" * 600)
        (refused,) = (answer for answer in answers if not isinstance(answer, Ticket))
        assert code_of(refused) == Code.QUOTA_EXCEEDED


async def test_a_file_that_is_shared_twice_counts_once() -> None:
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


async def test_a_file_that_one_has_here_already_may_be_shared_again_however_full_it_is() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice") as (alice,),
    ):
        await alice.command(Join, group="hers")
        digest = await share(server, alice, b"x" * 1000)
        assert isinstance(await offer(alice, b"x" * 1000, group="hers"), DigestRequired)
        assert isinstance(await offer(alice, b"x" * 1000, digest, "hers"), AlreadyStored)
        assert code_of(await offer(alice, b"y" * 1000, sha(b"y"), "hers")) == Code.QUOTA_EXCEEDED


async def test_what_was_held_for_one_who_did_not_send_it_counts_for_him_too() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        digest = await share(server, alice, b"x" * 600)
        assert isinstance(await offer(bob, b"x" * 600, digest), AlreadyStored)
        assert await is_refused(bob, 401)


async def test_one_who_has_no_room_is_not_given_what_others_sent() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        digest = await share(server, alice, b"x" * 600)
        await share(server, bob, b"y" * 500)
        assert code_of(await offer(bob, b"x" * 600, digest)) == Code.QUOTA_EXCEEDED
        assert await server.store.files.usage("bob") == 500
        refusal = await bob.refusal(Share, "file", 600, digest)
        assert refusal.code == Code.QUOTA_EXCEEDED


async def test_a_digest_of_a_file_that_one_has_makes_no_room_for_another() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice") as (alice,),
    ):
        digest = await share(server, alice, b"x" * 600)
        assert code_of(await offer(alice, b"y" * 401, digest)) == Code.QUOTA_EXCEEDED
        assert isinstance(await offer(alice, b"y" * 400, digest), Ticket)


async def test_to_remove_a_file_makes_room() -> None:
    async with (
        running_server(limits=FEW_FILES) as server,
        members(server, "alice") as (alice,),
    ):
        await share(server, alice, b"x" * 600)
        assert await is_refused(alice, 1000)
        await alice.command(RemoveFile, 1)
        assert not await is_refused(alice, 1000)


async def test_a_file_is_stored_for_everybody_who_sent_it_and_once() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        members(server, "bob", group="his") as (bob,),
    ):
        await share(server, alice, DATA)
        first = place_of(server, DATA).stat().st_size
        await share(server, bob, DATA, group="his")
        assert kept(server) == {SHA.hex()}
        assert place_of(server, DATA).stat().st_size == first == len(DATA)

"""The shelf of a group: what is on it, who has it, and how files leave it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.commands import Approve, Join, Leave, RemoveFile, Share
from tchat.core.group.events import FileRemoved, FileShared
from tchat.core.protocol.frames import (
    AlreadyStored,
    Download,
    FileList,
    FileListRequest,
    Have,
    StartAt,
)
from tchat.errors import Code
from tchat.transfer.pieces import EMPTY_DIGEST
from tests.helpers import GROUP, UNHURRIED, log_of, members, raw_client, running_server
from tests.server.carrying import (
    DATA,
    SHA,
    Keeper,
    code_of,
    download,
    fetching,
    keeper,
    kept,
    offer,
    pieces,
    sha,
    share,
    shelf_of,
    ticket_to_fetch,
    transfer,
    upload,
)
from tests.store.files import blob_path

if TYPE_CHECKING:
    from tests.helpers import RawClient

__all__ = ["keeper"]

HOUR = 3_600_000
DAY = 24 * HOUR
KEPT_FOR_A_WEEK = replace(UNHURRIED, keep_files=7 * DAY)


async def refused_download(person: RawClient, number: int, group: str = GROUP) -> str:
    return code_of(await person.ask(lambda i: Download(i, group, number)))


# ------------------------------------------------------------------ what is on it


async def test_a_shelf_is_empty_at_first() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        shelf = await shelf_of(alice)
        assert shelf == FileList(shelf.re, (), (), (), ())


async def test_a_shelf_is_shown_in_pages_the_newest_first() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await upload(server, alice, b"data")
        for _ in range(85):
            await alice.command(Share, "data", 4, sha(b"data"))
        pages = [await shelf_of(alice)]
        while pages[-1].older:
            pages.append(await shelf_of(alice, before=pages[-1].numbers[-1]))
        numbers = [number for page in pages for number in page.numbers]
        assert numbers == list(range(85, 0, -1))
        assert [len(page.numbers) for page in pages] == [40, 40, 5]
        assert {*pages[0].until, *pages[0].fetched} == {0}
        assert set(pages[0].by) == {""}


@pytest.mark.parametrize("files", [40, 41])
async def test_a_page_that_is_just_full_says_whether_there_are_more(files: int) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await upload(server, alice, b"data")
        for _ in range(files):
            await alice.command(Share, "data", 4, sha(b"data"))
        shelf = await shelf_of(alice)
        assert (len(shelf.numbers), shelf.older) == (40, files > 40)
        assert (await shelf_of(alice, before=2)).numbers == (1,)
        assert (await shelf_of(alice, before=0)).numbers == ()


async def test_a_shelf_names_some_of_those_who_fetched_a_file() -> None:
    names = [f"Person{n}" for n in range(10)]
    async with running_server() as server, members(server, "alice", *names) as (alice, *others):
        await share(server, alice, b"data")
        for other in others:
            await download(server, other, 1, b"data")
        shelf = await shelf_of(alice)
        assert shelf.fetched == (10,)
        assert shelf.by[0].split("\n") == names[:8]


async def test_one_who_has_left_is_named_as_well() -> None:
    async with running_server() as server, members(server, "alice", "Bob") as (alice, bob):
        await share(server, alice, b"data")
        await download(server, bob, 1, b"data")
        await bob.command(Leave)
        assert (await shelf_of(alice)).by == ("bob",)


async def test_the_fullest_page_fits_a_frame() -> None:
    names = ["\N{MATHEMATICAL BOLD CAPITAL A}", *("漢" * 31 + chr(0x4E00 + n) for n in range(9))]
    async with running_server() as server, members(server, "alice", *names) as (alice, *others):
        await upload(server, alice, b"")
        for number in range(1, 42):
            await alice.command(Share, "file", 0, sha(b""))
            for other in others:
                await server.store.files.record_fetch(GROUP, number, other.user.lower(), number)
        shelf = await shelf_of(alice)
        assert (len(shelf.numbers), set(shelf.fetched), shelf.older) == (40, {10}, True)


async def test_only_members_see_a_shelf() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "eve") as eve,
    ):
        await share(server, alice, b"data")
        for _ in range(2):
            for group in (GROUP, "nowhere"):
                answer = await eve.ask(lambda i: FileListRequest(i, group))  # noqa: B023
                assert code_of(answer) == Code.NOT_MEMBER
            await eve.command(Join)


# ------------------------------------------------------------------ files that are removed


@pytest.mark.parametrize("who", ["alice", "bob"])
async def test_who_shared_a_file_and_the_admin_may_remove_it(who: str, keeper: Keeper) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, bob, carol),
    ):
        await share(server, bob, DATA)
        assert (await carol.refusal(RemoveFile, 1)).code == Code.NOT_ADMIN
        await {"alice": alice, "bob": bob}[who].command(RemoveFile, 1)
        shared, removed = await carol.events(2)
        assert (removed.body, removed.actor) == (FileRemoved(1), who)
        assert isinstance(shared.body, FileShared)
        await server.logged(f"{who} removed file 1 from ops")
        assert await refused_download(carol, 1) == Code.NO_SUCH_FILE
        assert (await shelf_of(carol)).numbers == ()
        assert (await alice.refusal(RemoveFile, 1)).code == Code.NO_SUCH_FILE
        await keeper.sweep()
        assert kept(server) == set()
        assert list(blob_path(server.store).rglob("*.sums")) == []
        await server.logged("1 files that no group has any more were removed")


async def test_a_file_that_another_group_has_as_well_is_kept_for_it(keeper: Keeper) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await alice.command(Join, group="hers")
        await share(server, alice, DATA)
        await alice.command(Share, "the same", len(DATA), SHA, group="hers")
        await alice.command(RemoveFile, 1)
        await keeper.sweep()
        assert await refused_download(bob, 1) == Code.NO_SUCH_FILE
        await download(server, alice, 1, DATA, "hers")
        await alice.command(RemoveFile, 1, group="hers")
        keeper.later = DAY + HOUR  # what she shared again, she was given to hold for a day
        await keeper.sweep()
        assert kept(server) == set()


async def test_the_number_of_a_file_is_never_given_to_another(keeper: Keeper) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"one")
        await alice.command(RemoveFile, 1)
        await keeper.sweep()
        await share(server, alice, b"two")
        assert (await shelf_of(alice)).numbers == (2,)
        await download(server, alice, 2, b"two")
    async with running_server(server.store) as server, members(server, "eve", group="x") as _:
        bodies = [event.body for event in await log_of(server.store)]
        assert bodies[-1] == FileShared(2, "file", 3, sha(b"two"))


async def test_a_download_that_has_begun_is_not_hurt_by_a_removal(keeper: Keeper) -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA)
        late = await ticket_to_fetch(bob, 1)
        async with fetching(server, bob, 1, len(DATA)) as carrier:
            await carrier.send(Have(0, EMPTY_DIGEST))
            assert await carrier.receive() == StartAt(0)
            await alice.command(RemoveFile, 1)
            await keeper.sweep()
            for expected in pieces(DATA):
                assert await carrier.piece() == expected
        async with transfer(server, late, len(DATA)) as carrier:
            (failure,) = await carrier.until_end()
            assert code_of(failure) in (Code.NO_SUCH_FILE, Code.FILE_DAMAGED)


async def test_a_removal_sent_again_is_done_once() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"data")
        assert (await alice.command(RemoveFile, 1, n=70)).seq == 3
        assert (await alice.command(RemoveFile, 1, n=70)).seq is None


async def test_a_file_that_was_removed_may_be_shared_again_by_who_sent_it() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"data")
        assert isinstance(await offer(alice, b"data", sha(b"data")), AlreadyStored)
        await alice.command(RemoveFile, 1)
        await alice.command(Share, "data", 4, sha(b"data"))
        await download(server, alice, 2, b"data")


async def test_the_shelf_goes_with_the_group(keeper: Keeper) -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA)
        await bob.command(Leave)
        await alice.command(Leave)
        assert await refused_download(alice, 1) == Code.NOT_MEMBER
        await keeper.sweep()
        assert kept(server) == set()
        # Who founds it anew finds an empty shelf, and no number that was used.
        await bob.command(Join)
        assert (await shelf_of(bob)).numbers == ()
        assert await refused_download(bob, 1) == Code.NO_SUCH_FILE
        assert await refused_download(bob, 2) == Code.NO_SUCH_FILE
        await share(server, bob, b"data")
        assert (await shelf_of(bob)).numbers == (2,)
        await download(server, bob, 2, b"data")


async def test_what_the_last_one_shared_goes_with_him_even_at_once(keeper: Keeper) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await upload(server, alice, b"data")
        await alice.send(
            Share(100, 100, GROUP, "data", 4, sha(b"data")),
            Leave(101, 101, GROUP),
            Join(102, 102, GROUP),
        )
        await alice.before_pong()
        assert (await shelf_of(alice)).numbers == ()
        keeper.later = DAY + HOUR
        await keeper.sweep()
        assert kept(server) == set()


# ------------------------------------------------------------------ files that have their time


async def test_a_file_says_until_when_it_is_there(keeper: Keeper) -> None:
    async with (
        running_server(limits=KEPT_FOR_A_WEEK) as server,
        members(server, "alice") as (alice,),
    ):
        await share(server, alice, DATA)
        (shared,) = await alice.events(1)
        assert (await shelf_of(alice)).until == (shared.at + 7 * DAY,)


async def test_a_file_is_kept_for_as_long_as_files_are(keeper: Keeper) -> None:
    async with (
        running_server(limits=KEPT_FOR_A_WEEK) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await share(server, alice, DATA)
        keeper.later = 7 * DAY - HOUR
        await keeper.sweep()
        await download(server, bob, 1, DATA)
        keeper.later = 7 * DAY + HOUR
        await keeper.sweep()
        assert kept(server) == set()
        assert await refused_download(bob, 1) == Code.NO_SUCH_FILE
        assert (await shelf_of(bob)).numbers == ()
        assert await server.store.files.usage("alice") == 0
        await alice.command(RemoveFile, 1)


async def test_younger_files_stay_and_so_does_what_is_shared_again(keeper: Keeper) -> None:
    async with (
        running_server(limits=KEPT_FOR_A_WEEK) as server,
        members(server, "alice") as (alice,),
    ):
        await share(server, alice, b"old")
        keeper.later = 7 * DAY + HOUR
        await share(server, alice, b"young")
        await alice.command(Share, "old", 3, sha(b"old"))
        await keeper.sweep()
        assert kept(server) == {sha(b"old").hex(), sha(b"young").hex()}
        assert (await shelf_of(alice)).numbers == (3, 2)
        keeper.later += DAY + HOUR
        await keeper.sweep()
        assert (await shelf_of(alice)).numbers == (3, 2)
        await download(server, alice, 3, b"old")


async def test_without_an_end_files_are_kept_for_ever(keeper: Keeper) -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await share(server, alice, DATA)
        keeper.later = 100_000 * DAY
        await keeper.sweep()
        await download(server, bob, 1, DATA)


# ------------------------------------------------------------------ files that were not shared


async def test_what_was_sent_and_not_shared_is_held_for_a_day(keeper: Keeper) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await upload(server, alice, DATA)
        keeper.later = 23 * HOUR
        await keeper.sweep()
        assert kept(server) == {SHA.hex()}
        assert await server.store.files.usage("alice") == len(DATA)
        keeper.later = 25 * HOUR
        await keeper.sweep()
        assert kept(server) == set()
        assert await server.store.files.usage("alice") == 0
        assert (await alice.refusal(Share, "f", len(DATA), SHA)).code == Code.NOT_UPLOADED


async def test_what_was_not_uploaded_cannot_be_shared() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        digest = await upload(server, alice, b"data")
        assert (await bob.refusal(Share, "data", 4, digest)).code == Code.NOT_UPLOADED
        assert (await alice.refusal(Share, "data", 5, digest)).code == Code.NOT_UPLOADED
        assert (await alice.refusal(Share, "data", 4, bytes(32))).code == Code.NOT_UPLOADED
        assert (await alice.command(Share, "data", 4, digest)).seq == 4


async def test_what_one_sent_may_be_shared_with_all_groups_one_is_in() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        members(server, "bob", group="his") as (bob,),
    ):
        digest = await share(server, alice, b"data")
        await alice.command(Join, group="his")
        assert (await alice.refusal(Share, "f", 4, digest, group="his")).code == Code.NOT_MEMBER
        await bob.command(Approve, "alice", group="his")
        await alice.command(Share, "data", 4, digest, group="his")
        await download(server, bob, 1, b"data", "his")

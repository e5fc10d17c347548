"""The list of files of a group: pages, who downloaded, removal and expiry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.files import FileRemoved, FileShared, RemoveFile, Share
from tchat.core.group.membership import Approve, Join, Leave
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
from tests.helpers import GROUP, NO_RATE_LIMITS, log_of, members, raw_client, running_server
from tests.server.file_transfers import (
    DATA,
    SHA,
    ShiftedClock,
    clock,
    download,
    fetching,
    list_files,
    offer,
    pieces,
    refusal_code,
    sha,
    share,
    stored_names,
    sweep,
    ticket_to_fetch,
    transfer,
    upload,
)
from tests.store.files import blob_path

if TYPE_CHECKING:
    from tests.helpers import RawClient

__all__ = ["clock"]

HOUR = 3_600_000
DAY = 24 * HOUR
KEPT_FOR_A_WEEK = replace(NO_RATE_LIMITS, keep_files=7 * DAY)


async def refused_download(person: RawClient, number: int, group: str = GROUP) -> str:
    return refusal_code(await person.ask(lambda i: Download(i, group, number)))


# ------------------------------------------------------------------ listing


def numbers_of(page: FileList) -> tuple[int, ...]:
    """Return the numbers of the files on a page."""
    return tuple(file.number for file in page.files)


async def test_new_group_has_no_files() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        shelf = await list_files(alice)
        assert shelf == FileList(shelf.re, ())


async def test_files_are_listed_in_pages_newest_first() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await upload(server, alice, b"data")
        for _ in range(85):
            await alice.command(Share, "data", 4, sha(b"data"))
        pages = [await list_files(alice)]
        while pages[-1].older:
            pages.append(await list_files(alice, before=pages[-1].files[-1].number))
        numbers = [file.number for page in pages for file in page.files]
        assert numbers == list(range(85, 0, -1))
        assert [len(page.files) for page in pages] == [40, 40, 5]
        assert {(file.until, file.fetched) for file in pages[0].files} == {(None, 0)}
        assert {file.by for file in pages[0].files} == {()}


@pytest.mark.parametrize("files", [40, 41])
async def test_full_page_tells_whether_older_files_exist(files: int) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await upload(server, alice, b"data")
        for _ in range(files):
            await alice.command(Share, "data", 4, sha(b"data"))
        shelf = await list_files(alice)
        assert (len(shelf.files), shelf.older) == (40, files > 40)
        assert numbers_of(await list_files(alice, before=2)) == (1,)
        assert numbers_of(await list_files(alice, before=0)) == ()


async def test_list_names_some_who_downloaded_a_file() -> None:
    names = [f"Person{n}" for n in range(10)]
    async with running_server() as server, members(server, "alice", *names) as (alice, *others):
        await share(server, alice, b"data")
        for other in others:
            await download(server, other, 1, b"data")
        shelf = await list_files(alice)
        assert [file.fetched for file in shelf.files] == [10]
        assert list(shelf.files[0].by) == names[:8]


async def test_list_names_downloaders_who_have_left() -> None:
    async with running_server() as server, members(server, "alice", "Bob") as (alice, bob):
        await share(server, alice, b"data")
        await download(server, bob, 1, b"data")
        await bob.command(Leave)
        assert (await list_files(alice)).files[0].by == ("bob",)


async def test_largest_page_fits_a_frame() -> None:
    names = ["\N{MATHEMATICAL BOLD CAPITAL A}", *("漢" * 31 + chr(0x4E00 + n) for n in range(9))]
    async with running_server() as server, members(server, "alice", *names) as (alice, *others):
        await upload(server, alice, b"")
        for number in range(1, 42):
            await alice.command(Share, "file", 0, sha(b""))
            for other in others:
                await server.store.files.record_fetch(GROUP, number, other.user.lower(), number)
        shelf = await list_files(alice)
        assert (len(shelf.files), {file.fetched for file in shelf.files}, shelf.older) == (
            40,
            {10},
            True,
        )


async def test_only_members_list_files() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "eve") as eve,
    ):
        await share(server, alice, b"data")
        for code in (Code.NOT_MEMBER, Code.NOT_APPROVED):
            for group, expected in ((GROUP, code), ("nowhere", Code.NOT_MEMBER)):
                answer = await eve.ask(lambda i: FileListRequest(i, group))  # noqa: B023
                assert refusal_code(answer) == expected
            await eve.command(Join)


# ------------------------------------------------------------------ removal


@pytest.mark.parametrize("who", ["alice", "bob"])
async def test_sender_and_admin_may_remove_a_file(who: str, clock: ShiftedClock) -> None:
    async with (
        running_server(clock=clock) as server,
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
        assert numbers_of(await list_files(carol)) == ()
        assert (await alice.refusal(RemoveFile, 1)).code == Code.NO_SUCH_FILE
        await sweep(server)
        assert stored_names(server) == set()
        assert list(blob_path(server.store).rglob("*.sums")) == []
        await server.logged("removed 1 files that no group refers to any more")


async def test_file_shared_in_two_groups_survives_one_removal(clock: ShiftedClock) -> None:
    async with (
        running_server(clock=clock) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await alice.command(Join, group="hers")
        await share(server, alice, DATA)
        await alice.command(Share, "the same", len(DATA), SHA, group="hers")
        await alice.command(RemoveFile, 1)
        await sweep(server)
        assert await refused_download(bob, 1) == Code.NO_SUCH_FILE
        await download(server, alice, 1, DATA, "hers")
        await alice.command(RemoveFile, 1, group="hers")
        clock.later = DAY + HOUR  # the second share keeps the file for another day
        await sweep(server)
        assert stored_names(server) == set()


async def test_file_numbers_are_never_reused(clock: ShiftedClock) -> None:
    async with running_server(clock=clock) as server, members(server, "alice") as (alice,):
        await share(server, alice, b"one")
        await alice.command(RemoveFile, 1)
        await sweep(server)
        await share(server, alice, b"two")
        assert numbers_of(await list_files(alice)) == (2,)
        await download(server, alice, 2, b"two")
    async with (
        running_server(server.store, clock=clock) as server,
        members(server, "eve", group="x") as _,
    ):
        bodies = [event.body for event in await log_of(server.store)]
        assert bodies[-1] == FileShared(2, "file", 3, sha(b"two"))


async def test_running_download_survives_a_removal(clock: ShiftedClock) -> None:
    async with (
        running_server(clock=clock) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await share(server, alice, DATA)
        late = await ticket_to_fetch(bob, 1)
        async with fetching(server, bob, 1, len(DATA)) as connection:
            await connection.send(Have(0, EMPTY_DIGEST))
            assert await connection.receive() == StartAt(0)
            await alice.command(RemoveFile, 1)
            await sweep(server)
            for expected in pieces(DATA):
                assert await connection.piece() == expected
        async with transfer(server, late, len(DATA)) as connection:
            (failure,) = await connection.until_end()
            assert refusal_code(failure) in (Code.NO_SUCH_FILE, Code.FILE_DAMAGED)


async def test_repeated_removal_is_executed_once() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"data")
        assert (await alice.command(RemoveFile, 1, n=70)).seq == 3
        assert (await alice.command(RemoveFile, 1, n=70)).seq is None


async def test_removed_file_may_be_shared_again_by_sender() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await share(server, alice, b"data")
        assert isinstance(await offer(alice, b"data", sha(b"data")), AlreadyStored)
        await alice.command(RemoveFile, 1)
        await alice.command(Share, "data", 4, sha(b"data"))
        await download(server, alice, 2, b"data")


async def test_files_are_removed_with_their_group(clock: ShiftedClock) -> None:
    async with (
        running_server(clock=clock) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await share(server, alice, DATA)
        await bob.command(Leave)
        await alice.command(Leave)
        assert await refused_download(alice, 1) == Code.NOT_MEMBER
        await sweep(server)
        assert stored_names(server) == set()
        # A new group of the same name has no files, and reuses no file number.
        await bob.command(Join)
        assert numbers_of(await list_files(bob)) == ()
        assert await refused_download(bob, 1) == Code.NO_SUCH_FILE
        assert await refused_download(bob, 2) == Code.NO_SUCH_FILE
        await share(server, bob, b"data")
        assert numbers_of(await list_files(bob)) == (2,)
        await download(server, bob, 2, b"data")


async def test_files_of_closed_groups_are_removed_at_once(clock: ShiftedClock) -> None:
    async with running_server(clock=clock) as server, members(server, "alice") as (alice,):
        await upload(server, alice, b"data")
        await alice.send(
            Share(100, 100, GROUP, "data", 4, sha(b"data")),
            Leave(101, 101, GROUP),
            Join(102, 102, GROUP),
        )
        await alice.before_pong()
        assert numbers_of(await list_files(alice)) == ()
        clock.later = DAY + HOUR
        await sweep(server)
        assert stored_names(server) == set()


# ------------------------------------------------------------------ expiry


async def test_list_tells_when_a_file_expires(clock: ShiftedClock) -> None:
    async with (
        running_server(limits=KEPT_FOR_A_WEEK, clock=clock) as server,
        members(server, "alice") as (alice,),
    ):
        await share(server, alice, DATA)
        (shared,) = await alice.events(1)
        assert (await list_files(alice)).files[0].until == shared.at + 7 * DAY


async def test_file_is_kept_until_it_expires(clock: ShiftedClock) -> None:
    async with (
        running_server(limits=KEPT_FOR_A_WEEK, clock=clock) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await share(server, alice, DATA)
        clock.later = 7 * DAY - HOUR
        await sweep(server)
        await download(server, bob, 1, DATA)
        clock.later = 7 * DAY + HOUR
        await sweep(server)
        assert stored_names(server) == set()
        assert await refused_download(bob, 1) == Code.NO_SUCH_FILE
        assert numbers_of(await list_files(bob)) == ()
        assert await server.store.files.usage("alice") == 0
        await alice.command(RemoveFile, 1)


async def test_newer_and_reshared_files_are_kept(clock: ShiftedClock) -> None:
    async with (
        running_server(limits=KEPT_FOR_A_WEEK, clock=clock) as server,
        members(server, "alice") as (alice,),
    ):
        await share(server, alice, b"old")
        clock.later = 7 * DAY + HOUR
        await share(server, alice, b"young")
        await alice.command(Share, "old", 3, sha(b"old"))
        await sweep(server)
        assert stored_names(server) == {sha(b"old").hex(), sha(b"young").hex()}
        assert numbers_of(await list_files(alice)) == (3, 2)
        clock.later += DAY + HOUR
        await sweep(server)
        assert numbers_of(await list_files(alice)) == (3, 2)
        await download(server, alice, 3, b"old")


async def test_files_never_expire_without_a_limit(clock: ShiftedClock) -> None:
    async with (
        running_server(clock=clock) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await share(server, alice, DATA)
        clock.later = 100_000 * DAY
        await sweep(server)
        await download(server, bob, 1, DATA)


# ------------------------------------------------------------------ files that are not shared


async def test_unshared_upload_is_kept_for_a_day(clock: ShiftedClock) -> None:
    async with running_server(clock=clock) as server, members(server, "alice") as (alice,):
        await upload(server, alice, DATA)
        clock.later = 23 * HOUR
        await sweep(server)
        assert stored_names(server) == {SHA.hex()}
        assert await server.store.files.usage("alice") == len(DATA)
        clock.later = 25 * HOUR
        await sweep(server)
        assert stored_names(server) == set()
        assert await server.store.files.usage("alice") == 0
        assert (await alice.refusal(Share, "f", len(DATA), SHA)).code == Code.NOT_UPLOADED


async def test_unuploaded_file_cannot_be_shared() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        digest = await upload(server, alice, b"data")
        assert (await bob.refusal(Share, "data", 4, digest)).code == Code.NOT_UPLOADED
        assert (await alice.refusal(Share, "data", 5, digest)).code == Code.NOT_UPLOADED
        assert (await alice.refusal(Share, "data", 4, bytes(32))).code == Code.NOT_UPLOADED
        assert (await alice.command(Share, "data", 4, digest)).seq == 4


async def test_uploaded_file_may_be_shared_with_several_groups() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        members(server, "bob", group="his") as (bob,),
    ):
        digest = await share(server, alice, b"data")
        await alice.command(Join, group="his")
        assert (await alice.refusal(Share, "f", 4, digest, group="his")).code == Code.NOT_APPROVED
        await bob.command(Approve, "alice", group="his")
        await alice.command(Share, "data", 4, digest, group="his")
        await download(server, bob, 1, b"data", "his")

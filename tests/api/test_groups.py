"""What a program does in groups: membership, moderation, files, history, presence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

import tchat
import tchat.testing
from tests.api.people import group_of, next_of
from tests.helpers import GROUP, GUARD

if TYPE_CHECKING:
    from pathlib import Path


async def notice(notices: trio.MemoryReceiveChannel[tchat.Notice], wanted: object) -> None:
    """Wait for a notice."""
    with trio.fail_after(GUARD):
        while await notices.receive() != wanted:
            pass


# ------------------------------------------------------------------ membership


async def test_one_group_in_other_letters_is_the_same() -> None:
    async with tchat.testing.open_server() as server, server.connect("alice") as alice:
        ops = await alice.join("Ops", create=True)
        assert await alice.join("ops") is ops
        assert await alice.open("OPS") is ops
        assert (ops.name, alice.groups, await alice.my_groups()) == ("Ops", [ops], ["Ops"])


async def test_a_join_waits_for_the_approval() -> None:
    async with (
        tchat.testing.open_server() as server,
        server.connect("alice") as alice,
        server.connect("bob") as bob,
    ):
        ops = await alice.join(GROUP, create=True)
        with trio.move_on_after(0.05):
            await bob.join(GROUP)
            pytest.fail("nobody has approved it")
        async with alice.events(ops, since=0) as events:
            await (await next_of(events, tchat.JoinRequest)).approve()
        bobs = await bob.join(GROUP)  # the request of before was enough
        assert (bobs.members, bobs.admin, bobs.is_admin) == (["alice", "bob"], "alice", False)
        assert (ops.requests, ops.is_admin, ops.policy) == ([], True, "approval")


@pytest.mark.parametrize("how", ["denied", "banned", "unknown"])
async def test_join_in_vain_leaves_no_group(how: str) -> None:
    async with (
        tchat.testing.open_server() as server,
        server.connect("alice") as alice,
        server.connect("bob") as bob,
    ):
        ops = await alice.join(GROUP, create=True)
        expected = {"denied": tchat.Code.NOT_MEMBER, "banned": tchat.Code.BANNED}
        if how == "banned":
            await ops.ban("bob")
        async with alice.events(ops) as events, trio.open_nursery() as nursery:

            async def deny() -> None:
                await (await next_of(events, tchat.JoinRequest)).deny()

            if how == "denied":
                nursery.start_soon(deny)
            with pytest.raises(tchat.Refused) as refused:
                await bob.join("nowhere" if how == "unknown" else GROUP)
        assert refused.value.code == expected.get(how, tchat.Code.NO_SUCH_GROUP)
        assert bob.groups == []


async def test_all_requests_are_denied_together() -> None:
    async with (
        tchat.testing.open_server() as server,
        server.connect("alice") as alice,
        server.connect("bob") as bob,
        server.connect("carol") as carol,
    ):
        ops = await alice.join(GROUP, create=True)
        async with alice.events(ops) as events, trio.open_nursery() as nursery:

            async def ask(person: tchat.Client) -> None:
                with pytest.raises(tchat.Refused) as refused:
                    await person.join(GROUP)
                assert refused.value.code == tchat.Code.NOT_MEMBER

            nursery.start_soon(ask, bob)
            nursery.start_soon(ask, carol)
            for _ in range(2):
                await next_of(events, tchat.JoinRequest)
            await ops.deny_all()
        assert ops.requests == []
        with pytest.raises(tchat.Refused) as again:
            await bob.join(GROUP)
        assert again.value.code == tchat.Code.DENIED


async def test_open_asks_nobody() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice") as (ops,),
        server.connect("bob") as bob,
    ):
        with pytest.raises(tchat.Refused, match="You are not a member of ops"):
            await bob.open(GROUP)
        assert (bob.groups, ops.requests) == ([], [])


async def test_own_standing_changes_are_notices() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, _),
        server.connect("bob") as bob,
        bob.notices() as notices,
    ):
        bobs = await bob.open(GROUP)
        await notice(notices, tchat.StandingChanged(bobs, "member"))
        await ops.kick("bob")
        await notice(notices, tchat.StandingChanged(bobs, "outsider", "kicked", "alice"))
        with pytest.raises(tchat.Refused) as refused:
            await bobs.say("hello?")
        assert refused.value.code == tchat.Code.NOT_MEMBER
        assert await bob.join(GROUP, invite=await ops.invite()) is bobs
        assert bobs.standing == "member"


async def test_presence_and_absence() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice") as (ops,),
        server.connect("alice") as alice,
        alice.notices() as notices,
    ):
        ops = await alice.open(GROUP)
        async with server.connect("bob") as bob:
            await bob.join(GROUP)
            await bob.set_away("lunch")
            with trio.fail_after(GUARD):
                while ops.away != {"bob": "lunch"}:
                    await notices.receive()
            await bob.set_away(None)
            await notice(notices, tchat.Presence(ops))
        with trio.fail_after(GUARD):
            while "bob" in ops.online:
                await notices.receive()
        assert (ops.online, ops.members) == (["alice"], ["alice", "bob"])


async def test_moderation_is_for_the_admin() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, bobs),
    ):
        for attempt in (
            bobs.kick("alice"),
            bobs.ban("alice"),
            bobs.set_topic("mine"),
            bobs.transfer("bob"),
            bobs.invite(),
        ):
            with pytest.raises(tchat.Refused) as refused:
                await attempt
            assert refused.value.code == tchat.Code.NOT_ADMIN
        await ops.ban("mallory")
        await ops.set_topic("ours")
        assert (ops.banned, ops.topic) == (["mallory"], "ours")
        message = await bobs.say("HELLO")
        await ops.pin(message.seq)
        assert ops.pinned == message.seq
        await ops.delete(message.seq)
        assert ops.pinned is None


# ------------------------------------------------------------------ history


async def test_history_is_read_in_pages() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, bobs),
    ):
        for number in range(700):
            await ops.say(str(number))
        with trio.fail_after(GUARD):
            while bobs.replica.last < ops.replica.last:  # alice may hear of her message first
                await trio.lowlevel.checkpoint()
        pages: list[list[tchat.Event]] = [await bobs.history()]
        while pages[0]:
            pages.insert(0, await bobs.history(before=pages[0][0].seq, limit=300))
        assert [len(page) for page in pages] == [0, 203, 300, 200]
        events = [event for page in pages for event in page]
        assert [event.seq for event in events] == list(range(1, 704))
        assert await bobs.history(limit=0) == []
        assert await bobs.history(before=9999, limit=1) == events[-1:]


# ------------------------------------------------------------------ files


async def test_files_are_transferred_with_progress(tmp_path: Path) -> None:
    source, target = tmp_path / "data.bin", tmp_path / "saved"
    source.write_bytes(bytes(range(256)) * 20_000)
    size = source.stat().st_size
    up: list[tuple[int, int]] = []
    down: list[tuple[int, int]] = []
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, bobs),
        server.connect("bob") as bob,
        bob.events(await bob.open(GROUP)) as events,
    ):
        sent = await ops.send_file(
            source, name="report.bin", progress=lambda done, whole: up.append((done, whole))
        )
        shared = (await next_of(events, tchat.FileShared)).file
        saved = await shared.save(target, progress=lambda done, whole: down.append((done, whole)))
        assert saved == target / "report.bin"
        assert saved.read_bytes() == source.read_bytes()
        assert (up[-1], down[-1]) == ((size, size), (size, size))
        (target / "other.bin").write_text("something else")
        another = await shared.save(target, name="other.bin")
        assert another != target / "other.bin"
        assert (target / "other.bin").read_text() == "something else"
        assert [(f.number, f.name, f.size, f.by) for f in bobs.files] == [
            (sent.number, "report.bin", size, "alice")
        ]
        with pytest.raises(tchat.Refused):
            await bobs.remove_file(sent.number)
        await sent.remove()
        with pytest.raises(tchat.Refused, match="The group has no file 1"):
            await ops.save_file(1, target)


async def test_a_missing_file_is_a_refusal(tmp_path: Path) -> None:
    async with tchat.testing.open_server() as server, group_of(server, "alice") as (ops,):
        with pytest.raises(tchat.Refused) as refused:
            await ops.send_file(tmp_path / "nothing")
        assert refused.value.code == tchat.Code.FILE_UNREADABLE


# ------------------------------------------------------------------ the server for tests


async def test_people_of_test_server_keep_identities() -> None:
    async with tchat.testing.open_server() as server:
        async with server.connect("alice") as alice:
            await alice.join(GROUP, create=True)
        async with server.connect("alice") as alice:
            assert (await alice.open(GROUP)).is_admin
        directory = server.directory
        assert (server.home("alice") / "identity").exists()
    assert not directory.exists()

"""History pages and the list of groups."""

from __future__ import annotations

from dataclasses import replace

from tchat.core.group.feature import Event
from tchat.core.group.membership import Approve, Join, Kick, Leave
from tchat.core.group.messages import Delete, Erased
from tchat.core.protocol.frames import HistoryPage, HistoryRequest, Seen
from tchat.errors import Code
from tests.faulty_store import FaultyStore
from tests.helpers import (
    GROUP,
    NO_RATE_LIMITS,
    log_of,
    members,
    raw_client,
    running_server,
    seqs,
    texts,
)
from tests.server.requests import answer, groups, history, refusal

# ------------------------------------------------------------------ pages of history


async def test_history_equals_the_log() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        for n in range(20):
            await alice.post(f"text {n}")
        log = await log_of(server.store)
        assert await history(bob, 10) == log[:9]
        assert await history(bob, len(log) + 1) == log
        assert await history(bob, 2**62) == log


async def test_history_before_the_first_event_is_empty() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        for before in (0, 1):
            got = await answer(alice, HistoryPage, lambda i, b=before: HistoryRequest(i, GROUP, b))  # type: ignore[misc]
            assert (got.first, got.last, got.frames) == (0, 0, b"")


async def test_long_log_is_read_page_by_page() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        for n in range(30):
            await alice.post(f"{n} {9000 * 'x'}")
        before, read = 32, list[Event]()
        while page := await history(alice, before):
            assert page[-1].seq == before - 1
            assert 1 <= len(page) < 10 or page[0].seq == 1
            read = page + read
            before = page[0].seq
        assert read == await log_of(server.store)


async def test_history_can_be_read_without_following() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "alice") as elsewhere,
    ):
        await alice.post("hello")
        assert texts(await history(elsewhere, 3)) == ["hello"]
        await alice.post("not told")
        assert await elsewhere.before_pong() == []


async def test_only_members_read_history() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        async with raw_client(server.address, "carol") as carol:
            assert await refusal(carol, lambda i: HistoryRequest(i, GROUP, 9)) == Code.NOT_MEMBER
            await carol.command(Join)
            assert await refusal(carol, lambda i: HistoryRequest(i, GROUP, 9)) == Code.NOT_APPROVED
            assert await refusal(carol, lambda i: HistoryRequest(i, "none", 9)) == Code.NOT_MEMBER
            assert await refusal(carol, lambda i: HistoryRequest(i, "a b", 9)) == Code.BAD_NAME
        await alice.command(Kick, "bob")
        assert await refusal(bob, lambda i: HistoryRequest(i, GROUP, 9)) == Code.NOT_MEMBER


async def test_history_before_a_refounding_is_hidden() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await alice.post("from before")
        await alice.command(Leave)
        founded = (await alice.command(Join)).seq or 0
        await alice.post("now")
        assert seqs(await history(alice, 99)) == [founded, founded + 1]
        assert await history(alice, founded) == []
        assert await history(alice, 2) == []


async def test_deletion_during_a_read_is_respected() -> None:
    store = FaultyStore()
    async with running_server(store) as server, members(server, "alice", "bob") as (alice, bob):
        target = await alice.post("a slip")
        read = store.hold("read_before", after=True)
        await bob.send(HistoryRequest(99, GROUP, 99))
        await read.reached.wait()
        await alice.command(Delete, target)
        read.release()
        frames = [await bob.receive() for _ in range(3)]
        (past,) = [frame for frame in frames if isinstance(frame, HistoryPage)]
        assert b"a slip" not in past.frames
        assert past.last == target + 1


# ------------------------------------------------------------------ the list of groups


async def test_groups_are_listed_with_their_unread_events() -> None:
    async with (
        running_server() as server,
        members(server, "alice", group="Straße") as (alice,),
        members(server, "bob", group="two") as (bob,),
    ):
        assert await groups(alice) == {"Straße": ("member", 1, 0)}
        await bob.command(Join, group="strasse")
        await bob.send(Seen("two", 1))
        await bob.attach(1, "two")  # its answer follows the other group's events
        assert await groups(bob) == {"Straße": ("waiting", 0, 0), "two": ("member", 1, 1)}
        await alice.command(Approve, "bob", group="Straße")
        assert (await groups(bob))["Straße"] == ("member", 3, 0)
        await alice.command(Kick, "bob", group="Straße")
        assert list(await groups(bob)) == ["two"]


async def test_most_recently_active_group_is_listed_first() -> None:
    async with (
        running_server() as server,
        members(server, "alice", group="one") as (alice,),
        members(server, "alice", group="two"),
    ):
        assert list(await groups(alice)) == ["two", "one"]
        await alice.post("news", group="one")
        assert list(await groups(alice)) == ["one", "two"]


async def test_waiting_people_learn_nothing_of_the_activity() -> None:
    """Neither from numbers nor from the order: whoever waits may not read the group."""
    async with (
        running_server() as server,
        members(server, "alice", group="one") as (alice,),
        members(server, "bob", group="mine") as (bob,),
    ):
        await alice.command(Join, group="two")
        await bob.command(Join, group="one")
        await bob.command(Join, group="two")
        listed = list((await groups(bob)).items())
        assert listed[1:] == [("one", ("waiting", 0, 0)), ("two", ("waiting", 0, 0))]
        await alice.post("secret", group="one")
        assert list((await groups(bob)).items()) == listed


async def test_refounded_group_is_listed_as_spelled_now() -> None:
    async with running_server() as server, members(server, "alice", group="ops") as (alice,):
        await alice.command(Leave, group="ops")
        assert await groups(alice) == {}
        await alice.command(Join, group="OPS")
        assert list(await groups(alice)) == ["OPS"]


async def test_person_without_groups_gets_an_empty_list() -> None:
    async with running_server() as server, raw_client(server.address, "zoe") as zoe:
        assert await groups(zoe) == {}


async def test_list_of_groups_is_limited_to_a_frame() -> None:
    limits = replace(NO_RATE_LIMITS, groups_per_user=300)
    async with (
        running_server(limits=limits) as server,
        raw_client(server.address, "alice") as alice,
    ):
        for number in range(300):
            await alice.command(Join, group=f"{'語' * 28}{number}")
        listed = await groups(alice)
        assert len(listed) == 256
        assert f"{'語' * 28}299" in listed
        assert f"{'語' * 28}0" not in listed


async def test_erased_events_keep_their_place_in_history() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        target = await alice.post("x")
        await alice.command(Delete, target)
        assert [e.body for e in await history(alice, 3)][1] == Erased()

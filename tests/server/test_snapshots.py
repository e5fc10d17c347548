"""Snapshots for newcomers: the state as it is, and the latest part of the log."""

from __future__ import annotations

import pytest

from tchat.core.group.feature import Event
from tchat.core.group.membership import Approve, Ban, Join, Leave
from tchat.core.group.rules import apply
from tchat.core.group.settings import SetTopic
from tchat.core.group.state import Group
from tchat.core.protocol.frames import Attach, Attached, Failed, PresenceUpdate, Seen, Snapshot
from tchat.errors import Code
from tchat.server.groups import actor
from tests.core.script import as_members_get_it
from tests.helpers import (
    GROUP,
    RunningServer,
    members,
    raw_client,
    running_server,
    seqs,
    texts,
)
from tests.helpers import log_of as stored_log
from tests.server.requests import answer, attach_recent, history, state


async def replayed(server: RunningServer, upto: int) -> Group:
    """Return the state after the first events, without what only the server knows."""
    group = Group()
    for event in (await stored_log(server.store))[:upto]:
        apply(group, event)
    return as_members_get_it(group)


async def test_snapshot_precedes_recent_events_and_new_ones() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        for n in range(50):
            await bob.post(f"text {n}")
        await bob.send(Seen(GROUP, 53))
        await bob.before_pong()
        async with raw_client(server.address, "bob") as new:
            answer = await attach_recent(new, 10)
            assert (answer.seq, answer.read, answer.first) == (53, 53, 44)
            assert await state(new) == await replayed(server, 53)
            assert seqs(await new.events(10)) == list(range(44, 54))
            await alice.post("live")
            assert seqs(await new.events(1)) == [54]


@pytest.mark.parametrize(
    ("recent", "read", "first"),
    [
        (5, 23, 19),
        (5, 10, 11),
        (0, 23, 24),
        (0, 20, 21),
        (1000, 23, 1),
        (2**62, 0, 1),
        (5, 0, 4),  # bob was admitted by event 3
        (0, 0, 1),
    ],
)
async def test_all_unread_events_are_sent(recent: int, read: int, first: int) -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        for n in range(20):
            await alice.post(f"text {n}")
        await bob.send(Seen(GROUP, read))
        await bob.before_pong()
        async with raw_client(server.address, "bob") as new:
            assert (await attach_recent(new, recent)).first == first
            await state(new)
            assert seqs(await new.events(24 - first)) == list(range(first, 24))
            assert not [f for f in await new.before_pong() if isinstance(f, Event)]


async def test_events_before_a_refounding_are_not_sent() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await alice.post("from before")
        await alice.command(Leave)
        founded = (await alice.command(Join)).seq or 0
        async with raw_client(server.address, "alice") as new:
            assert (await attach_recent(new, 100)).first == founded
            assert (await state(new)).floor == founded
            assert seqs(await new.events(1)) == [founded]


async def test_history_continues_without_a_gap() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        for n in range(20):
            await alice.post(f"text {n}")
        await alice.send(Seen(GROUP, 21))
        await alice.before_pong()
        async with raw_client(server.address, "alice") as new:
            first = (await attach_recent(new, 5)).first
            await state(new)
            recent = await new.events(22 - first)
            assert [*await history(new, first), *recent] == await stored_log(server.store)


@pytest.mark.parametrize("after", [1, 3])
async def test_reader_with_part_of_log_gets_the_rest(after: int) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        for n in range(5):
            await alice.post(f"text {n}")
        async with raw_client(server.address, "alice") as new:
            got = await answer(new, Attached, lambda i: Attach(i, GROUP, after, 2))
            assert got.first == after + 1
            assert seqs(await new.events(6 - after)) == list(range(after + 1, 7))


async def test_attach_without_recent_sends_all_and_no_snapshot() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await alice.post("hello")
        async with raw_client(server.address, "alice") as new:
            assert (await new.attach()).first == 1
            assert (await new.attach(after=1)).first == 2
            assert (await new.attach(after=99)).first == 3
            frames = await new.before_pong()
            assert not [frame for frame in frames if isinstance(frame, Snapshot)]


async def test_outsider_gets_no_snapshot() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        assert (await attach_recent(bob, 10)).first == 0
        await bob.command(Join)
        assert (await attach_recent(bob, 10)).standing == "waiting"
        assert await bob.before_pong() == []
        await alice.command(Approve, "bob")
        await bob.receive()
        await attach_recent(bob, 10)
        assert "bob" in (await state(bob)).members


async def test_large_snapshot_is_split_into_frames() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        for n in range(600):
            await alice.command(SetTopic, f"{'語' * 100}{n}")
            target = await alice.post(f"{n}")
        await alice.send(Seen(GROUP, target))
        for n in range(900):
            await alice.command(Ban, f"{'語' * 28}{n}")
        async with raw_client(server.address, "alice") as new:
            await attach_recent(new, 1)
            group = await state(new)
            assert len(group.banned) == 900
            assert group == await replayed(server, group.seq)


async def test_too_large_group_is_refused_and_others_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actor, "SNAPSHOT_LIMIT", 1000)
    monkeypatch.setattr(actor, "is_large", lambda _: True)
    async with running_server() as server, members(server, "alice") as (alice,):
        for number in range(20):
            await alice.command(Ban, f"{'x' * 25}{number}")
        await alice.command(Join, group="other")
        async with raw_client(server.address, "alice") as new:
            refusal = await answer(new, Failed, lambda i: Attach(i, GROUP, 0, 10))
            assert refusal.code == Code.GROUP_TOO_LARGE
            assert (await answer(new, Attached, lambda i: Attach(i, "other", 0, 10))).seq == 1
            assert (await new.attach(after=1)).standing == "member"


async def test_each_newcomer_gets_the_current_snapshot() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        for topic in ("one", "two", "two"):
            await alice.command(SetTopic, topic)
            for _ in range(2):
                async with raw_client(server.address, "alice") as new:
                    got = await attach_recent(new, 1)
                    group = await state(new)
                    assert (group.topic, group.seq) == (topic, got.seq)


async def test_presence_follows_the_log_as_usual() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        await alice.post("hello")
        async with raw_client(server.address, "bob") as new:
            await attach_recent(new, 1)
            await state(new)
            assert texts(await new.events(1)) == ["hello"]
            assert (await new.expect(PresenceUpdate)).reset

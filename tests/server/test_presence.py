"""Who is online: told to members, never logged, and counted by people, not by terminals."""

from __future__ import annotations

import trio

from tchat.core.group.commands import Approve, Join, Kick, Leave
from tchat.core.group.state import Author, Group
from tchat.core.protocol.frames import Attach, Detach, OnlineMember, PresenceUpdate, decode
from tchat.core.protocol.framing import split_frames
from tchat.core.text import fold
from tchat.core.vocabulary import TO_CLIENT
from tchat.server.groups.subscriptions import Subscription, Subscriptions
from tchat.server.send_queue import SendQueue
from tests.helpers import GROUP, RawClient, log_of, members, raw_client, running_server
from tests.memory_store import MemoryStore


async def online(client: RawClient) -> PresenceUpdate:
    """Return the next news of presence; events are passed over."""
    while not isinstance(frame := await client.receive(), PresenceUpdate):
        assert frame is not None
    return frame


async def news(client: RawClient) -> list[PresenceUpdate]:
    """Return the news of presence that there are by now."""
    return [frame for frame in await client.before_pong() if isinstance(frame, PresenceUpdate)]


def came(*names: str) -> PresenceUpdate:
    return PresenceUpdate(GROUP, tuple(map(OnlineMember, names)), ())


def went(*names: str) -> PresenceUpdate:
    return PresenceUpdate(GROUP, (), names)


async def test_one_who_attaches_is_told_who_is_online_and_the_others_of_the_newcomer() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        async with raw_client(server.address, "bob") as elsewhere:
            await elsewhere.attach()
            assert (await online(elsewhere)).reset
            await elsewhere.before_pong()
            assert elsewhere.online == {"alice", "bob"}
        await bob.stream.aclose()
        assert await online(alice) == went("bob")
        async with raw_client(server.address, "bob") as bob:
            await bob.attach()
            assert await online(alice) == came("bob")


async def test_two_terminals_of_one_person_count_once() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        async with raw_client(server.address, "bob") as elsewhere:
            await elsewhere.attach()
            assert await news(elsewhere)
            assert await news(alice) == []
        await server.logged("bob disconnected")
        await alice.attach(after=3)  # a turn of the group, behind the end of bob's terminal
        assert "bob" in {member.name for frame in await news(alice) for member in frame.online}
        assert alice.online == {"alice", "bob"}
        await bob.stream.aclose()
        assert await online(alice) == went("bob")


async def test_one_who_follows_no_longer_is_not_online() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await bob.send(Detach(GROUP))
        assert await online(alice) == went("bob")
        await bob.attach(after=3)
        assert await online(alice) == came("bob")


async def test_one_who_attaches_again_was_never_away() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await bob.attach(after=3)
        await bob.attach(after=3)
        assert await news(alice) == []


async def test_one_who_waits_is_not_online_before_the_approval() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        await bob.attach()
        assert await news(bob) == []
        assert await news(alice) == []
        await alice.command(Approve, "bob")
        assert await online(alice) == came("bob")


async def test_one_who_waits_and_goes_is_not_mentioned() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        async with raw_client(server.address, "bob") as bob:
            await bob.command(Join)
            await bob.attach()
        await server.logged("bob disconnected")
        await alice.post("a turn of the group, behind the end of bob's connection")
        assert await news(alice) == []


async def test_one_who_is_kicked_or_leaves_is_not_online_any_more() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, _, carol),
    ):
        await alice.command(Kick, "bob")
        assert await online(alice) == went("bob")
        await carol.command(Leave)
        assert await online(alice) == went("carol")


async def test_presence_is_not_part_of_the_log() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        for _ in range(5):
            await bob.attach(after=3)
        await bob.stream.aclose()
        assert await online(alice) == went("bob")
        assert len(await log_of(server.store)) == 3


def kept() -> SendQueue:
    """Return an outbox in which all stays."""
    return SendQueue(lambda data: data, lambda: None)


async def test_many_who_are_online_are_told_in_frames_that_fit() -> None:
    names = [f"{28 * 'ä'}{n:04}" for n in range(300)]
    audience = Subscriptions(MemoryStore(), GROUP)
    group = Group(name=GROUP, members={fold(name): name for name in names})
    async with trio.open_nursery() as feeders:
        audience.open(group, feeders)
        for name in names:
            audience.add(Subscription(Author(name, bytes(8)), kept()))
        audience.settle()
        reader = kept()
        audience.admit(Subscription(Author(names[0], bytes(8)), reader), 0)
    frames = [decode(body, TO_CLIENT) for body in split_frames(reader.take() or b"")]
    news = [frame for frame in frames if isinstance(frame, PresenceUpdate)]
    assert [frame.reset for frame in news] == [True] + (len(news) - 1) * [False]
    assert [member.name for frame in news for member in frame.online] == names


async def test_one_who_goes_at_once_after_attaching_is_not_online_for_ever() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await bob.stream.aclose()
        assert await online(alice) == went("bob")
        for _ in range(20):
            async with raw_client(server.address, "bob") as bob:
                await bob.send(Attach(1, GROUP, 0))
            await server.logged("bob disconnected")
        await alice.attach(after=3)
        await alice.before_pong()
        assert alice.online == {"alice"}


async def test_one_who_detaches_at_once_after_attaching_is_not_online_for_ever() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        for _ in range(20):
            await bob.send(Attach(1, GROUP, 3), Detach(GROUP))
        await bob.before_pong()
        await alice.attach(after=3)
        await alice.before_pong()
        assert alice.online == {"alice"}

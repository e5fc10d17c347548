"""Presence: announced to members, never logged, counted by people and not by devices."""

from __future__ import annotations

from tchat.core.group.membership import Approve, Join, Kick, Leave
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
    """Return the next presence update, skipping events."""
    while not isinstance(frame := await client.receive(), PresenceUpdate):
        assert frame is not None
    return frame


async def updates(client: RawClient) -> list[PresenceUpdate]:
    """Return the presence updates received so far."""
    return [frame for frame in await client.before_pong() if isinstance(frame, PresenceUpdate)]


def came(*names: str) -> PresenceUpdate:
    return PresenceUpdate(GROUP, tuple(map(OnlineMember, names)), ())


def went(*names: str) -> PresenceUpdate:
    return PresenceUpdate(GROUP, (), names)


async def test_newcomer_and_members_learn_of_each_other() -> None:
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


async def test_two_devices_of_a_person_count_once() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        async with raw_client(server.address, "bob") as elsewhere:
            await elsewhere.attach()
            assert await updates(elsewhere)
            assert await updates(alice) == []
        await server.logged("bob disconnected")
        await alice.attach(after=3)  # a batch after the end of bob's connection
        assert "bob" in {member.name for frame in await updates(alice) for member in frame.online}
        assert alice.online == {"alice", "bob"}
        await bob.stream.aclose()
        assert await online(alice) == went("bob")


async def test_unsubscribed_member_is_not_online() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await bob.send(Detach(GROUP))
        assert await online(alice) == went("bob")
        await bob.attach(after=3)
        assert await online(alice) == came("bob")


async def test_attaching_again_does_not_announce_an_absence() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await bob.attach(after=3)
        await bob.attach(after=3)
        assert await updates(alice) == []


async def test_waiting_person_is_not_online_before_approval() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        await bob.attach()
        assert await updates(bob) == []
        assert await updates(alice) == []
        await alice.command(Approve, "bob")
        assert await online(alice) == came("bob")


async def test_waiting_person_who_disconnects_is_not_announced() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        async with raw_client(server.address, "bob") as bob:
            await bob.command(Join)
            await bob.attach()
        await server.logged("bob disconnected")
        await alice.post("a turn of the group, behind the end of bob's connection")
        assert await updates(alice) == []


async def test_kicked_and_leaving_members_go_offline() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, _, carol),
    ):
        await alice.command(Kick, "bob")
        assert await online(alice) == went("bob")
        await carol.command(Leave)
        assert await online(alice) == went("carol")


async def test_presence_is_not_logged() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        for _ in range(5):
            await bob.attach(after=3)
        await bob.stream.aclose()
        assert await online(alice) == went("bob")
        assert len(await log_of(server.store)) == 3


def stuck_queue() -> SendQueue:
    """Return a send queue whose socket takes nothing."""
    return SendQueue(lambda data: data, lambda: None)


async def test_presence_of_many_people_fits_into_frames() -> None:
    names = [f"{28 * 'ä'}{n:04}" for n in range(300)]
    subscriptions = Subscriptions(MemoryStore(), GROUP)
    group = Group(name=GROUP, members={fold(name): name for name in names})
    subscriptions.start(group)
    for name in names:
        subscriptions.add(Subscription(Author(name, bytes(8)), stuck_queue()))
    subscriptions.announce_presence()
    reader = stuck_queue()
    subscriptions.feed_from(Subscription(Author(names[0], bytes(8)), reader), 0)
    frames = [decode(body, TO_CLIENT) for body in split_frames(reader.dequeue() or b"")]
    updates = [frame for frame in frames if isinstance(frame, PresenceUpdate)]
    assert [frame.reset for frame in updates] == [True] + (len(updates) - 1) * [False]
    assert [member.name for frame in updates for member in frame.online] == names


async def test_disconnect_right_after_attach_leaves_nobody_online() -> None:
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


async def test_detach_right_after_attach_leaves_nobody_online() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        for _ in range(20):
            await bob.send(Attach(1, GROUP, 3), Detach(GROUP))
        await bob.before_pong()
        await alice.attach(after=3)
        await alice.before_pong()
        assert alice.online == {"alice"}

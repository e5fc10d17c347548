"""Read positions on the wire: other clients of the person learn them, admissions begin them."""

from __future__ import annotations

from tchat.core.group.feature import Event
from tchat.core.group.membership import Approve, Join, Kick
from tchat.core.protocol.frames import Attached, ReadPosition, Seen
from tests.helpers import GROUP, RawClient, members, raw_client, running_server
from tests.server.requests import attach_recent


async def positions(client: RawClient) -> list[int]:
    """Return the positions that a client has been told by now."""
    return [frame.seq for frame in await client.before_pong() if isinstance(frame, ReadPosition)]


async def test_other_clients_learn_what_was_read() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, here),
        raw_client(server.address, "bob") as there,
        raw_client(server.address, "bob") as elsewhere,
    ):
        await there.attach()
        await there.before_pong()
        last = await alice.post("one")
        await here.send(Seen(GROUP, last))
        assert await positions(here) == []
        assert await positions(there) == [last]
        assert await positions(alice) == []
        assert await positions(elsewhere) == []  # does not follow the group
        await there.send(Seen(GROUP, last), Seen(GROUP, 2))
        await there.before_pong()
        assert await positions(here) == []


async def test_position_beyond_the_log_is_its_end() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (here,),
        raw_client(server.address, "alice") as there,
    ):
        await there.attach()
        await there.before_pong()
        await here.send(Seen(GROUP, 2**62))
        await here.before_pong()
        assert await positions(there) == [1]


async def test_admission_is_told_after_a_restart() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        assert (await bob.attach(after=3)).joined == 3
        for n in range(100):
            await alice.post(f"text {n}")
        await alice.command(Kick, "bob")
        await alice.command(Join, group="lab")
        await server.end()
        async with (
            running_server(server.store) as again,
            raw_client(again.address, "alice") as alice,
            raw_client(again.address, "bob") as bob,
        ):
            assert (await alice.attach(after=104)).joined == 1
            await bob.command(Join)
            admitted = (await alice.command(Approve, "bob")).seq
            answer = await attach_recent(bob, 1)
            assert (answer.joined, answer.read) == (admitted, 0)


async def test_unread_events_since_the_admission_are_sent() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        for n in range(20):
            await alice.post(f"text {n}")
        async with raw_client(server.address, "bob") as again:
            answer = await attach_recent(again, 5)
            assert isinstance(answer, Attached)
            assert answer.first == 4
            sent = [f.seq for f in await again.before_pong() if isinstance(f, Event)]
            assert sent == list(range(4, 24))

"""Activity: members learn what is meant for them on connections that do not follow the group."""

from __future__ import annotations

import pytest

from tchat.core.group.membership import Approve, Join, Kick, TransferAdmin
from tchat.core.group.messages import Edit
from tchat.core.protocol.frames import Activity, Detach
from tests.helpers import GROUP, RawClient, members, raw_client, running_server


async def answer(client: RawClient) -> None:
    """Answer a notice without a subscription."""
    await client.send(Detach(GROUP))
    await client.before_pong()


async def activity(client: RawClient) -> list[tuple[int, str]]:
    """Return the seqs and actors of the notices so far."""
    frames = await client.before_pong()
    return [(frame.seq, frame.by) for frame in frames if isinstance(frame, Activity)]


@pytest.mark.parametrize("text", ["bob, look", "Bob!", "ask @bob and carol"])
async def test_mention_reaches_connections_without_subscription(text: str) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, bob, _),
        raw_client(server.address, "bob") as there,
        raw_client(server.address, "dave") as dave,
    ):
        seq = await alice.post(text)
        assert await activity(there) == [(seq, "alice")]
        assert await activity(bob) == []  # that one got the event itself
        assert await activity(dave) == []


@pytest.mark.parametrize("text", ["hello", "bobby", "dave"])
async def test_other_messages_are_not_announced(text: str) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        raw_client(server.address, "bob") as there,
        raw_client(server.address, "dave") as dave,
    ):
        await alice.post(text)
        assert await activity(there) == []
        assert await activity(dave) == []


async def test_own_mentions_are_not_announced() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (_, bob),
        raw_client(server.address, "bob") as there,
    ):
        await bob.post("I am bob")
        assert await activity(there) == []


async def test_edit_that_mentions_somebody_is_announced() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        raw_client(server.address, "bob") as there,
    ):
        seq = await alice.post("look")
        await alice.command(Edit, seq, "look, bob")
        assert await activity(there) == [(seq + 1, "alice")]


async def test_admin_learns_of_requests_and_of_the_role() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, bob),
        raw_client(server.address, "carol") as carol,
        raw_client(server.address, "dave") as dave,
    ):
        for person in (alice, bob):
            await person.send(Detach(GROUP))
            await person.before_pong()
        await carol.command(Join)
        assert [by for _, by in await activity(alice)] == ["carol"]
        await alice.command(TransferAdmin, "bob")
        assert [by for _, by in await activity(bob)] == ["alice"]
        await answer(bob)
        await dave.command(Join)
        assert [by for _, by in await activity(bob)] == ["dave"]
        assert await activity(alice) == []


async def test_recipients_follow_members_connections_and_subscriptions() -> None:
    """The server remembers who is absent between messages; each kind of change must count."""
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        async with raw_client(server.address, "bob") as there:
            first = await alice.post("bob 1")
            assert await activity(there) == [(first, "alice")]
            await there.attach(after=first)
            await alice.post("bob 2")
            assert await activity(there) == []
            await there.send(Detach(GROUP))
            await there.before_pong()
            third = await alice.post("bob 3")
            assert await activity(there) == [(third, "alice")]
        async with raw_client(server.address, "bob") as again:
            fourth = await alice.post("bob 4")
            assert await activity(again) == [(fourth, "alice")]
            await answer(again)
            await alice.command(Kick, "bob")
            await alice.post("bob 5")
            assert await activity(again) == []
            await bob.command(Join)
            await alice.command(Approve, "bob")
            sixth = await alice.post("bob 6")
            assert await activity(again) == [(sixth, "alice")]


async def test_unanswered_notices_do_not_accumulate() -> None:
    """They bypass the limit of the send queue, so a client that reads nothing gets only one."""
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        raw_client(server.address, "bob") as there,
    ):
        first, _, _ = [await alice.post("bob!") for _ in range(3)]
        assert await activity(there) == [(first, "alice")]
        await answer(there)
        later, _, _ = [await alice.post("bob!") for _ in range(3)]
        assert await activity(there) == [(later, "alice")]

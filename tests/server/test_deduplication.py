"""Deduplication: a repeated command is executed once, on whatever connection it comes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tchat.core.group import compaction
from tchat.core.group.membership import Approve, Join
from tchat.core.group.messages import Post
from tchat.core.group.state import WINDOW
from tchat.core.protocol.frames import Attach, Failed, Goodbye, Ok
from tchat.core.protocol.handshake import Welcome
from tchat.errors import Code, Refused
from tests.helpers import (
    GROUP,
    hello_of,
    log_of,
    members,
    raw_client,
    running_server,
    texts,
)

# ------------------------------------------------------------------ deduplication


async def test_repeated_command_is_answered_but_not_executed_again() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        assert (await alice.command(Post, "once", n=5000)).seq == 2
        assert (await alice.command(Post, "once", n=5000)).seq is None
        assert (await alice.command(Post, "long ago", n=5000 - WINDOW)).seq is None
        assert texts(await log_of(server.store)) == ["once"]


async def test_repeated_command_on_another_connection_is_deduplicated() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await alice.command(Post, "once", n=50)
        async with raw_client(server.address, "alice", client=alice.client) as again:
            assert (await again.attach()).counted == 50
            assert await again.command(Post, "once", n=50) == Ok(2)
            await again.command(Post, "twice", n=51)
    async with (
        running_server(server.store) as server,
        raw_client(server.address, "alice", client=alice.client) as again,
    ):
        assert await again.command(Post, "twice", n=51) == Ok(1)
    assert texts(await log_of(server.store)) == ["once", "twice"]


async def test_resent_commands_cause_one_event_each() -> None:
    posts = [Post(n, n, GROUP, f"text {n}") for n in range(50, 150)]
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "alice", client=alice.client) as again,
    ):
        # The older connection may still be read while the newer one resends its commands.
        await alice.send(*posts)
        await again.send(*posts)
        await again.command(Post, "last", n=150)
    assert texts(await log_of(server.store)) == [*(post.text for post in posts), "last"]


async def test_forgotten_client_repeats_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "PERIOD", 4)
    monkeypatch.setattr(compaction, "CLIENTS_EACH", 2)
    async with running_server() as server, members(server, "alice") as (alice,):
        await alice.command(Post, "once", n=50)
        for _ in range(4):
            async with raw_client(server.address, "alice") as other:
                await other.command(Post, "from a container")
        async with raw_client(server.address) as again:
            hello = replace(hello_of("alice", alice.client), upcoming=51)
            await again.send(hello)
            await again.send(await again.proof(hello))
            await again.expect(Welcome)
            assert (await again.refusal(Post, "once", n=50)).code == Code.OUTCOME_UNKNOWN
            assert (await again.command(Post, "new", n=51)).seq is not None
    assert texts(await log_of(server.store)).count("once") == 1


async def test_reconnecting_client_replaces_only_its_own_connection() -> None:
    async with (
        running_server() as server,
        raw_client(server.address, "alice") as elsewhere,
        raw_client(server.address, "bob", client=elsewhere.client) as bob,
        raw_client(server.address, "alice") as older,
        raw_client(server.address, "alice", client=older.client) as newer,
    ):
        (goodbye,) = await older.until_end()
        assert isinstance(goodbye, Goodbye)
        assert goodbye.code == Code.REPLACED
        await server.logged("alice disconnected (replaced)")
        for person in (elsewhere, bob, newer):
            assert await person.before_pong() == []


async def test_sequence_numbers_are_per_client_and_person() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Post, "alice", n=500)
        async with raw_client(server.address, "alice") as elsewhere:
            await elsewhere.command(Post, "alice elsewhere", n=1)
        async with raw_client(server.address, "bob", client=alice.client) as borrowed:
            await borrowed.command(Post, "bob with alice's id", n=1)
        assert len(await bob.events(3)) == 3


async def test_refused_command_may_be_sent_again_later() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        with pytest.raises(Refused):
            await bob.command(Post, "let me in", n=7)
        await bob.command(Join, n=8)
        await alice.command(Approve, "bob")
        # A refused command was not executed, so sending it again is no repetition.
        assert (await bob.command(Post, "let me in", n=7)).seq == 4
        assert (await bob.command(Post, "let me in", n=7)).seq is None


async def test_connection_follows_a_limited_number_of_groups() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        for n in range(256):
            await alice.attach(group=f"group{n}")
        answer = await alice.ask(lambda i: Attach(i, "one-more", 0))
        assert isinstance(answer, Failed)
        assert answer.code == Code.TOO_MANY
        await alice.attach(group="group7")

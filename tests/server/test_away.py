"""Away status: announced in the followed groups, until the person is back or disconnects."""

from __future__ import annotations

from tchat.core.group.membership import Kick
from tchat.core.protocol.frames import Away, Detach, MembershipChange, OnlineMember, PresenceUpdate
from tchat.errors import Code
from tests.helpers import (
    GROUP,
    RawClient,
    log_of,
    members,
    raw_client,
    running_server,
)
from tests.server.requests import away, refusal


async def next_update(client: RawClient) -> PresenceUpdate:
    """Return the next presence update; skip what other groups say about memberships."""
    while isinstance(frame := await client.receive(), MembershipChange):
        pass
    assert isinstance(frame, PresenceUpdate), frame
    return frame


async def updates(client: RawClient) -> list[PresenceUpdate]:
    """Return the presence updates received so far."""
    return [frame for frame in await client.before_pong() if isinstance(frame, PresenceUpdate)]


async def test_others_see_who_is_away_and_back() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await away(bob, "lunch")
        assert await next_update(alice) == PresenceUpdate(
            GROUP, (OnlineMember("bob", "lunch"),), ()
        )
        await away(bob, "dentist")
        assert await next_update(alice) == PresenceUpdate(
            GROUP, (OnlineMember("bob", "dentist"),), ()
        )
        await away(bob)
        assert await next_update(alice) == PresenceUpdate(GROUP, (OnlineMember("bob"),), ())
        assert len(await log_of(server.store)) == 3


async def test_repeated_away_is_not_announced_again() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await away(bob)
        await away(bob, "lunch")
        await next_update(alice)
        await away(bob, "lunch")
        assert await updates(alice) == []


async def test_newcomer_learns_who_is_away() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (_, bob, _),
    ):
        await away(bob, "lunch")
        async with raw_client(server.address, "carol") as new:
            await new.attach(after=99)
            told = await next_update(new)
            assert told.reset
            assert {member.name: member.away or "" for member in told.online} == {
                "alice": "",
                "bob": "lunch",
                "carol": "",
            }


async def test_away_is_announced_in_followed_groups_only() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", group="one") as (alice, bob),
        members(server, "carol", "bob", group="two") as (carol, elsewhere),
        members(server, "dave", "bob", group="three") as (dave, not_there),
    ):
        await not_there.send(Detach("three"))
        assert (await next_update(dave)).offline == ("bob",)
        await away(bob, "lunch")
        assert await next_update(alice) == PresenceUpdate(
            "one", (OnlineMember("bob", "lunch"),), ()
        )
        assert await next_update(carol) == PresenceUpdate(
            "two", (OnlineMember("bob", "lunch"),), ()
        )
        assert await updates(dave) == []
        assert [member.away or "" for member in (await next_update(elsewhere)).online] == ["lunch"]


async def test_away_ends_with_the_persons_last_connection() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        async with raw_client(server.address, "bob") as elsewhere:
            await away(elsewhere, "lunch")
            await next_update(alice)
        await server.logged("bob disconnected")
        await alice.attach(after=99)
        assert [member.away or "" for member in (await next_update(alice)).online] == ["", "lunch"]
        await bob.stream.aclose()
        assert (await next_update(alice)).offline == ("bob",)
        async with raw_client(server.address, "bob") as bob:
            await bob.attach(after=99)
            assert await next_update(alice) == PresenceUpdate(GROUP, (OnlineMember("bob"),), ())


async def test_away_reason_is_one_clean_short_line() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await away(bob, "at\nthe \x1b[2Jdentist")
        assert [member.away or "" for member in (await next_update(alice)).online] == [
            "at↵the ␛[2Jdentist"
        ]
        assert await refusal(bob, lambda i: Away(i, "x" * 101)) == Code.TEXT_TOO_LONG
        assert await refusal(bob, lambda i: Away(i, " \u200b")) == Code.EMPTY_TEXT


async def test_away_is_not_announced_to_kicked_members() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Kick, "bob")
        assert (await alice.events(1))[0].seq == 4
        await updates(alice)
        await away(bob, "far away")
        assert await updates(alice) == []

"""Being away: seen by those who follow the same groups, until one is back or has gone."""

from __future__ import annotations

from dataclasses import replace

from tchat.core.group.commands import Kick
from tchat.core.pace import Rate
from tchat.core.protocol.frames import Away, Detach, OnlineMember, PresenceUpdate
from tchat.errors import Code
from tests.helpers import GROUP, UNHURRIED, RawClient, log_of, members, raw_client, running_server
from tests.server.asking import away, refusal


async def next_news(client: RawClient) -> PresenceUpdate:
    """Return the next news of presence."""
    frame = await client.receive()
    assert isinstance(frame, PresenceUpdate), frame
    return frame


async def news(client: RawClient) -> list[PresenceUpdate]:
    """Return the news of presence that there are by now."""
    return [frame for frame in await client.before_pong() if isinstance(frame, PresenceUpdate)]


async def test_the_others_see_that_one_is_away_and_why_and_that_one_is_back() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await away(bob, "lunch")
        assert await next_news(alice) == PresenceUpdate(GROUP, (OnlineMember("bob", "lunch"),), ())
        await away(bob, "dentist")
        assert await next_news(alice) == PresenceUpdate(
            GROUP, (OnlineMember("bob", "dentist"),), ()
        )
        await away(bob)
        assert await next_news(alice) == PresenceUpdate(GROUP, (OnlineMember("bob"),), ())
        assert len(await log_of(server.store)) == 3


async def test_only_what_has_changed_is_news() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await away(bob)
        await away(bob, "lunch")
        await next_news(alice)
        await away(bob, "lunch")
        assert await news(alice) == []


async def test_one_who_comes_is_told_who_is_away() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (_, bob, _),
    ):
        await away(bob, "lunch")
        async with raw_client(server.address, "carol") as new:
            await new.attach(after=99)
            told = await next_news(new)
            assert told.reset
            assert {member.name: member.away or "" for member in told.online} == {
                "alice": "",
                "bob": "lunch",
                "carol": "",
            }


async def test_it_is_seen_in_every_group_that_one_follows_and_in_no_other() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", group="one") as (alice, bob),
        members(server, "carol", "bob", group="two") as (carol, elsewhere),
        members(server, "dave", "bob", group="three") as (dave, not_there),
    ):
        await not_there.send(Detach("three"))
        assert (await next_news(dave)).offline == ("bob",)
        await away(bob, "lunch")
        assert await next_news(alice) == PresenceUpdate("one", (OnlineMember("bob", "lunch"),), ())
        assert await next_news(carol) == PresenceUpdate("two", (OnlineMember("bob", "lunch"),), ())
        assert await news(dave) == []
        assert [member.away or "" for member in (await next_news(elsewhere)).online] == ["lunch"]


async def test_it_ends_with_the_last_terminal_of_the_person() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        async with raw_client(server.address, "bob") as elsewhere:
            await away(elsewhere, "lunch")
            await next_news(alice)
        await server.logged("bob disconnected")
        await alice.attach(after=99)
        assert [member.away or "" for member in (await next_news(alice)).online] == ["", "lunch"]
        await bob.stream.aclose()
        assert (await next_news(alice)).offline == ("bob",)
        async with raw_client(server.address, "bob") as bob:
            await bob.attach(after=99)
            assert await next_news(alice) == PresenceUpdate(GROUP, (OnlineMember("bob"),), ())


async def test_the_word_is_one_clean_line_and_not_long() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await away(bob, "at\nthe \x1b[2Jdentist")
        assert [member.away or "" for member in (await next_news(alice)).online] == [
            "at↵the ␛[2Jdentist"
        ]
        assert await refusal(bob, lambda i: Away(i, "x" * 101)) == Code.TEXT_TOO_LONG
        assert await refusal(bob, lambda i: Away(i, " \u200b")) == Code.EMPTY_TEXT


async def test_away_is_not_news_any_more_for_one_who_is_out() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Kick, "bob")
        assert (await alice.events(1))[0].seq == 4
        await news(alice)
        await away(bob, "far away")
        assert await news(alice) == []


async def test_it_counts_once_for_each_group_that_hears_of_it() -> None:
    limits = replace(UNHURRIED, requests=Rate(0.001, 6))
    async with (
        running_server(limits=limits) as server,
        members(server, "alice", group="one") as (alice,),
        members(server, "alice", group="two"),
    ):
        await away(alice, "lunch")
        await away(alice, "tea")
        assert await refusal(alice, Away) == Code.RATE_LIMITED

"""Conversations of two: who may begin one, who hears of it, and what others learn: nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from tchat.core.group.commands import Ban, Delete, Edit, Join, Kick, Leave, Post, SetTopic, Share
from tchat.core.group.events import Edited, Erased, Event, Posted
from tchat.core.protocol.frames import (
    Attached,
    ConversationStarted,
    Download,
    FileListRequest,
    HistoryRequest,
    PresenceUpdate,
    Search,
    Upload,
)
from tchat.errors import Code
from tchat.server.groups.registry import Registry
from tests.core.examples import HEAD
from tests.helpers import (
    UNHURRIED,
    RawClient,
    log_of,
    members,
    raw_client,
    running_server,
    texts,
)
from tests.server.asking import groups, history, refusal, search
from tests.store.batches import last_seq

TALK = "@alice,bob"


async def refused(client: RawClient, text: str, group: str) -> tuple[str, str]:
    """Say something that is refused; return the code and the sentence."""
    refusal = await client.refusal(Post, text, group=group)
    return refusal.code, refusal.sentence


# ------------------------------------------------------------------ beginning one


async def test_the_first_message_begins_it_and_both_are_told_on_all_their_terminals() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, bob),
        raw_client(server.address, "bob") as elsewhere,
    ):
        assert (await alice.attach(group=TALK)).standing == "member"
        assert (await alice.command(Post, "psst", group=TALK)).seq == 1
        for terminal in (alice, bob, elsewhere):
            assert await terminal.expect(ConversationStarted) == ConversationStarted(TALK)
            answer = await terminal.attach(group=TALK)
            assert (answer.standing, answer.seq, answer.admin) == ("member", 1, None)
            (event,) = await terminal.events(1)
            assert (event.group, event.actor, event.body) == (TALK, "alice", Posted("psst"))
        await bob.command(Post, "what?", group=TALK)
        assert texts(await alice.events(1)) == ["what?"]
        assert texts(await elsewhere.events(1)) == ["what?"]


async def test_they_are_told_once() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Post, "one", group=TALK)
        await bob.expect(ConversationStarted)
        await alice.command(Post, "two", group=TALK)
        assert await bob.before_pong() == []


@pytest.mark.parametrize("name", ["@alice,bob", "@bob,alice", "@BOB,Alice", "@ＡLICE,bob"])  # noqa: RUF001
async def test_it_is_the_same_one_however_its_name_is_written(name: str) -> None:
    async with running_server() as server, members(server, "Alice", "bob") as (alice, bob):
        await alice.command(Post, "one", group=name)
        await bob.command(Post, "two", group=TALK)
        assert texts(await log_of(server.store, TALK)) == ["one", "two"]
        assert (await alice.attach(group=name)).group == TALK
        assert {e.actor for e in await log_of(server.store, TALK)} == {"Alice", "bob"}


async def test_one_writes_only_to_those_with_whom_one_shares_a_group() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (_, bob),
        members(server, "carol", group="other") as (carol,),
        raw_client(server.address, "dave") as dave,
    ):
        await dave.command(Join)  # who waits is no member yet
        code, sentence = await refused(carol, "hello", "@bob,carol")
        assert code == Code.NO_COMMON_GROUP
        # What is said to somebody who exists and to somebody who does not is the same.
        assert await refused(carol, "hello", "@carol,nobody") == (code, sentence)
        assert await refused(dave, "hello", "@bob,dave") == (code, sentence)
        assert not [f for f in await bob.before_pong() if isinstance(f, ConversationStarted)]
        assert await groups(carol) == {"other": ("member", 1, 0)}
        for group in ("@bob,carol", "@carol,nobody", "@bob,dave"):
            assert await last_seq(server.store, group) == 0


async def test_once_begun_it_goes_on_without_a_common_group() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Post, "one", group=TALK)
        await bob.command(Leave)
        await bob.command(Post, "two", group=TALK)
        await alice.command(Leave)
        await alice.command(Post, "three", group=TALK)
    async with running_server(server.store) as server, raw_client(server.address, "bob") as bob:
        await bob.command(Post, "four", group=TALK)
        assert texts(await history(bob, 99, TALK)) == ["one", "two", "three", "four"]


async def test_there_is_none_with_oneself_or_with_what_is_no_name() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        assert (await alice.refusal(Post, "x", group="@alice,ALICE")).code == Code.YOURSELF
        for name in ("@", "@alice", "@alice,", "@,", "@alice,b b", "@alice,bob,carol", "x@alice,b"):
            assert (await alice.refusal(Post, "x", group=name)).code == Code.BAD_NAME


# ------------------------------------------------------------------ what others learn


async def test_others_learn_nothing_not_even_whether_there_is_one() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "mallory") as (alice, _, mallory),
    ):
        await alice.command(Post, "psst", group=TALK)
        for group in (TALK, "@alice,zoe"):
            answer = await mallory.attach(group=group)
            assert answer == Attached(answer.re, group, "outsider")
            sentence = "This is a conversation of two others."
            assert await refused(mallory, "hi", group) == (Code.NOT_MEMBER, sentence)
            assert (await mallory.refusal(Join, group=group)).code == Code.NOT_MEMBER
            for code in (
                await refusal(mallory, lambda i, g=group: HistoryRequest(i, g, 9)),  # type: ignore[misc]
                await refusal(mallory, lambda i, g=group: Search(i, "psst", g)),  # type: ignore[misc]
                await refusal(mallory, lambda i, g=group: FileListRequest(i, g)),  # type: ignore[misc]
            ):
                assert code == Code.NOT_MEMBER
        assert await search(mallory, "psst") == []
        assert list(await groups(mallory)) == ["ops"]
        frames = await mallory.before_pong()
        assert not [f for f in frames if isinstance(f, Event | ConversationStarted)]


async def test_those_who_talk_see_of_each_other_who_is_online() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        assert (await alice.attach(group=TALK)).seq == 0
        await bob.attach(group=TALK)
        assert await alice.before_pong() == []  # it has not begun
        await alice.command(Post, "psst", group=TALK)
        await alice.attach(group=TALK)
        await bob.attach(group=TALK)
        news = [
            f
            for f in await alice.before_pong()
            if isinstance(f, PresenceUpdate) and f.group == TALK
        ]
        assert {name for frame in news for name in frame.online} == {"alice", "bob"}


# ------------------------------------------------------------------ what can be done in one


async def test_messages_are_changed_by_their_authors_alone() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Post, "one", group=TALK)
        await alice.command(Edit, 1, "two", group=TALK)
        assert (await bob.refusal(Delete, 1, group=TALK)).code == Code.NOT_AUTHOR
        assert (await log_of(server.store, TALK))[-1].body == Edited(1, "two")
        await alice.command(Delete, 1, group=TALK)
        assert (await log_of(server.store, TALK))[0].body == Erased()


async def test_there_is_no_admin_no_joining_and_no_files() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        await alice.command(Post, "one", group=TALK)
        for kind, arguments in (
            (Join, ()),
            (Leave, ()),
            (Kick, ("bob",)),
            (Ban, ("bob",)),
            (SetTopic, ("x",)),
            (Share, ("file", 1, bytes(32))),
        ):
            assert (await alice.refusal(kind, *arguments, group=TALK)).code == Code.DIRECT
        assert await refusal(alice, lambda i: Upload(i, TALK, 9, HEAD)) == Code.DIRECT
        assert await refusal(alice, lambda i: Download(i, TALK, 1)) == Code.DIRECT
        assert await refusal(alice, lambda i: FileListRequest(i, TALK)) == Code.DIRECT


async def test_they_are_listed_searched_and_read_back_as_groups_are() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Post, "psst: lunch?", group=TALK)
        assert (await groups(bob))[TALK] == ("member", 1, 0)
        assert await search(bob, "lunch") == [(TALK, 1, "psst: lunch?")]
        assert await search(bob, "lunch", TALK) == [(TALK, 1, "psst: lunch?")]


async def test_they_do_not_count_as_groups_that_one_may_be_in() -> None:
    limits = replace(UNHURRIED, groups_per_user=2)
    async with (
        running_server(limits=limits) as server,
        members(server, "alice", "bob", "carol") as (alice, _, _),
    ):
        await alice.command(Post, "x", group="@alice,bob")
        await alice.command(Post, "x", group="@alice,carol")
    async with (
        running_server(server.store, limits) as server,
        raw_client(server.address, "alice") as alice,
    ):
        await alice.command(Join, group="second")
        assert (await alice.refusal(Join, group="third")).code == Code.GROUPS_FULL


# ------------------------------------------------------------------ what is not begun costs nothing


async def test_to_attach_to_many_that_are_not_begun_keeps_none_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registries: list[Registry] = []

    class Watched(Registry):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            registries.append(self)

    monkeypatch.setattr("tchat.server.app.Registry", Watched)
    async with running_server() as server, members(server, "alice") as (alice,):
        for number in range(200):
            assert (await alice.attach(group=f"@alice,x{number}")).standing == "member"
        await trio.testing.wait_all_tasks_blocked()
        assert list(registries[0]._actors) == ["ops"]
        assert await groups(alice) == {"ops": ("member", 1, 0)}

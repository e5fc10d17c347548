"""Direct conversations: who may begin one, who is notified, what outsiders learn (nothing)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tchat.core.group.direct import direct_name
from tchat.core.group.feature import Event
from tchat.core.group.files import Share
from tchat.core.group.membership import Ban, Join, Kick, Leave
from tchat.core.group.messages import Delete, Edit, Edited, Erased, Post, Posted
from tchat.core.group.settings import SetTopic
from tchat.core.protocol.frames import (
    Activity,
    Attach,
    Attached,
    Detach,
    Download,
    FileListRequest,
    HistoryRequest,
    PresenceUpdate,
    Search,
    Seen,
    Upload,
    encode,
)
from tchat.errors import Code
from tchat.store.base import SideEffects
from tests.core.examples import HEAD
from tests.helpers import (
    NO_RATE_LIMITS,
    RawClient,
    log_of,
    members,
    raw_client,
    running_server,
    texts,
)
from tests.server.requests import groups, history, refusal, search
from tests.store.batches import last_seq

TALK = "@alice,bob"


async def refused(client: RawClient, text: str, group: str) -> tuple[str, str]:
    """Post a message that is refused; return the code and the sentence."""
    refusal = await client.refusal(Post, text, group=group)
    return refusal.code, refusal.sentence


# ------------------------------------------------------------------ beginning a conversation


async def test_first_message_notifies_both_on_all_devices() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, bob),
        raw_client(server.address, "bob") as elsewhere,
    ):
        assert (await alice.attach(group=TALK)).standing == "member"
        assert (await alice.command(Post, "psst", group=TALK)).seq == 1
        for terminal in (alice, bob, elsewhere):
            assert await terminal.expect(Activity) == Activity(TALK, 1, "alice")
            answer = await terminal.attach(group=TALK)
            assert (answer.standing, answer.seq, answer.admin) == ("member", 1, None)
            (event,) = await terminal.events(1)
            assert (event.group, event.actor, event.body) == (TALK, "alice", Posted("psst"))
        await bob.command(Post, "what?", group=TALK)
        assert texts(await alice.events(1)) == ["what?"]
        assert texts(await elsewhere.events(1)) == ["what?"]


async def test_messages_are_announced_until_somebody_attaches() -> None:
    """Once: the client attaches then, and gets the messages."""
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Post, "one", group=TALK)
        assert await bob.expect(Activity) == Activity(TALK, 1, "alice")
        await alice.command(Post, "two", group=TALK)
        await bob.attach(after=2, group=TALK)
        await alice.command(Post, "three", group=TALK)
        assert texts(await bob.events(1)) == ["three"]
        await bob.send(Detach(TALK))
        await bob.before_pong()
        await alice.command(Post, "four", group=TALK)
        assert await bob.expect(Activity) == Activity(TALK, 4, "alice")


@pytest.mark.parametrize("name", ["@alice,bob", "@bob,alice", "@BOB,Alice", "@ＡLICE,bob"])  # noqa: RUF001
async def test_spelling_of_names_leads_to_the_same_conversation(name: str) -> None:
    async with running_server() as server, members(server, "Alice", "bob") as (alice, bob):
        await alice.command(Post, "one", group=name)
        await bob.command(Post, "two", group=TALK)
        assert texts(await log_of(server.store, TALK)) == ["one", "two"]
        assert (await alice.attach(group=name)).group == TALK
        assert {e.actor for e in await log_of(server.store, TALK)} == {"Alice", "bob"}


async def test_conversation_needs_a_common_group_to_begin() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (_, bob),
        members(server, "carol", group="other") as (carol,),
        raw_client(server.address, "dave") as dave,
    ):
        await dave.command(Join)  # somebody who waits is no member yet
        code, sentence = await refused(carol, "hello", "@bob,carol")
        assert code == Code.NO_COMMON_GROUP
        # The refusal is the same whether the other person exists or not.
        assert await refused(carol, "hello", "@carol,nobody") == (code, sentence)
        assert await refused(dave, "hello", "@bob,dave") == (code, sentence)
        # An attach is refused in the same way, so that nobody has to write in order to be told.
        for person, group in ((carol, "@bob,carol"), (carol, "@carol,nobody"), (dave, "@bob,dave")):
            failure = await refusal(person, lambda i, g=group: Attach(i, g, 0))  # type: ignore[misc]
            assert failure == code
        assert not [f for f in await bob.before_pong() if isinstance(f, Activity)]
        assert await groups(carol) == {"other": ("member", 1, 0)}
        for group in ("@bob,carol", "@carol,nobody", "@bob,dave"):
            assert await last_seq(server.store, group) == 0


async def test_conversation_continues_without_a_common_group() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Post, "one", group=TALK)
        await bob.command(Leave)
        await bob.command(Post, "two", group=TALK)
        await alice.command(Leave)
        await alice.command(Post, "three", group=TALK)
    async with running_server(server.store) as server, raw_client(server.address, "bob") as bob:
        await bob.command(Post, "four", group=TALK)
        assert texts(await history(bob, 99, TALK)) == ["one", "two", "three", "four"]


async def test_conversation_with_oneself_or_invalid_names_is_refused() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        assert (await alice.refusal(Post, "x", group="@alice,ALICE")).code == Code.YOURSELF
        for name in ("@", "@alice", "@alice,", "@,", "@alice,b b", "@alice,bob,carol", "x@alice,b"):
            assert (await alice.refusal(Post, "x", group=name)).code == Code.BAD_NAME


# ------------------------------------------------------------------ outsiders


async def test_outsiders_cannot_tell_whether_a_conversation_exists() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "mallory") as (alice, _, mallory),
    ):
        await alice.command(Post, "psst", group=TALK)
        for group in (TALK, "@alice,zoe"):
            answer = await mallory.attach(group=group)
            assert answer == Attached(answer.re, group, "outsider")
            sentence = "This is a direct conversation between two other people."
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
        assert not [f for f in frames if isinstance(f, Event | Activity)]


async def test_both_people_see_each_others_presence() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        assert (await alice.attach(group=TALK)).seq == 0
        await bob.attach(group=TALK)
        assert await alice.before_pong() == []  # the conversation has not begun
        await alice.command(Post, "psst", group=TALK)
        await alice.attach(group=TALK)
        await bob.attach(group=TALK)
        news = [
            f
            for f in await alice.before_pong()
            if isinstance(f, PresenceUpdate) and f.group == TALK
        ]
        assert {member.name for frame in news for member in frame.online} == {"alice", "bob"}


# ------------------------------------------------------------------ within a conversation


async def test_only_authors_change_messages_of_a_conversation() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Post, "one", group=TALK)
        await alice.command(Edit, 1, "two", group=TALK)
        assert (await bob.refusal(Delete, 1, group=TALK)).code == Code.NOT_AUTHOR
        assert (await log_of(server.store, TALK))[-1].body == Edited(1, "two")
        await alice.command(Delete, 1, group=TALK)
        assert (await log_of(server.store, TALK))[0].body == Erased()


async def test_conversation_has_no_admin_joining_or_files() -> None:
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


async def test_conversations_are_listed_searched_and_read_like_groups() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Post, "psst: lunch?", group=TALK)
        assert (await groups(bob))[TALK] == ("member", 1, 0)
        assert await search(bob, "lunch") == [(TALK, 1, "psst: lunch?")]
        assert await search(bob, "lunch", TALK) == [(TALK, 1, "psst: lunch?")]


async def test_conversations_do_not_count_towards_the_group_quota() -> None:
    limits = replace(NO_RATE_LIMITS, groups_per_user=2)
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


# ------------------------------------------ conversations that have not begun


async def test_conversations_that_have_not_begun_are_not_listed() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        for _ in range(300):  # more than a connection may have subscriptions
            assert (await alice.attach(group=TALK)).standing == "member"
        listed = await groups(alice)
        assert list(listed) == ["ops"]


async def test_strangers_displace_no_known_conversation_in_lists() -> None:
    """Names cost nothing: hundreds of them may write to a person whom a friend has written to."""
    async with running_server() as server:
        async with members(server, "alice", "bob") as (alice, bob):
            await alice.command(Post, "hello", group=TALK)
            await bob.send(Seen(TALK, 1))
            await bob.attach(group=TALK)  # the receipt is recorded before that is answered
            unread = await alice.command(Post, "are you there?", group=TALK)
        for number in range(300):
            talk = direct_name("bob", f"name{number}")
            event = Event(talk, 1, number, f"name{number}", bytes(8), 1, Posted("hello"))
            effects = SideEffects({"bob": "member", f"name{number}": "member"})
            await server.store.append(talk, 0, 1, encode(event), effects)
        async with raw_client(server.address, "bob") as bob:
            listed = await groups(bob)
    assert listed[TALK] == ("member", unread.seq, 1)
    assert len(listed) == 256 + 1  # with the group
    assert direct_name("bob", "name299") in listed

"""Bans, policy and topic as they arrive at the clients and in the log."""

from __future__ import annotations

from tchat.core.group.feature import Event
from tchat.core.group.membership import Ban, Banned, Join, Joined, Kick, Unban, Unbanned
from tchat.core.group.messages import Post
from tchat.core.group.settings import PolicySet, SetPolicy, SetTopic, TopicSet
from tchat.core.protocol.frames import Attached, MembershipChange
from tchat.errors import Code
from tests.helpers import GROUP, identity_of, log_of, members, raw_client, running_server, texts
from tests.server.requests import groups

# ------------------------------------------------------------------ bans


async def test_banned_member_is_notified_and_receives_nothing_more() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, bob, carol),
        raw_client(server.address, "bob") as elsewhere,
    ):
        await elsewhere.events((await elsewhere.attach()).seq)
        await alice.send(
            Post(101, 101, GROUP, "before"),
            Ban(102, 102, GROUP, "BOB"),
            Post(103, 103, GROUP, "after"),
        )
        assert texts(await carol.events(3)) == ["before", "after"]
        for terminal in (bob, elsewhere):
            frames = [
                f for f in await terminal.before_pong() if isinstance(f, Event | MembershipChange)
            ]
            assert frames[-1] == MembershipChange(GROUP, "outsider", "banned", "alice")
            assert [f.body for f in frames if isinstance(f, Event)][1:] == [Banned("bob")]
        assert await groups(bob) == {}


async def test_ban_ends_a_request_and_blocks_joining() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        await bob.attach()
        await alice.command(Ban, "bob")
        assert await bob.receive() == MembershipChange(GROUP, "outsider", "banned", "alice")
        assert (await bob.refusal(Join)).code == Code.BANNED
        answer = await bob.attach()
        assert isinstance(answer, Attached)
        assert (answer.standing, answer.admin) == ("outsider", "alice")
        await alice.command(Unban, "bob")
        assert (await bob.command(Join)).seq is not None
        assert [e.body for e in await log_of(server.store)][2:4] == [
            Banned("bob"),
            Unbanned("bob"),
        ]


async def test_person_who_never_joined_can_be_banned() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "mallory") as mallory,
    ):
        await alice.command(Ban, "mallory")
        await alice.command(Unban, "mallory")
        assert await mallory.before_pong() == []  # strangers are not told that the group exists
        await alice.command(Ban, "mallory")
        assert (await mallory.refusal(Join)).code == Code.BANNED


async def test_former_member_learns_of_ban_and_unban() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Kick, "bob")
        await bob.before_pong()
        await alice.command(Ban, "bob")
        await alice.command(Unban, "bob")
        assert await bob.before_pong() == [
            MembershipChange(GROUP, "outsider", "banned", "alice"),
            MembershipChange(GROUP, "outsider", "unbanned", "alice"),
        ]


async def test_ban_validates_names_and_needs_the_admin() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        assert (await alice.refusal(Ban, "no name")).code == Code.BAD_NAME
        assert (await alice.refusal(Unban, "")).code == Code.BAD_NAME
        assert (await alice.refusal(Unban, "carol")).code == Code.NO_SUCH_BAN
        assert (await bob.refusal(Ban, "alice")).code == Code.NOT_ADMIN


# ------------------------------------------------------------------ open groups


async def test_joining_an_open_group_needs_no_approval() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await alice.command(SetPolicy, "open")
        await bob.command(Join)
        assert (await bob.attach()).standing == "member"
        joined = (await alice.events(2))[-1]
        assert (joined.actor, joined.body) == ("bob", Joined(key=identity_of("bob").public))


async def test_opening_a_group_admits_those_waiting() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        await bob.attach()
        await alice.command(SetPolicy, "open")
        assert await bob.receive() == MembershipChange(GROUP, "member", "approved", "alice")
        assert (await groups(bob))[GROUP][0] == "member"


# ------------------------------------------------------------------ the topic


async def test_topic_is_one_clean_line_of_limited_length() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(SetTopic, "release\nplanning\x07")
        assert (await bob.events(1))[0].body == TopicSet("release↵planning␇")
        assert (await alice.refusal(SetTopic, "x" * 201)).code == Code.TEXT_TOO_LONG
        assert (await bob.refusal(SetTopic, "mine")).code == Code.NOT_ADMIN
        assert (await alice.command(SetTopic, "release\nplanning\x07")).seq is None


async def test_setting_the_same_policy_again_changes_nothing() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        assert (await alice.command(SetPolicy, "open")).seq == 2
        assert (await alice.command(SetPolicy, "open")).seq is None
        assert (await log_of(server.store))[-1].body == PolicySet("open")


# ------------------------------------------------------------------ the log


async def test_bans_policy_and_topic_are_logged() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await alice.command(SetPolicy, "open")
        await bob.command(Join)
        await alice.command(Ban, "bob")
        await alice.command(Unban, "bob")
        await alice.command(SetTopic, "our secret plans")
        await alice.command(SetPolicy, "approval")
    lines = [line[20:] for line in server.console if GROUP in line]
    assert lines == [
        "new group ops by alice",
        "alice set who may join ops: everybody",
        "bob joined ops, which is open",
        "alice banned bob from ops",
        "alice unbanned bob from ops",
        "alice changed the topic of ops",
        "alice set who may join ops: those who are approved",
    ]

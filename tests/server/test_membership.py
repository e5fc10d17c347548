"""Membership over real sockets: joining, approval, kicks, leaving."""

from __future__ import annotations

from dataclasses import replace

from tchat.core.group.feature import Body, Event
from tchat.core.group.membership import (
    COOL_DOWN_MS,
    AdminTransferred,
    Approve,
    Approved,
    Ban,
    Denied,
    Deny,
    DenyAll,
    Join,
    Kick,
    Kicked,
    Leave,
    Left,
    Unban,
)
from tchat.core.group.messages import Post, Posted
from tchat.core.protocol.frames import Attached, MembershipChange
from tchat.core.protocol.handshake import Welcome
from tchat.errors import Code
from tests.core.script import NOON
from tests.helpers import (
    GROUP,
    RunningServer,
    created_by,
    hello_of,
    identity_of,
    log_of,
    members,
    raw_client,
    requested_by,
    running_server,
    seqs,
    texts,
)


async def bodies(server: RunningServer, group: str = GROUP) -> list[Body]:
    return [event.body for event in await log_of(server.store, group)]


# ------------------------------------------------------------------ founding and joining


async def test_joining_an_unknown_group_founds_it() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        assert (await alice.attach()).standing == "outsider"
        assert (await alice.command(Join)).seq == 1
        answer = await alice.attach()
        assert answer.log is not None
        assert answer.digest is not None
        expected = Attached(3, GROUP, "member", seq=1, counted=1, first=1, joined=1)
        assert replace(answer, log=None, digest=None) == expected
        (founding,) = await alice.events(1)
        assert (founding.actor, founding.body) == ("alice", created_by("alice"))


async def test_joining_an_existing_group_asks_the_admin() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        (request,) = await alice.events(1)
        assert (request.actor, request.body) == ("bob", requested_by("bob"))
        assert await bob.attach() == Attached(2, GROUP, "waiting", counted=1, admin="alice")


async def test_waiting_person_receives_nothing_of_the_group() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        await bob.attach()
        await alice.post("not for bob")
        assert await bob.before_pong() == []


async def test_approval_notifies_the_waiting_person_at_once() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        await bob.attach()
        await alice.command(Approve, "bob")
        assert await bob.receive() == MembershipChange(GROUP, "member", "approved", "alice")
        answer = await bob.attach()
        assert (answer.standing, answer.seq) == ("member", 3)
        assert [e.body for e in await bob.events(3)] == [
            created_by("alice"),
            requested_by("bob"),
            Approved("bob"),
        ]


async def test_approval_notifies_every_device_of_the_person() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
        raw_client(server.address, "bob") as elsewhere,
    ):
        await bob.command(Join)
        await bob.attach()
        await elsewhere.attach()
        await alice.command(Approve, "bob")
        assert await elsewhere.receive() == MembershipChange(GROUP, "waiting", "requested", "bob")
        for terminal in (bob, elsewhere):
            assert (await terminal.expect(MembershipChange)).reason == "approved"


async def test_standing_is_told_without_a_subscription() -> None:
    """Every device learns each change, also while it follows nothing; the acting one does not."""
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, bob),
        raw_client(server.address, "bob") as elsewhere,
    ):
        await bob.command(Leave)
        await bob.before_pong()
        await bob.command(Join)
        assert await bob.before_pong() == []
        await alice.command(Approve, "bob")
        await alice.command(Ban, "bob")
        await alice.command(Unban, "bob")
        told = [await elsewhere.receive() for _ in range(5)]
        assert told == [
            MembershipChange(GROUP, "outsider", "left", "bob"),
            MembershipChange(GROUP, "waiting", "requested", "bob"),
            MembershipChange(GROUP, "member", "approved", "alice"),
            MembershipChange(GROUP, "outsider", "banned", "alice"),
            MembershipChange(GROUP, "outsider", "unbanned", "alice"),
        ]


async def test_founding_is_told_to_other_devices() -> None:
    async with (
        running_server() as server,
        raw_client(server.address, "alice") as alice,
        raw_client(server.address, "alice") as elsewhere,
    ):
        await alice.command(Join)
        assert await alice.before_pong() == []
        assert await elsewhere.receive() == MembershipChange(GROUP, "member", "created", "alice")


async def test_closing_is_told_to_those_who_asked() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        await alice.command(Leave)
        assert await bob.receive() == MembershipChange(GROUP, "outsider", "closed", "alice")


async def test_join_request_survives_a_disconnect() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        async with raw_client(server.address, "bob") as bob:
            await bob.command(Join)
        await server.logged("bob disconnected")
        await alice.command(Approve, "bob")
        async with raw_client(server.address, "bob") as bob:
            assert (await bob.attach()).standing == "member"
            await bob.events(3)


async def test_request_and_approval_survive_a_restart() -> None:
    async with (
        running_server() as server,
        members(server, "alice"),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
    async with running_server(server.store) as server, members(server, "alice") as (alice,):
        await alice.command(Approve, "bob")
    async with running_server(server.store) as server, raw_client(server.address, "bob") as bob:
        assert (await bob.attach()).standing == "member"


async def test_denied_person_is_notified_and_may_ask_later() -> None:
    now = [NOON]
    async with (
        running_server(clock=lambda: now[0]) as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        await bob.attach()
        await alice.command(Deny, "bob")
        assert await bob.receive() == MembershipChange(GROUP, "outsider", "denied", "alice")
        assert (await bob.refusal(Join)).code == Code.DENIED
        now[0] += COOL_DOWN_MS
        await bob.command(Join)
        assert (await bob.attach()).standing == "waiting"
        assert (await bodies(server))[1:] == [
            requested_by("bob"),
            Denied("bob", NOON + COOL_DOWN_MS),
            requested_by("bob"),
        ]


async def test_denying_all_tells_each_person() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
        raw_client(server.address, "carol") as carol,
    ):
        for person in (bob, carol):
            await person.command(Join)
            await person.attach()
        await alice.command(DenyAll)
        for person in (bob, carol):
            notice = MembershipChange(GROUP, "outsider", "denied", "alice")
            assert await person.receive() == notice
        denied = [one.name for one in await bodies(server) if isinstance(one, Denied)]
        assert denied == ["bob", "carol"]
        assert (await alice.refusal(DenyAll)).code == Code.NO_SUCH_REQUEST


async def test_banned_key_is_told_when_it_attaches() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        raw_client(server.address) as robert,
    ):
        hello = replace(hello_of("robert"), key=identity_of("bob").public)
        await robert.send(hello)
        await robert.send(await robert.proof(hello, identity_of("bob")))
        await robert.expect(Welcome)
        assert not (await robert.attach()).banned
        await alice.command(Ban, "bob")
        assert (await robert.attach()).banned
        assert (await robert.refusal(Join)).code == Code.BANNED


async def test_joining_twice_changes_nothing() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        assert (await alice.command(Join)).seq is None
        assert (await bob.command(Join)).seq == 2
        assert (await bob.command(Join)).seq is None
        assert await bodies(server) == [created_by("alice"), requested_by("bob")]


async def test_names_of_groups_and_people_ignore_case() -> None:
    async with (
        running_server() as server,
        members(server, "Alice", group="Straße") as (alice,),
        raw_client(server.address, "BOB") as bob,
    ):
        await bob.command(Join, group="STRASSE")
        await alice.command(Approve, "bob", group="strasse")
        await bob.expect(MembershipChange)
        assert (await bob.attach(group="\uff33TRASSE")).group == "Straße"
        assert (await bob.events(3))[-1].body == Approved("BOB")
        assert {event.group for event in await log_of(server.store, "strasse")} == {"Straße"}


async def test_groups_are_independent() -> None:
    async with (
        running_server() as server,
        members(server, "alice", group="one") as (alice,),
        members(server, "bob", group="two") as (bob,),
    ):
        await alice.post("in one", group="one")
        await bob.post("in two", group="two")
        assert texts(await alice.events(1)) == ["in one"]
        assert texts(await bob.events(1)) == ["in two"]
        assert (await alice.refusal(Post, "hi", group="two")).code == Code.NOT_MEMBER


async def test_one_connection_follows_several_groups() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        for group in ("one", "two"):
            await alice.command(Join, group=group)
            await alice.attach(group=group)
        await alice.post("in two", group="two")
        await alice.post("in one", group="one")
        heard = [(event.group, event.seq) for event in await alice.events(4)]
        assert heard == [("one", 1), ("two", 1), ("two", 2), ("one", 2)]


# ------------------------------------------------------------------ leaving, kicks


async def test_kicked_member_is_notified_and_receives_nothing_more() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, bob, carol),
    ):
        await alice.post("before")
        kick = await alice.command(Kick, "bob")
        await alice.post("after")
        assert texts(await carol.events(3)) == ["before", "after"]
        frames = [f for f in await bob.before_pong() if isinstance(f, Event | MembershipChange)]
        assert frames[-1] == MembershipChange(GROUP, "outsider", "kicked", "alice")
        events = [frame for frame in frames if isinstance(frame, Event)]
        assert [event.body for event in events] == [Posted("before"), Kicked("bob")]
        assert events[-1].seq == kick.seq


async def test_kick_in_a_burst_takes_effect_in_order() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await alice.send(
            Post(101, 101, GROUP, "before"),
            Kick(102, 102, GROUP, "bob"),
            Post(103, 103, GROUP, "after"),
        )
        assert texts(await alice.events(3)) == ["before", "after"]
        heard = [frame.body for frame in await bob.before_pong() if isinstance(frame, Event)]
        assert heard == [Posted("before"), Kicked("bob")]


async def test_kick_notifies_every_device_of_the_person() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, bob),
        raw_client(server.address, "bob") as elsewhere,
    ):
        await elsewhere.events((await elsewhere.attach()).seq)
        await alice.command(Kick, "bob")
        for terminal in (bob, elsewhere):
            await terminal.events(1)
            assert (await terminal.expect(MembershipChange)).reason == "kicked"


async def test_kicked_person_may_ask_to_join_again() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Kick, "bob")
        assert (await bob.refusal(Post, "but")).code == Code.NOT_MEMBER
        async with raw_client(server.address, "bob") as bob:
            assert await bob.attach() == Attached(1, GROUP, "outsider", admin="alice", kicked=True)
            await bob.command(Join)
            await alice.command(Approve, "bob")
            answer = await bob.attach()
            assert (answer.standing, answer.kicked) == ("member", False)


async def test_readmitted_member_receives_missed_events() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        head = (await alice.command(Kick, "bob")).seq or 0
        await alice.post("behind bob's back")
        await bob.command(Join)
        await alice.command(Approve, "bob")
        await bob.before_pong()
        await bob.attach(after=head)
        assert seqs(await bob.events(3)) == [head + 1, head + 2, head + 3]


async def test_oldest_member_succeeds_a_leaving_admin() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, bob, carol),
    ):
        await alice.command(Leave)
        assert [e.body for e in await carol.events(2)] == [AdminTransferred("bob"), Left()]
        await bob.command(Kick, "carol")
        *_, told = [f for f in await alice.before_pong() if isinstance(f, MembershipChange)]
        assert told == MembershipChange(GROUP, "outsider", "left", "alice")


async def test_last_member_leaving_closes_the_group() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        await bob.command(Join)
        await bob.attach()
        await alice.command(Leave)
        assert await bob.receive() == MembershipChange(GROUP, "outsider", "closed", "alice")
        assert (await bob.attach()).admin is None


async def test_refounded_group_hides_its_earlier_events() -> None:
    async with running_server() as server:
        async with members(server, "alice", "bob") as (alice, bob):
            await alice.post("a secret of the former life")
            await bob.command(Leave)
            last = (await alice.command(Leave)).seq or 0
        async with raw_client(server.address, "mallory") as mallory:
            await mallory.command(Join, group="OPS")
            answer = await mallory.attach(after=0)
            assert (answer.standing, answer.seq, answer.group) == ("member", last + 1, "OPS")
            (founding,) = await mallory.events(1)
            assert (founding.seq, founding.body) == (last + 1, created_by("mallory"))
            frames = await mallory.before_pong()
            assert not any(isinstance(frame, Event) for frame in frames)


async def test_new_member_reads_from_the_founding_on() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        await alice.post("long ago")
        async with members(server, "alice", "bob") as (_, bob):
            answer = await bob.attach(after=0)
            assert texts(await bob.events(answer.seq)) == ["long ago"]

"""Streams of events: where they begin, several groups merged, slow readers, lost connections."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

import tchat
import tchat.testing
from tchat.api import follower
from tchat.api.follower import LOG_SIZE
from tests.api.people import behind_proxy, connected, group_of, next_of, texts
from tests.helpers import GROUP, GUARD

if TYPE_CHECKING:
    from pathlib import Path

# ------------------------------------------------------------------ where a stream begins


async def test_now_begins_with_the_next_event() -> None:
    async with tchat.testing.open_server() as server, group_of(server, "alice") as (ops,):
        await ops.say("before")
        async with server.connect("bob") as bob:
            await bob.join(GROUP)
            async with bob.events() as events:
                await ops.say("one")
                await ops.say("two")
                assert await texts(events, 2) == ["one", "two"]


async def test_start_begins_with_the_first_event() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, _),
        server.connect("bob") as bob,
    ):
        await ops.say("one")
        await bob.open(GROUP)
        async with bob.events(since="start") as events:
            founded = await events.receive()
            assert isinstance(founded, tchat.Joined)
            assert (founded.seq, founded.how) == (1, "founded")
            assert await texts(events, 1) == ["one"]


async def test_a_seq_begins_after_that_event() -> None:
    async with tchat.testing.open_server() as server, group_of(server, "alice", "bob") as (ops, _):
        first = await ops.say("one")
        await ops.say("two")
        async with server.connect("bob") as bob:
            bobs = await bob.open(GROUP)
            async with bob.events(bobs, since=first.seq) as events:
                assert await texts(events, 1) == ["two"]
            with pytest.raises(ValueError, match="one group"):
                bob.events(since=first.seq)


async def test_seq_beyond_the_end_begins_now() -> None:
    async with tchat.testing.open_server() as server, group_of(server, "alice", "bob") as (ops, _):
        await ops.say("before")
        async with server.connect("bob") as bob:
            bobs = await bob.open(GROUP)
            async with bob.events(bobs, since=10**17) as events:
                assert await events.receive_ready() is None
                await ops.say("after")
                assert await texts(events, 1) == ["after"]


async def test_own_events_are_left_out_unless_asked_for() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, _),
        server.connect("bob") as bob,
    ):
        bobs = await bob.open(GROUP)
        async with bob.events(bobs) as others, bob.events(bobs, own=True) as everybodys:
            await bobs.say("mine")
            await ops.say("yours")
            assert await texts(others, 1) == ["yours"]
            assert await texts(everybodys, 2) == ["mine", "yours"]


async def test_events_after_the_admission_are_heard() -> None:
    """The stream is older than the membership: it is opened while the request waits."""
    async with tchat.testing.open_server() as server, group_of(server, "alice") as (ops,):
        await ops.set_policy("approval")
        await ops.say("before the admission")
        async with server.connect("bob") as bob, trio.open_nursery() as nursery:
            nursery.start_soon(bob.join, GROUP)
            with trio.fail_after(GUARD):
                while not ops.requests:
                    await ops.history(limit=1)
            async with bob.events() as events:
                await ops.approve("bob")
                await ops.say("at once")
                assert await texts(events, 1) == ["at once"]


async def test_membership_opened_later_begins_now() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, _),
        server.connect("bob") as bob,
        bob.events() as events,
    ):
        await ops.say("before")
        await bob.open(GROUP)
        await ops.say("after")
        assert await texts(events, 1) == ["after"]


async def test_search_adds_no_groups_to_streams() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, _),
        server.connect("bob") as bob,
    ):
        said = await ops.say("the answer is 42")
        (found,) = await bob.search("answer")
        assert (found.text, found.group.name, bob.groups) == ("the answer is 42", GROUP, [])
        reply = await found.reply("of what?")
        assert reply.reply_to == said.seq
        assert [event.seq for event in await found.group.history(before=found.seq, limit=1)] == [
            said.seq - 1
        ]
        with trio.fail_after(GUARD):
            async with bob.events():
                pass


# ------------------------------------------------------------------ several groups


async def test_groups_are_merged_in_order() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, _),
        group_of(server, "alice", "bob", group="lab") as (lab, _),
        server.connect("bob") as bob,
    ):
        await bob.open(GROUP)
        await bob.open("lab")
        async with bob.events() as events:
            for number in range(30):
                await (ops if number % 3 else lab).say(str(number))
            heard = [await next_of(events, tchat.Message) for _ in range(30)]
    assert [int(message.text) for message in heard] == list(range(30))
    assert {message.group.name for message in heard} == {"ops", "lab"}


async def test_chosen_groups_only() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, _),
        group_of(server, "alice", "bob", group="lab") as (lab, _),
        server.connect("bob") as bob,
    ):
        await bob.open(GROUP)
        async with bob.events(await bob.open("lab")) as events:
            await ops.say("to ops")
            await lab.say("to lab")
            assert await texts(events, 1) == ["to lab"]


async def test_conversations_are_heard_old_and_new() -> None:
    async with (
        tchat.testing.open_server() as server,
        server.connect("alice") as alice,
        server.connect("carol") as carol,
        group_of(server, "founder", "alice", "bob", "carol"),
    ):
        old = await alice.talk_to("bob")
        await old.say("yesterday")
        async with server.connect("bob") as bob, bob.events() as events:
            await old.say("today")
            heard = await next_of(events, tchat.Message)
            assert (heard.text, heard.direct, heard.group.name) == ("today", True, "alice")
            await (await carol.talk_to("bob")).say("hello")
            heard = await next_of(events, tchat.Message)
            assert (heard.text, heard.group.name, heard.group.admin) == ("hello", "carol", None)
            await heard.reply("hello, carol")
            talk = await carol.talk_to("bob")
            assert [e.who for e in await talk.history() if isinstance(e, tchat.Message)] == [
                "carol",
                "bob",
            ]


# ------------------------------------------------------------------ slow readers, long logs


async def test_slow_reader_of_long_log_is_bounded() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, _),
        server.connect("bob") as bob,
    ):
        bobs = await bob.open(GROUP)
        async with bob.events(bobs) as events:
            for _ in range(10):
                async with trio.open_nursery() as nursery:
                    for _ in range(500):
                        nursery.start_soon(ops.say, "hello")
                await trio.testing.wait_all_tasks_blocked()
                assert len(bobs.replica.log) < LOG_SIZE
                assert len(ops.replica.log) < LOG_SIZE
            heard = [await next_of(events, tchat.Message) for _ in range(5000)]
    seqs = [message.seq for message in heard]
    assert seqs == list(range(seqs[0], seqs[0] + 5000))


async def test_removed_reader_goes_on_with_other_groups() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, _),
        group_of(server, "alice", "bob", group="lab") as (lab, _),
        server.connect("bob") as bob,
    ):
        for number in range(LOG_SIZE):
            await ops.say(str(number))
        bobs = await bob.open(GROUP)
        await bob.open("lab")
        async with bob.events(since="start") as events, bob.notices() as notices:
            await events.receive()
            await ops.kick("bob")
            with trio.fail_after(GUARD):
                while bobs.standing != "outsider":
                    await notices.receive()
            await lab.say("still here?")
            while (await next_of(events, tchat.Message)).text != "still here?":
                pass


REMOVALS = {
    "kicked": "You were removed from ops; an invite lets you in again.",
    "banned": "You were banned from this group; only its admin can lift the ban.",
    "left elsewhere": "You are no longer a member of ops.",
    "closed": "ops was closed; its messages and files are deleted.",
}


async def remove_bob(server: tchat.testing.TestServer, ops: tchat.Group, how: str) -> None:
    match how:
        case "kicked":
            await ops.kick("bob")
        case "banned":
            await ops.ban("bob")
        case "left elsewhere":
            async with server.connect("bob") as other_device:
                await (await other_device.open(GROUP)).leave()
        case "closed":
            data = str(server.directory / "server")
            words = ["-m", "tchat", "admin", "remove-group", GROUP, "--data", data]
            await trio.run_process([sys.executable, *words], capture_stdout=True)


@pytest.mark.parametrize("how", REMOVALS)
async def test_stream_of_member_ends_with_membership(how: str) -> None:
    """What was said before is delivered first, and a stream without the option goes on."""
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, _),
        server.connect("bob") as bob,
    ):
        bobs = await bob.open(GROUP)
        async with bob.events(bobs, while_member=True) as events, bob.events(bobs) as waiting:
            await ops.say("before")
            await remove_bob(server, ops, how)
            assert await texts(events, 1) == ["before"]
            with pytest.raises(tchat.Refused) as refused:
                await next_of(events, tchat.Message)
            assert str(refused.value) == REMOVALS[how]
            assert refused.value.code in (tchat.Code.NOT_MEMBER, tchat.Code.BANNED)
            with pytest.raises(tchat.Refused):
                async with bob.events(bobs, while_member=True):
                    pytest.fail("the stream began")
            assert await texts(waiting, 1) == ["before"]
            if how == "left elsewhere":
                await bob.join(GROUP)
                await ops.say("welcome back")
                assert await texts(waiting, 1) == ["welcome back"]


@pytest.mark.parametrize("chosen", [True, False])
async def test_stream_outlives_refused_request(chosen: bool) -> None:
    """The client stops following the group, until an invite lets its user in again."""
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, _),
        server.connect("bob") as bob,
    ):
        bobs = await bob.open(GROUP)
        await ops.say("before")
        async with bob.events(*[bobs][: int(chosen)]) as events:
            await ops.say("one")
            assert await texts(events, 1) == ["one"]
            await ops.kick("bob")
            with trio.fail_after(GUARD):
                while bobs.standing == "member":
                    await trio.lowlevel.checkpoint()
            with pytest.raises(tchat.Refused):
                await bob.join(GROUP)
            await bob.join(GROUP, invite=await ops.invite())
            await ops.say("two")
            assert await texts(events, 1) == ["two"]


async def test_end_of_membership_while_disconnected(tmp_path: Path) -> None:
    async with (
        behind_proxy(tmp_path, "bob") as (proxy, bob),
        connected(proxy.target, tmp_path, "alice") as alice,
    ):
        ops = await alice.join(GROUP, create=True)
        await ops.set_policy("open")
        bobs = await bob.join(GROUP)
        async with bob.events(bobs, while_member=True) as events:
            proxy.refusing = True
            proxy.cut()
            await ops.kick("bob")
            proxy.refusing = False
            with pytest.raises(tchat.Refused, match="You were removed from ops"):
                await next_of(events, tchat.Message)


async def test_unread_pages_end_with_membership() -> None:
    """A reader that is far behind learns that it does not get the rest."""
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, _),
        server.connect("bob") as bob,
    ):
        bobs = await bob.open(GROUP)
        async with bob.events(bobs, while_member=True) as events, bob.notices() as notices:
            for number in range(2 * LOG_SIZE):
                await ops.say(str(number))
            await ops.kick("bob")
            with trio.fail_after(GUARD):
                while bobs.standing != "outsider":
                    await notices.receive()
            with pytest.raises(tchat.Refused, match="You were removed from ops"):
                await events.receive_ready()


async def test_membership_needs_chosen_groups() -> None:
    async with tchat.testing.open_server() as server, server.connect("alice") as alice:
        with pytest.raises(ValueError, match="whose membership"):
            alice.events(while_member=True)


async def test_waiting_readers_learn_of_the_end() -> None:
    async def wait(events: tchat.Events) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await events.receive()

    async with (
        tchat.testing.open_server() as server,
        server.connect("alice") as alice,
        trio.open_nursery() as nursery,
    ):
        async with alice.events() as events:
            nursery.start_soon(wait, events)
            nursery.start_soon(wait, events)
            await trio.testing.wait_all_tasks_blocked()
        await wait(events)


# ------------------------------------------------------------------ connections


async def test_events_missed_while_disconnected_arrive_once(tmp_path: Path) -> None:
    async with behind_proxy(tmp_path, "alice") as (proxy, alice):
        ops = await alice.join(GROUP, create=True)
        await ops.set_policy("open")
        async with connected(proxy.target, tmp_path, "bob") as bob:
            bobs = await bob.join(GROUP)
            async with alice.events() as events, alice.notices() as notices:
                await bobs.say("before")
                assert await texts(events, 1) == ["before"]
                proxy.refusing = True
                proxy.cut()
                assert isinstance(await notices.receive(), tchat.Disconnected)
                assert not alice.connected
                await bobs.say("meanwhile")
                await (await bob.talk_to("alice")).say("psst")
                proxy.refusing = False
                assert await texts(events, 2) == ["meanwhile", "psst"]
                await bobs.say("after")
                assert await texts(events, 1) == ["after"]
                with trio.fail_after(GUARD):
                    while await notices.receive() != tchat.Connected(again=True):
                        pass


async def test_message_sent_during_cut_is_posted_once(tmp_path: Path) -> None:
    async with behind_proxy(tmp_path, "alice") as (proxy, alice):
        ops = await alice.join(GROUP, create=True)
        lost = iter([True])
        # The first answer is lost together with its connection.
        proxy.watch = lambda _, frame: (
            "cut" if frame["type"] == "ok" and next(lost, False) else "pass"
        )
        said = await ops.say("once")
        again = await ops.say("twice")
        assert (said.text, said.seq, again.seq) == ("once", 2, 3)


async def test_answers_do_not_wake_readers() -> None:
    """Whoever asked has the answer; a program that asks often would wake all its streams."""
    async with tchat.testing.open_server() as server, server.connect("alice") as alice:
        await trio.testing.wait_all_tasks_blocked(0.01)
        follower = alice._follower
        before = follower.updates
        await follower.session.my_keys()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert follower.updates == before


# ------------------------------------------------------------------ many conversations


async def test_many_conversations_are_heard_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names cost nothing, so that hundreds of people may write to a bot; it hears all of them."""
    monkeypatch.setattr(follower, "MOST_CONVERSATIONS", 3)
    names = [f"name{number}" for number in range(10)]
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "bot", "alice", *names),
    ):

        async def write(who: str, text: str) -> None:
            async with server.connect(who) as person:
                await (await person.talk_to("bot")).say(text)

        for name in ("alice", *names):
            await write(name, f"{name} while it is away")
        async with (
            server.connect("bot") as bot,
            bot.events(since="seen", cursor="bot") as events,
        ):
            heard = set()
            for _ in range(11):
                message = await next_of(events, tchat.Message)
                heard.add(message.text)
                await events.ack(message)
            assert heard == {f"{name} while it is away" for name in ("alice", *names)}
            for name in ("alice", *names, "alice"):
                await write(name, f"{name} now")
                message = await next_of(events, tchat.Message)
                assert message.text == f"{name} now"
                await message.reply("heard")
                await events.ack(message)


async def test_read_conversations_are_heard_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "MOST_CONVERSATIONS", 2)
    names = [f"name{number}" for number in range(5)]
    async with tchat.testing.open_server() as server, group_of(server, "bot", *names):
        async with server.connect("bot") as bot:
            for name in names:
                await (await bot.talk_to(name)).say(f"to {name}")
        async with (
            server.connect("bot") as bot,
            bot.events(since="start", own=True) as events,
        ):
            heard = {await events.receive_ready() for _ in names}
            assert {event and event.group.name for event in heard} == set(names)
            assert await events.receive_ready() is None


async def test_conversation_left_out_begins_with_its_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "MOST_CONVERSATIONS", 1)
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "bot", "alice", "carol"),
        server.connect("alice") as alice,
        server.connect("carol") as carol,
        server.connect("bot") as bot,
    ):
        talks = [await person.talk_to("bot") for person in (alice, carol)]
        for talk in talks:
            await talk.say("before")
        async with bot.events() as events:
            for number in (0, 1, 0, 1):
                await talks[number].say("now")
                message = await next_of(events, tchat.Message)
                assert (message.text, message.who) == ("now", ("alice", "carol")[number])

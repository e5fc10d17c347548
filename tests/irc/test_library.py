"""What the door uses of the public API: unread events, read marks, posting, asking to join."""

from __future__ import annotations

import pytest
import trio

import tchat
import tchat.testing
from tests.helpers import GUARD


async def test_unread_events_follow_the_read_mark() -> None:
    with trio.fail_after(GUARD):
        async with tchat.testing.open_server() as server, server.connect("alice") as alice:
            group = await alice.join("ops", create=True)
            said = [await group.say(str(number)) for number in range(4)]
            group.mark_read(said[1].seq)
            assert group.seen == said[1].seq
            assert group.last == said[3].seq
            async with alice.events(group, since="unread", own=True) as events:
                assert [(await events.receive()).seq for _ in range(2)] == [
                    said[2].seq,
                    said[3].seq,
                ]


async def test_posted_messages_keep_their_order() -> None:
    with trio.fail_after(GUARD):
        async with tchat.testing.open_server() as server, server.connect("alice") as alice:
            group = await alice.join("ops", create=True)
            posted = [group.post(str(number)) for number in range(20)]
            stored = [await one for one in posted]
            assert [one.text for one in stored] == [str(number) for number in range(20)]
            assert [one.seq for one in stored] == sorted(one.seq for one in stored)


async def test_asking_to_join_does_not_wait() -> None:
    with trio.fail_after(GUARD):
        async with (
            tchat.testing.open_server() as server,
            server.connect("alice") as alice,
            server.connect("bob") as bob,
        ):
            group = await alice.join("ops", create=True)
            async with alice.events(group) as events:
                asked = await bob.ask_to_join("ops")
                assert asked.standing == "waiting"
                request = await events.receive()
                assert isinstance(request, tchat.JoinRequest)
                await request.approve()
            assert (await bob.join("ops")).standing == "member"
            assert (await bob.ask_to_join("ops")).standing == "member"


async def test_asking_founds_no_group() -> None:
    with trio.fail_after(GUARD):
        async with tchat.testing.open_server() as server, server.connect("bob") as bob:
            with pytest.raises(tchat.Refused) as refused:
                await bob.ask_to_join("ops")
            assert refused.value.code == tchat.Code.NO_SUCH_GROUP
            assert bob.groups == []

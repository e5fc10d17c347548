"""Each entry of a group's log is an event of a class of its own, with what one wants to know."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trio

import tchat
import tchat.testing
from tchat.core.group.features import EVENTS
from tchat.core.group.membership import Created
from tchat.core.group.operation import Closed, Expired, Missing
from tchat.core.group.state import OPERATOR
from tchat.machine_clocks import DAY_MS
from tchat.server.control import perform
from tchat.server.limits import Limits
from tchat.server.operations import expiry
from tchat.store.open import open_store
from tests.api.people import connected, next_of
from tests.helpers import GROUP, running_server

if TYPE_CHECKING:
    from pathlib import Path


class Story:
    """All that can be done in a group, done once. Alice is the admin."""

    def __init__(self, alice: tchat.Client, bob: tchat.Client, carol: tchat.Client) -> None:
        self.alice, self.bob, self.carol = alice, bob, carol
        self.ops: tchat.Group

    async def happen(self, place: Path) -> None:
        self.ops = await self.alice.join(GROUP, create=True)
        await self.people_come()
        await self.things_are_said()
        await self.files_are_shared(place)
        await self.people_go()

    async def people_come(self) -> None:
        async with self.alice.events(self.ops) as events, trio.open_nursery() as nursery:
            nursery.start_soon(self.carol.join, GROUP)
            await (await next_of(events, tchat.JoinRequest)).approve()
            nursery.start_soon(self.in_vain, self.bob)
            await next_of(events, tchat.JoinRequest)
            await self.bob.withdraw(GROUP)
        async with self.alice.events(self.ops) as events, trio.open_nursery() as nursery:
            nursery.start_soon(self.in_vain, self.bob)
            await (await next_of(events, tchat.JoinRequest)).deny()
        invite = await self.ops.invite("bob", lasts=timedelta(hours=1))
        await self.bob.join(GROUP, invite=invite)

    async def in_vain(self, client: tchat.Client) -> None:
        with pytest.raises(tchat.Refused) as refused:
            await client.join(GROUP)
        assert refused.value.code in (tchat.Code.NOT_MEMBER, tchat.Code.DENIED)

    async def things_are_said(self) -> None:
        message = await (await self.bob.open(GROUP)).say("hello alice", reply_to=2)
        await message.edit("hello, alice!")
        await (await self.carol.open(GROUP)).say("/me waves")
        await self.ops.pin(message.seq)
        await self.ops.pin(None)
        shout = await (await self.carol.open(GROUP)).say("HELLO")
        await self.ops.delete(shout.seq)

    async def files_are_shared(self, place: Path) -> None:
        (place / "notes.txt").write_text("notes")
        file = await self.ops.send_file(place / "notes.txt")
        await file.remove()

    async def people_go(self) -> None:
        await self.ops.set_topic("our topic")
        await self.ops.set_policy("open")
        await (await self.carol.open(GROUP)).leave()
        await self.ops.kick("bob")
        await self.ops.ban("bob")
        await self.ops.unban("bob")
        await self.carol.join(GROUP)
        await self.ops.transfer("carol")


OF_OPERATORS = {Closed, Expired, Missing}

HEADER = {field.name for field in fields(tchat.Event)}


def named(event: tchat.Event) -> tuple[object, ...]:
    """Return the class of an event, who caused it, and what is particular to the class."""
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    mine = [value for name, value in values.items() if name not in HEADER]
    shown = [
        (value.number, value.name, value.size) if isinstance(value, tchat.File) else value
        for value in mine
        if not isinstance(value, datetime)
    ]
    return (type(event).__name__, event.who, *shown)


async def test_every_kind_of_event_has_its_class(tmp_path: Path) -> None:
    async with (
        tchat.testing.open_server() as server,
        server.connect("alice") as alice,
        server.connect("bob") as bob,
        server.connect("carol") as carol,
    ):
        story = Story(alice, bob, carol)
        await story.happen(tmp_path)
        log = story.ops.replica.log
        # A client of this kind begins with the latest events, after the group's foundation. The
        # operator's events have the tests below.
        assert set(EVENTS) - {type(entry.body) for entry in log} == {Created, *OF_OPERATORS}
        async with alice.events(story.ops, since="start", own=True) as events:
            heard = [await events.receive() for _ in range(story.ops.replica.last - 1)]
        async with server.connect("alice") as again:
            history = await (await again.open(GROUP)).history()
    assert [named(event) for event in heard] == [
        ("Joined", "alice", "alice", "founded"),
        ("JoinRequest", "carol"),
        ("Joined", "alice", "carol", "approved"),
        ("JoinRequest", "bob"),
        ("JoinRequestEnded", "bob", "bob"),
        ("JoinRequest", "bob"),
        ("JoinRequestEnded", "alice", "bob"),
        ("Invited", "alice", "bob"),
        ("Joined", "bob", "bob", "invited"),
        ("Message", "bob", "hello alice", False, 2, True),
        ("Edited", "bob", 10, "hello, alice!"),
        ("Message", "carol", "waves", True, None, False),
        ("Pinned", "alice", 10),
        ("Pinned", "alice", None),
        # The next message was deleted: its text is nowhere any more.
        ("Deleted", "alice", 15),
        ("FileShared", "alice", (1, "notes.txt", 5)),
        ("FileRemoved", "alice", 1),
        ("TopicSet", "alice", "our topic"),
        ("PolicySet", "alice", "open"),
        ("Left", "carol", "carol", "left"),
        ("Left", "alice", "bob", "kicked"),
        ("Left", "alice", "bob", "banned"),
        ("Unbanned", "alice", "bob"),
        ("Joined", "carol", "carol", "open"),
        ("AdminChanged", "alice", "carol"),
    ]
    assert [event.seq for event in heard] == [
        n for n in range(1, story.ops.replica.last + 1) if n != 15
    ]
    assert all(event.mine == (event.who == "alice") for event in heard)
    assert all(abs(datetime.now(UTC) - event.at) < timedelta(minutes=5) for event in heard)
    (erased,) = [event for event in history if isinstance(event, tchat.Other)]
    assert (erased.seq, erased.kind) == (15, "erased")


async def test_closing_a_group_is_an_event() -> None:
    async with tchat.testing.open_server() as server, server.connect("alice") as alice:
        ops = await alice.join(GROUP, create=True)
        async with alice.events(ops) as events:
            await perform(server.directory / "server", "remove-group", group=GROUP)
            closed = await next_of(events, tchat.GroupClosed)
    assert (closed.who, closed.sentence) == (OPERATOR, f"{OPERATOR} closed the group")


async def test_expiry_of_messages_is_an_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "CHECK_SECONDS", 0.01)
    now = [20_000 * DAY_MS]
    limits = replace(Limits(), keep_messages=DAY_MS).without_rates()
    async with (
        open_store(tmp_path / "server") as store,
        running_server(store, limits, clock=lambda: now[0]) as server,
        connected(server.address, tmp_path, "alice") as alice,
    ):
        ops = await alice.join(GROUP, create=True)
        async with alice.events(ops) as events:
            message = await ops.say("hello")
            now[0] += 3 * DAY_MS
            expired = await next_of(events, tchat.MessagesExpired)
    assert (expired.who, expired.upto) == (OPERATOR, message.seq)


async def test_one_shape_matches_in_a_match_statement() -> None:
    async with (
        tchat.testing.open_server() as server,
        server.connect("alice") as alice,
        server.connect("bob") as bob,
    ):
        ops = await alice.join(GROUP, create=True)
        await ops.set_policy("open")
        async with alice.events(ops) as events:
            await (await bob.join(GROUP)).say("!ping")
            async for event in events:
                match event:
                    case tchat.Joined(name="bob"):
                        await event.say("welcome")
                    case tchat.Message(text="!ping"):
                        await event.reply("pong")
                        break
        bobs = await bob.open(GROUP)
        said = [e for e in await bobs.history() if isinstance(e, tchat.Message)]
    assert [(m.who, m.text, m.reply_to) for m in said] == [
        ("bob", "!ping", None),
        ("alice", "welcome", None),
        ("alice", "pong", said[0].seq),
    ]

"""A damaged log: its group answers log_damaged, and everything else goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio.testing

from tchat.core.group.feature import Event
from tchat.core.group.messages import Delete, Edit, Post
from tchat.core.protocol.frames import (
    Attach,
    Attached,
    Failed,
    FileListRequest,
    HistoryRequest,
    Ok,
    Seen,
    SubscriptionEnded,
)
from tchat.errors import Code
from tchat.server.groups import actor
from tchat.server.operations import expiry
from tchat.store.base import DataDamaged, LogDamaged
from tests.faulty_store import FaultyStore
from tests.helpers import (
    GROUP,
    NO_RATE_LIMITS,
    log_of,
    members,
    raw_client,
    running_server,
    texts,
)

if TYPE_CHECKING:
    from typing import Any

DAMAGED = LogDamaged(GROUP, 2, 3, "the checksum is wrong")


@pytest.fixture
def store() -> FaultyStore:
    """Return the store of the server."""
    return FaultyStore()


async def fill(store: FaultyStore) -> None:
    """Store two messages in each of two groups of alice and bob."""
    async with running_server(store) as server:
        for group in (GROUP, "lab"):
            async with members(server, "alice", "bob", group=group) as (alice, _):
                await alice.post("one", group)
                await alice.post("two", group)


def here(call: dict[str, Any]) -> bool:
    """Return whether a call of the store is about the group."""
    return bool(call["group"] == GROUP)


async def test_an_unreadable_group_refuses_everything(store: FaultyStore) -> None:
    await fill(store)
    store.fail(DAMAGED, "load", when=here)
    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        for number, request in enumerate(
            (
                Attach(1, GROUP, 0),
                Post(2, 1, GROUP, "three"),
                HistoryRequest(3, GROUP, 3),
                FileListRequest(4, GROUP),
            ),
            start=1,
        ):
            await alice.send(Seen(GROUP, 2), request)
            answer = await alice.expect(Failed)
            assert (answer.re, answer.code) == (number, Code.LOG_DAMAGED)
        assert (await alice.attach(group="lab")).standing == "member"
        await alice.post("three", "lab")
        failed = [call for call in store.calls if call.operation == "load" and not call.done]
        assert len(failed) == 1, "the log is not read for each request"


async def test_an_unreadable_group_is_read_again_later(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor, "DAMAGED_SECONDS", 0.0)
    await fill(store)
    store.fail(DAMAGED, "load", times=3, when=here)
    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        while isinstance(answer := await alice.ask(lambda i: Attach(i, GROUP, 0)), Failed):
            assert answer.code == Code.LOG_DAMAGED
        assert isinstance(answer, Attached)
        assert texts(await alice.events(5)) == ["one", "two"]


async def test_a_subscription_ends_where_the_log_is_damaged(store: FaultyStore) -> None:
    await fill(store)
    store.fail(DAMAGED, "read", when=lambda call: here(call) and call["after"] == 3)
    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        await alice.attach(after=3)
        ended = await alice.expect(SubscriptionEnded)
        assert (ended.group, ended.code) == (GROUP, Code.LOG_DAMAGED)
        await alice.post("live", "lab")
        await alice.post("still accepted")
        assert not [frame for frame in await alice.before_pong() if isinstance(frame, Event)]
        await alice.attach(after=5)
        assert texts(await alice.events(1)) == ["still accepted"]


async def test_a_failed_append_refuses_its_commands(store: FaultyStore) -> None:
    async with running_server(store) as server, members(server, "alice", "bob") as (alice, bob):
        store.fail(DAMAGED, "append", times=1)
        assert (await alice.refusal(Post, "lost")).code == Code.LOG_DAMAGED
        await alice.post("kept")
        assert texts(await bob.events(1)) == ["kept"]
        assert texts(await log_of(store)) == ["kept"]


async def test_only_commands_about_damaged_messages_are_refused(store: FaultyStore) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        one, two = await alice.post("one"), await alice.post("two")
        store.fail(DAMAGED, "find", when=lambda call: one in call["seqs"])
        await alice.send(
            Edit(91, 91, GROUP, one, "first"),
            Edit(92, 92, GROUP, two, "second"),
            Post(93, 93, GROUP, "third"),
            Delete(94, 94, GROUP, one),
        )
        answers: list[Ok | Failed] = []
        while len(answers) < 4:
            if isinstance(frame := await alice.receive(), Ok | Failed):
                answers.append(frame)
        assert [(one.re, getattr(one, "code", "ok")) for one in answers] == [
            (91, Code.LOG_DAMAGED),
            (92, "ok"),
            (93, "ok"),
            (94, Code.LOG_DAMAGED),
        ]


async def test_damage_is_no_lack_of_a_group(store: FaultyStore) -> None:
    async with running_server(store) as server, members(server, "alice", "bob") as (alice, _):
        store.fail(DataDamaged("malformed"), "share_a_group")
        refusal = await alice.refusal(Post, "hello", group="@alice,bob")
        assert refusal.code == Code.LOG_DAMAGED


async def test_unsaved_snapshots_and_positions_do_no_harm(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor, "SAVE_SECONDS", 0.0)
    store.fail(DAMAGED, "save_snapshot", "set_cursors")
    async with running_server(store) as server, members(server, "alice") as (alice,):
        seq = await alice.post("one")
        await alice.send(Seen(GROUP, seq))
        while not store.count("set_cursors"):
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await alice.attach()).read == seq


async def test_sweeps_survive_damage(store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "CHECK_SECONDS", 0.0)
    broken = DataDamaged("malformed")
    store.fail(broken, "files.digests", "files.sweep", "maintenance.expired")
    async with (
        running_server(store, NO_RATE_LIMITS) as server,
        members(server, "alice") as (alice,),
    ):
        await alice.post("one")
    assert not any("fault" in line for line in server.console)

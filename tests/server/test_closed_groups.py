"""A group whose last member has left is erased from the disk, and can be founded anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.core.group.files import FileShared
from tchat.core.group.membership import Join, Leave
from tchat.core.group.messages import Edit
from tchat.core.group.settings import SetPolicy, SetTopic
from tchat.core.protocol.frames import Seen
from tchat.server.groups.state_cache import IDLE_TAIL, StateCache
from tchat.store.open import open_store
from tchat.store.sqlite import closing as closing_module
from tests.helpers import (
    GROUP,
    log_of,
    members,
    raw_client,
    running_server,
    session_at,
    texts,
    until,
)
from tests.server.file_transfers import share
from tests.server.requests import search
from tests.store.batches import last_seq
from tests.store.logs import files_with

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.helpers import RawClient

MARK = "marzipan4711"


async def _talk(alice: RawClient, group: str = GROUP) -> None:
    """Leave texts in the log, the search index and the snapshot."""
    await alice.command(SetTopic, f"{MARK}t", group=group)
    target = await alice.post(f"{MARK} one", group)
    await alice.command(Edit, target, f"{MARK} two", group=group)
    await search(alice, MARK)
    await alice.command(Edit, target, f"{MARK} three", group=group)
    for n in range(IDLE_TAIL):
        await alice.post(f"{MARK} {n} {'x' * (n * 40)}", group)


async def test_closed_group_is_gone_from_the_disk(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        async with (
            running_server(store) as server,
            members(server, "alice", "bob") as (alice, bob),
        ):
            await bob.command(Join, group="dev")
            kept = await bob.post(f"kept {MARK[::-1]}", "dev")
            await _talk(alice)
            await share(server, alice, b"water boils", f"{MARK}.txt")
            await bob.send(Seen(GROUP, 3))
            await bob.command(Leave)
            await alice.send(Seen(GROUP, 5))
            await alice.post("the position is recorded, and not saved yet")
            assert files_with(MARK, tmp_path)
            last = (await alice.command(Leave)).seq
            assert await store.maintenance.settle()
            assert files_with(MARK, tmp_path) == []
            assert await search(alice, MARK) == []
            assert await search(bob, "kept") == [("dev", kept, f"kept {MARK[::-1]}")]
        assert await store.cursors(GROUP) == {}
        assert await store.files.page(GROUP, 10, 10, 0) == []
        assert await last_seq(store, GROUP) == last
    assert files_with(MARK, tmp_path) == []


async def test_state_of_a_closed_group_survives_a_replay(tmp_path: Path) -> None:
    """The command and file numbers must not be used again."""
    async with open_store(tmp_path) as store:
        async with running_server(store) as server, members(server, "alice") as (alice,):
            await share(server, alice, b"water boils", "one")
            await share(server, alice, b"steam rises", "two")
            done = await alice.command(Leave)
        group, cursors, _ = await StateCache(store, GROUP).load()
        assert (group.seq, group.numbered, group.members, cursors) == (done.seq, 2, {}, {})
        assert (group.topic, group.keys, group.floor) == ("", {}, 0)
        async with running_server(store) as server, raw_client(server.address, "bob") as bob:
            await bob.command(Join)
            await share(server, bob, b"ice melts", "three")
            shared = (await log_of(store))[-1]
            assert isinstance(shared.body, FileShared)
            assert (shared.seq, shared.body.number) == ((done.seq or 0) + 2, 3)


async def test_repeated_leave_is_recognized_after_the_erasure() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.command(Leave, n=50)
        await bob.command(Leave)
        await bob.command(Join)
        assert (await alice.command(Leave, n=50)).seq is None


async def test_sleeping_client_is_no_member_any_more(tmp_path: Path) -> None:
    """Alice leaves on one device as the last member; the other one was not connected."""
    async with open_store(tmp_path) as store, running_server(store) as server:
        async with session_at(server.address, "alice") as asleep:
            ops = await asleep.enter(GROUP)
            await asleep.post(ops, MARK).wait()
        async with raw_client(server.address, "alice") as alice:
            await alice.command(Leave)
        async with session_at(server.address, "alice") as awake:
            ops = awake.follow(GROUP)
            await until(awake, lambda: ops.standing is not None)
            assert (ops.standing, ops.log) == ("outsider", [])
        async with raw_client(server.address, "bob") as bob:
            await bob.command(Join)
            await bob.command(SetPolicy, "open")
        async with session_at(server.address, "alice") as again:
            ops = await again.enter(GROUP)
            await until(again, lambda: ops.caught_up)
            assert ops.state.admin_name == "bob"
            assert texts(ops.log) == []


async def test_client_that_stays_connected_follows_a_refounding() -> None:
    async with (
        running_server() as server,
        session_at(server.address, "alice") as alice,
        raw_client(server.address, "bob") as bob,
    ):
        ops = await alice.enter(GROUP)
        await alice.post(ops, "of the former life").wait()
        await alice.request(lambda i, n: Leave(i, n, GROUP))
        await until(alice, lambda: ops.standing == "outsider")
        assert ops.state.members == {}
        await bob.command(Join)
        await bob.command(SetPolicy, "open")
        await bob.post("new")
        await alice.enter(GROUP)
        await until(alice, lambda: texts(ops.log)[-1:] == ["new"])
        assert ops.state.admin_name == "bob"


async def test_others_post_while_a_long_group_is_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing_module, "SLICE_SECONDS", 0)  # a segment in each transaction
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice") as (alice,),
        members(server, "bob", group="dev") as (bob,),
    ):
        for n in range(30):
            await alice.post(f"{MARK} {n}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.command, Leave)
            for n in range(30):
                await bob.post(f"text {n}", "dev")
        assert await store.maintenance.settle()
        assert files_with(MARK, tmp_path) == []
        assert len(texts(await log_of(store, "dev"))) == 30

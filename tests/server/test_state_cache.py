"""Snapshots of the folded state save time and change nothing: the log is the truth."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.feature import Event
from tchat.core.group.features import encode_event
from tchat.core.group.membership import Join, Leave
from tchat.core.group.messages import Delete, Edit, Post, Posted
from tchat.core.group.rules import apply
from tchat.core.group.settings import SetTopic
from tchat.core.group.snapshots import MADE_WITH, freeze_whole, thaw_whole
from tchat.core.group.state import Group
from tchat.core.protocol.frames import Seen
from tchat.server.groups import state_cache
from tchat.server.groups.state_cache import IDLE_TAIL, StateCache
from tchat.store.base import PAGE_LIMIT, StateSnapshot, Store
from tchat.store.open import open_store
from tests.core.script import as_members_get_it
from tests.faulty_store import FaultyStore
from tests.helpers import (
    GROUP,
    RawClient,
    RunningServer,
    log_of,
    members,
    raw_client,
    running_server,
    texts,
)
from tests.memory_store import MemoryStore
from tests.server.requests import attach_recent, state
from tests.store.batches import last_seq

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MANY = 2 * IDLE_TAIL


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Open a SQLite store."""
    async with open_store(tmp_path) as store:
        yield store


@asynccontextmanager
async def crashing_server(store: Store) -> AsyncIterator[RunningServer]:
    """Run a server that crashes at the end of the block."""
    with trio.CancelScope() as power:
        async with running_server(store) as server:
            yield server
            power.cancel()


async def saved_snapshot(store: Store) -> StateSnapshot:
    """Return the saved snapshot."""
    snapshot = (await store.load(GROUP)).snapshot
    assert snapshot is not None
    return snapshot


async def replayed(store: Store) -> Group:
    """Return the state by replaying the log."""
    group = Group()
    for event in await log_of(store):
        apply(group, event)
    return group


async def post_many(person: RawClient, number: int) -> None:
    """Post `number` messages."""
    for n in range(number):
        await person.post(f"text {n}")


async def make_history(store: Store) -> RawClient:
    """Run a server that saves a snapshot of a group with some history; return Alice's client."""
    async with running_server(store) as server, members(server, "alice", "bob") as (alice, _):
        await alice.command(SetTopic, "What runs?", n=2**40)
        for n in range(MANY):
            await alice.command(Post, f"text {n}", n=2**40 + 1 + n)
        await alice.command(Edit, MANY, "edited", n=2**40 + 900)
        await alice.send(Seen(GROUP, MANY))
        await alice.before_pong()
    return alice


async def received_topic(store: Store) -> str:
    """Start a server; return the topic that a member receives."""
    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        await attach_recent(alice, 0)
        return (await state(alice)).topic


async def replace_snapshot(store: Store, snapshot: StateSnapshot) -> None:
    """Replace the saved snapshot."""
    await store.save_snapshot(GROUP, snapshot)
    assert await saved_snapshot(store) == snapshot


def with_another_topic(snapshot: StateSnapshot) -> StateSnapshot:
    """Return the snapshot with another topic than the log has, to see whether it is used."""
    group = thaw_whole(snapshot.data, snapshot.seq)
    group.topic = "as it was snapshot"
    return replace(snapshot, data=freeze_whole(group))


# ------------------------------------------------------------------ saving and loading


async def test_stopping_server_saves_a_snapshot(store: Store) -> None:
    await make_history(store)
    snapshot = await saved_snapshot(store)
    assert snapshot.made_with == MADE_WITH
    assert thaw_whole(snapshot.data, snapshot.seq) == await replayed(store)
    assert snapshot.seq == await last_seq(store, GROUP)


async def test_restarted_server_has_the_same_state(store: Store) -> None:
    await make_history(store)
    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        answer = await attach_recent(alice, 0)
        assert (answer.seq, answer.read) == (await last_seq(store, GROUP), MANY)
        assert await state(alice) == as_members_get_it(await replayed(store))


async def test_restarted_server_starts_from_the_snapshot(store: Store) -> None:
    await make_history(store)
    await replace_snapshot(store, with_another_topic(await saved_snapshot(store)))
    assert await received_topic(store) == "as it was snapshot"


async def test_repeated_command_is_recognized_after_a_restart(store: Store) -> None:
    was = await make_history(store)
    async with (
        running_server(store) as server,
        raw_client(server.address, "alice", was.client) as alice,
    ):
        assert (await alice.attach(after=2**40)).counted == 2**40 + 900
        for done in (2**40 - 1000, 2**40, 2**40 + MANY, 2**40 + 900):
            assert (await alice.command(Post, "again", n=done)).seq is None
        for new in (2**40 + 899, 2**40 + 901):
            assert (await alice.command(Post, "anew", n=new)).seq is not None
    assert texts(await log_of(store)).count("anew") == 2
    assert "again" not in texts(await log_of(store))


async def test_messages_can_be_changed_after_a_restart(
    store: Store,
) -> None:
    await make_history(store)
    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        assert (await alice.command(Delete, MANY, n=2**41)).seq
        await alice.command(Edit, MANY - 1, "changed", n=2**41 + 1)
        await attach_recent(alice, 0)
        assert await state(alice) == as_members_get_it(await replayed(store))
    assert "edited" not in texts(await log_of(store))


async def test_closed_group_is_founded_again_after_a_restart(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        await post_many(alice, MANY)
        await alice.command(Leave, n=2 * MANY)
    async with running_server(store) as server, raw_client(server.address, "bob") as bob:
        await bob.command(Join)
        await attach_recent(bob, 9)
        got = await state(bob)
        assert (list(got.members), got.floor) == (["bob"], MANY + 3)


# ------------------------------------------------------------------ after a crash


async def test_events_after_the_snapshot_are_replayed(store: Store) -> None:
    await make_history(store)
    snapshot = await saved_snapshot(store)
    async with crashing_server(store) as server, raw_client(server.address, "alice") as alice:
        for n in range(MANY):
            await alice.command(Post, f"later {n}", n=2**41 + n)
        await alice.command(SetTopic, "behind", n=2**42)
    assert await saved_snapshot(store) == snapshot
    async with (
        running_server(store) as server,
        raw_client(server.address, "alice", alice.client) as alice,
    ):
        await attach_recent(alice, 0)
        assert await state(alice) == as_members_get_it(await replayed(store))
        assert (await alice.command(Post, "again", n=2**41)).seq is None


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> FaultyStore:
    """Return a store for a server whose busy groups save snapshots often."""
    monkeypatch.setattr(state_cache, "BUSY_TAIL", MANY)
    return FaultyStore()


async def test_busy_group_saves_snapshots_in_the_background(faulty: FaultyStore) -> None:
    write = faulty.hold("save_snapshot")
    async with crashing_server(faulty) as server, members(server, "alice", "bob") as (alice, bob):
        await post_many(alice, MANY)
        await write.reached.wait()
        await alice.post("nobody waits for the disk")
        assert texts(await bob.events(MANY + 1))[-1] == "nobody waits for the disk"
        write.release()
        await faulty.wait_done("save_snapshot")
    snapshot = await saved_snapshot(faulty)
    log = (await log_of(faulty))[: snapshot.seq]
    assert snapshot.seq >= MANY
    assert thaw_whole(snapshot.data, snapshot.seq).seq == log[-1].seq
    async with running_server(faulty) as server, raw_client(server.address, "alice") as alice:
        await attach_recent(alice, 0)
        assert await state(alice) == as_members_get_it(await replayed(faulty))


async def test_full_disk_prevents_only_the_snapshot(faulty: FaultyStore) -> None:
    faulty.fill("save_snapshot")
    async with running_server(faulty) as server, members(server, "alice") as (alice,):
        await post_many(alice, 3 * MANY)
        assert faulty.count("save_snapshot")
        await alice.post("still here")
    assert not [line for line in server.console if "fault" in line]
    assert (await faulty.load(GROUP)).snapshot is None
    assert texts(await log_of(faulty))[-1] == "still here"


# ------------------------------------------------------------------ when to save


async def test_short_log_gets_no_snapshot(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        await post_many(alice, IDLE_TAIL // 2)
    assert (await store.load(GROUP)).snapshot is None


async def test_few_more_events_cause_no_new_snapshot(store: Store) -> None:
    await make_history(store)
    snapshot = await saved_snapshot(store)
    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        await alice.command(Post, "one more", n=2**41)
    assert await saved_snapshot(store) == snapshot


async def test_larger_state_is_saved_less_often() -> None:
    store = MemoryStore()
    cache = StateCache(store, GROUP)
    await write(store, 10 * IDLE_TAIL)
    group, *_ = await cache.load()
    full = group.copy()
    full.counts = {("alice", n.to_bytes(8, "big")): (n, 1) for n in range(100 * IDLE_TAIL)}
    await cache.save(full)
    assert (await store.load(GROUP)).snapshot is None
    await cache.save(group)
    assert (await saved_snapshot(store)).seq == group.seq


# ------------------------------------------------------------------ unusable snapshots


@pytest.mark.parametrize("made_with", ["", "rules 0, unicode 3.2.0", f"{MADE_WITH}.1"])
async def test_snapshot_by_other_rules_is_ignored_and_replaced(
    store: Store, made_with: str
) -> None:
    await make_history(store)
    changed = with_another_topic(await saved_snapshot(store))
    await replace_snapshot(store, replace(changed, made_with=made_with))
    assert await received_topic(store) == "What runs?"
    snapshot = await saved_snapshot(store)
    assert snapshot.made_with == MADE_WITH
    assert thaw_whole(snapshot.data, snapshot.seq) == await replayed(store)


@pytest.mark.parametrize("at", [0, 31, 32, 100, -1])
async def test_damaged_snapshot_is_ignored_and_replaced(store: Store, at: int) -> None:
    await make_history(store)
    snapshot = await saved_snapshot(store)
    damaged = bytearray(snapshot.data)
    damaged[at] ^= 1
    await replace_snapshot(store, replace(snapshot, data=bytes(damaged)))
    assert await received_topic(store) == "What runs?"
    assert await saved_snapshot(store) == snapshot


async def test_empty_snapshot_is_ignored(store: Store) -> None:
    await make_history(store)
    await replace_snapshot(store, replace(await saved_snapshot(store), data=b""))
    assert await received_topic(store) == "What runs?"


# ------------------------------------------------------------------ large states


async def test_saving_costs_little_compared_to_the_events() -> None:
    """A state is saved only after a number of events in proportion to its size."""
    store = FaultyStore()
    await write(store, 1)
    cache = StateCache(store, GROUP)
    group, *_ = await cache.load()
    group.counts = {("alice", bytes([n])): (1, 1) for n in range(200)}
    events = 0
    for _ in range(10 * IDLE_TAIL):
        events += 1
        group.seq += 1
        await cache.save(group)
    saved = store.count("save_snapshot")
    assert 0 < saved * (IDLE_TAIL + group.count_entries() // 8) <= events


@pytest.mark.parametrize("limit", [0, 1 << 30])
async def test_large_state_is_saved_and_loaded_alike(
    monkeypatch: pytest.MonkeyPatch, store: Store, limit: int
) -> None:
    """Large ones are encoded and decoded in a thread."""
    monkeypatch.setattr(state_cache, "LARGE_ENTRIES", limit)
    monkeypatch.setattr(state_cache, "LARGE_BYTES", limit)
    await make_history(store)
    snapshot = await saved_snapshot(store)
    assert thaw_whole(snapshot.data, snapshot.seq) == await replayed(store)
    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        await attach_recent(alice, 0)
        assert await state(alice) == as_members_get_it(await replayed(store))


# ------------------------------------------------------------------ long logs


async def write(store: Store, number: int) -> None:
    """Append long messages up to event `number`, each in a batch of its own."""
    for seq in range(await last_seq(store, GROUP) + 1, number + 1):
        event = Event(GROUP, seq, seq, "alice", bytes(8), seq, Posted("x" * 2000))
        await store.append(GROUP, seq - 1, 1, encode_event(event))


@pytest.mark.parametrize("made_with", [MADE_WITH, "other rules"])
@pytest.mark.parametrize("at", [1, 40, 100, 150])
async def test_snapshot_at_any_event_restores_the_state(made_with: str, at: int) -> None:
    store = MemoryStore()
    await write(store, at)
    group, *_ = await StateCache(store, GROUP).load()
    await replace_snapshot(store, StateSnapshot(at, made_with, freeze_whole(group)))
    await write(store, 150)
    page = await store.read(GROUP, 0)
    assert page is not None
    assert len(page.frames) < PAGE_LIMIT
    assert page.last < 100
    assert (await StateCache(store, GROUP).load())[0] == await replayed(store)

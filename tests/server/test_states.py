"""A state that was kept saves time and changes nothing: what the log says is so, with it or not."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.commands import Delete, Edit, Join, Leave, Post, SetTopic
from tchat.core.group.events import Event, Posted, encode_event
from tchat.core.group.snapshots import MADE_WITH, freeze_whole, thaw_whole
from tchat.core.group.state import Group
from tchat.core.protocol.frames import Seen
from tchat.server.groups import state_cache as states
from tchat.server.groups.state_cache import AT_REST, StateCache
from tchat.store.base import PAGE_LIMIT, StateSnapshot, StorageFull, Store
from tchat.store.open import open_store
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
from tests.server.asking import attach_recent, state
from tests.store.batches import last_seq

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MANY = 2 * AT_REST


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Open a store such as a server runs on."""
    async with open_store(tmp_path) as store:
        yield store


@asynccontextmanager
async def doomed_server(store: Store) -> AsyncIterator[RunningServer]:
    """Serve for the length of the block, and then stop at once, with nothing put in order."""
    with trio.CancelScope() as power:
        async with running_server(store) as server:
            yield server
            power.cancel()


async def kept_of(store: Store) -> StateSnapshot:
    """Return the state that was kept of the group."""
    kept = (await store.load(GROUP)).snapshot
    assert kept is not None
    return kept


async def replayed(store: Store) -> Group:
    """Return what the group's log leads to."""
    group = Group()
    for event in await log_of(store):
        group.apply(event)
    return group


async def posts(person: RawClient, number: int) -> None:
    """Say so many things."""
    for n in range(number):
        await person.post(f"text {n}")


async def with_a_past(store: Store) -> RawClient:
    """Let a group have a past, of which the state is kept; return Alice as she was last."""
    async with running_server(store) as server, members(server, "alice", "bob") as (alice, _):
        await alice.command(SetTopic, "What runs?", n=2**40)
        for n in range(MANY):
            await alice.command(Post, f"text {n}", n=2**40 + 1 + n)
        await alice.command(Edit, MANY, "edited", n=2**40 + 900)
        await alice.send(Seen(GROUP, MANY))
        await alice.before_pong()
    return alice


async def topic_seen(store: Store) -> str:
    """Start a server; return the topic that it gives a member."""
    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        await attach_recent(alice, 0)
        return (await state(alice)).topic


async def keep(store: Store, kept: StateSnapshot) -> None:
    """Put a state in the place of the one that was kept."""
    await store.save_snapshot(GROUP, kept)
    assert await kept_of(store) == kept


def another_topic(kept: StateSnapshot) -> StateSnapshot:
    """Return a state by which one sees that it was used: the log says something else."""
    group = thaw_whole(kept.data, kept.seq)
    group.topic = "as it was kept"
    return replace(kept, data=freeze_whole(group))


# ------------------------------------------------------------------ there and back


async def test_a_server_that_stops_keeps_what_its_log_leads_to(store: Store) -> None:
    await with_a_past(store)
    kept = await kept_of(store)
    assert kept.made_with == MADE_WITH
    assert thaw_whole(kept.data, kept.seq) == await replayed(store)
    assert kept.seq == await last_seq(store, GROUP)


async def test_after_a_restart_members_get_the_very_same_state(store: Store) -> None:
    await with_a_past(store)
    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        answer = await attach_recent(alice, 0)
        assert (answer.seq, answer.read) == (await last_seq(store, GROUP), MANY)
        assert await state(alice) == replace(await replayed(store), counts={})


async def test_a_state_that_was_kept_is_what_a_server_goes_on_from(store: Store) -> None:
    await with_a_past(store)
    await keep(store, another_topic(await kept_of(store)))
    assert await topic_seen(store) == "as it was kept"


async def test_a_command_that_comes_again_is_recognised_after_a_restart(store: Store) -> None:
    was = await with_a_past(store)
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


async def test_what_was_said_before_a_restart_is_changed_and_deleted_behind_it(
    store: Store,
) -> None:
    await with_a_past(store)
    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        assert (await alice.command(Delete, MANY, n=2**41)).seq
        await alice.command(Edit, MANY - 1, "changed", n=2**41 + 1)
        await attach_recent(alice, 0)
        assert await state(alice) == replace(await replayed(store), counts={})
    assert "edited" not in texts(await log_of(store))


async def test_a_group_that_everybody_left_is_founded_anew_after_a_restart(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        await posts(alice, MANY)
        await alice.command(Leave, n=2 * MANY)
    async with running_server(store) as server, raw_client(server.address, "bob") as bob:
        await bob.command(Join)
        await attach_recent(bob, 9)
        got = await state(bob)
        assert (list(got.members), got.floor) == (["bob"], MANY + 3)


# ------------------------------------------------------------------ after a crash


async def test_what_was_said_since_a_state_was_kept_is_in_the_log(store: Store) -> None:
    await with_a_past(store)
    kept = await kept_of(store)
    async with doomed_server(store) as server, raw_client(server.address, "alice") as alice:
        for n in range(MANY):
            await alice.command(Post, f"later {n}", n=2**41 + n)
        await alice.command(SetTopic, "behind", n=2**42)
    assert await kept_of(store) == kept
    async with (
        running_server(store) as server,
        raw_client(server.address, "alice", alice.client) as alice,
    ):
        await attach_recent(alice, 0)
        assert await state(alice) == replace(await replayed(store), counts={})
        assert (await alice.command(Post, "again", n=2**41)).seq is None


class WatchedStore(MemoryStore):
    """Says when a state was kept; keeps it when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = trio.Event()
        self.asked = trio.Event()
        self.kept = trio.Event()
        self.failure: Exception | None = None

    async def save_snapshot(self, group: str, kept: StateSnapshot) -> None:
        self.asked.set()
        await self.gate.wait()
        if self.failure:
            raise self.failure
        await super().save_snapshot(group, kept)
        self.kept.set()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> WatchedStore:
    """Give a store of a server that soon keeps what it works at."""
    monkeypatch.setattr(states, "UNDER_WAY", MANY)
    return WatchedStore()


async def test_a_busy_group_keeps_its_state_beside_its_work(watched: WatchedStore) -> None:
    async with doomed_server(watched) as server, members(server, "alice", "bob") as (alice, bob):
        await posts(alice, MANY)
        await watched.asked.wait()
        await alice.post("nobody waits for the disk")
        assert texts(await bob.events(MANY + 1))[-1] == "nobody waits for the disk"
        watched.gate.set()
        await watched.kept.wait()
    kept = await kept_of(watched)
    log = (await log_of(watched))[: kept.seq]
    assert kept.seq >= MANY
    assert thaw_whole(kept.data, kept.seq).seq == log[-1].seq
    async with running_server(watched) as server, raw_client(server.address, "alice") as alice:
        await attach_recent(alice, 0)
        assert await state(alice) == replace(await replayed(watched), counts={})


async def test_a_full_disk_keeps_no_state_and_nobody_from_talking(watched: WatchedStore) -> None:
    watched.failure = StorageFull()
    watched.gate.set()
    async with running_server(watched) as server, members(server, "alice") as (alice,):
        await posts(alice, 3 * MANY)
        assert watched.asked.is_set()
        await alice.post("still here")
    assert not [line for line in server.console if "fault" in line]
    assert (await watched.load(GROUP)).snapshot is None
    assert texts(await log_of(watched))[-1] == "still here"


# ------------------------------------------------------------------ when it is worth it


async def test_a_short_log_is_not_worth_a_state(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        await posts(alice, AT_REST // 2)
    assert (await store.load(GROUP)).snapshot is None


async def test_a_state_is_not_kept_again_for_a_few_events_more(store: Store) -> None:
    await with_a_past(store)
    kept = await kept_of(store)
    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        await alice.command(Post, "one more", n=2**41)
    assert await kept_of(store) == kept


async def test_the_more_is_in_a_state_the_more_has_to_happen_before_it_is_kept() -> None:
    store = MemoryStore()
    keeper = StateCache(store, GROUP)
    await write(store, 10 * AT_REST)
    group, _ = await keeper.load()
    full = group.copy()
    full.counts = {("alice", n.to_bytes(8, "big")): (n, 1) for n in range(100 * AT_REST)}
    await keeper.keep(full)
    assert (await store.load(GROUP)).snapshot is None
    await keeper.keep(group)
    assert (await kept_of(store)).seq == group.seq


# ------------------------------------------------------------------ what is passed over


@pytest.mark.parametrize("made_with", ["", "rules 0, unicode 3.2.0", f"{MADE_WITH}.1"])
async def test_a_state_by_other_rules_is_passed_over_and_made_anew(
    store: Store, made_with: str
) -> None:
    await with_a_past(store)
    changed = another_topic(await kept_of(store))
    await keep(store, replace(changed, made_with=made_with))
    assert await topic_seen(store) == "What runs?"
    kept = await kept_of(store)
    assert kept.made_with == MADE_WITH
    assert thaw_whole(kept.data, kept.seq) == await replayed(store)


@pytest.mark.parametrize("at", [0, 31, 32, 100, -1])
async def test_a_damaged_state_is_passed_over_and_made_anew(store: Store, at: int) -> None:
    await with_a_past(store)
    kept = await kept_of(store)
    damaged = bytearray(kept.data)
    damaged[at] ^= 1
    await keep(store, replace(kept, data=bytes(damaged)))
    assert await topic_seen(store) == "What runs?"
    assert await kept_of(store) == kept


async def test_a_state_of_which_nothing_is_left_is_passed_over(store: Store) -> None:
    await with_a_past(store)
    await keep(store, replace(await kept_of(store), data=b""))
    assert await topic_seen(store) == "What runs?"


# ------------------------------------------------------------------ long logs


async def write(store: Store, number: int) -> None:
    """Let Alice say so many long things, each in a batch of its own."""
    for seq in range(await last_seq(store, GROUP) + 1, number + 1):
        event = Event(GROUP, seq, seq, "alice", bytes(8), seq, Posted("x" * 2000))
        await store.append(GROUP, seq - 1, 1, encode_event(event))


@pytest.mark.parametrize("made_with", [MADE_WITH, "other rules"])
@pytest.mark.parametrize("at", [1, 40, 100, 150])
async def test_a_state_anywhere_in_a_log_of_many_pages_leads_to_its_end(
    made_with: str, at: int
) -> None:
    store = MemoryStore()
    await write(store, at)
    group, _ = await StateCache(store, GROUP).load()
    await keep(store, StateSnapshot(at, made_with, freeze_whole(group)))
    await write(store, 150)
    page = await store.read(GROUP, 0)
    assert page is not None
    assert len(page.frames) < PAGE_LIMIT
    assert page.last < 100
    assert (await StateCache(store, GROUP).load())[0] == await replayed(store)

"""Fan-out and catch-up: every reader gets every event once, in order, at its own pace."""

from __future__ import annotations

import os
import tracemalloc
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tchat.core.group.feature import Event
from tchat.core.group.membership import Join, Kick
from tchat.core.group.snapshots import PIECE_LIMIT
from tchat.core.group.state import Author, Group
from tchat.core.protocol.frames import (
    Attach,
    Attached,
    MembershipChange,
    PresenceUpdate,
    Snapshot,
    decode,
)
from tchat.core.protocol.framing import split_frames
from tchat.core.vocabulary import TO_CLIENT
from tchat.server.groups import state_cache, subscriptions
from tchat.server.groups.state_cache import encode_state
from tchat.server.groups.subscriptions import Subscription, Subscriptions
from tchat.server.send_queue import SEND_QUEUE_LIMIT, SendQueue
from tchat.store.base import PAGE_LIMIT
from tchat.store.open import open_store
from tests.faulty_store import FaultyStore
from tests.helpers import (
    GROUP,
    NO_RATE_LIMITS,
    RawClient,
    RunningServer,
    log_of,
    members,
    raw_client,
    running_server,
    seqs,
    texts,
)
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.net.address import Address
    from tchat.store.base import Store

LONG = 16_000 * "x"
"""A message so long that a few hundred exceed the buffers of any socket."""

MORE_THAN_BUFFERS = 450


@asynccontextmanager
async def store_of(kind: str, directory: Path) -> AsyncIterator[Store]:
    if kind == "sqlite":
        async with open_store(directory / "data") as store:
            yield store
    else:
        yield MemoryStore()


async def follow_to(reader: RawClient, after: int, last: int) -> None:
    """Attach after `after` and check that exactly the events up to `last` come."""
    await reader.attach(after=after)
    assert seqs(await reader.events(last - after)) == list(range(after + 1, last + 1))
    assert not any(isinstance(frame, Event) for frame in await reader.before_pong())


@pytest.mark.parametrize("after", [0, 1, 2, 99, 100])
async def test_attach_sends_missed_events_and_then_new_ones(after: int) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        for n in range(99):
            await alice.post(f"text {n}")
        async with raw_client(server.address, "alice") as reader:
            assert (await reader.attach(after=after)).seq == 100
            await alice.post("live")
            assert seqs(await reader.events(101 - after)) == list(range(after + 1, 102))


async def test_attach_beyond_the_end_starts_at_the_end() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        assert (await bob.attach(after=10**9)).seq == 3
        await alice.post("live")
        assert seqs(await bob.events(1)) == [4]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_readers_joining_during_writes_receive_every_event_once(
    kind: str, tmp_path: Path
) -> None:
    each = 200
    async with (
        store_of(kind, tmp_path) as store,
        running_server(store) as server,
        members(server, "alice", "bob", "carol") as writers,
        raw_client(server.address, "bob") as early,
        raw_client(server.address, "carol") as late,
    ):
        last = len(await log_of(store)) + each * len(writers)
        async with trio.open_nursery() as nursery:
            for writer in writers:
                nursery.start_soon(writer.say, *(f"{n} " + 1500 * "y" for n in range(each)))
                nursery.start_soon(writer.events, each * len(writers))
            nursery.start_soon(follow_to, early, 0, last)
            await server.logged("carol connected")
            nursery.start_soon(follow_to, late, 3, last)
        assert seqs(await log_of(store)) == list(range(1, last + 1))


async def read_some(address: Address, after: int, number: int) -> int:
    """Attach after `after`, read `number` events, disconnect; return the last seq."""
    async with raw_client(address, "bob") as bob:
        await bob.attach(after=after)
        events = await bob.events(number)
    assert seqs(events) == list(range(after + 1, after + number + 1))
    return events[-1].seq


async def test_reconnecting_reader_misses_nothing(tmp_path: Path) -> None:
    number = 400
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(alice.say, *(f"text {n}" for n in range(number)))
        nursery.start_soon(alice.events, number)
        head, last = 3, 3 + number
        for step in cycle([1, 2, 5, 30]):
            if head == last:
                break
            head = await read_some(server.address, head, min(step, last - head))


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_stalled_reader_delays_nobody_and_misses_nothing(kind: str, tmp_path: Path) -> None:
    words = [f"{n} {LONG}" for n in range(MORE_THAN_BUFFERS)]
    async with (
        store_of(kind, tmp_path) as store,
        running_server(store) as server,
        members(server, "alice", "bob", "carol") as (alice, bob, carol),
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.say, *words)
            nursery.start_soon(alice.events, len(words))
            assert texts(await carol.events(len(words))) == words
        # Bob was sent more than all buffers hold, and only now begins to read.
        assert texts(await bob.events(len(words))) == words
        await alice.post("live again")
        assert texts(await bob.events(1)) == ["live again"]


async def test_stalled_reader_learns_presence_once_it_reads() -> None:
    words = [f"{n} {LONG}" for n in range(MORE_THAN_BUFFERS)]
    async with running_server() as server, members(server, "alice", "bob", "carol") as people:
        alice, bob, carol = people
        assert bob.online == {"alice", "bob", "carol"}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.say, *words)
            await alice.events(len(words))
        await carol.stream.aclose()
        await server.logged("carol disconnected")
        await bob.events(len(words))
        while bob.online != {"alice", "bob"}:
            await bob.expect(PresenceUpdate)


async def test_kicked_stalled_reader_receives_no_later_events() -> None:
    words = [f"{n} {LONG}" for n in range(MORE_THAN_BUFFERS)]
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.say, *words)
            await alice.events(len(words))
        await alice.command(Kick, "bob")
        await alice.post("behind bob's back")
        heard: list[Event] = []
        while not isinstance(frame := await bob.receive(), MembershipChange):
            heard += [frame] if isinstance(frame, Event) else []
        assert seqs(heard) == list(range(4, 4 + len(heard)))
        assert len(heard) <= len(words) + 1
        assert not any(isinstance(frame, Event) for frame in await bob.before_pong())


async def test_reader_that_takes_no_data_is_disconnected() -> None:
    words = [f"{n} {LONG}" for n in range(MORE_THAN_BUFFERS)]
    async with (
        running_server(limits=replace(NO_RATE_LIMITS, stall_seconds=0.2)) as server,
        members(server, "alice", "bob") as (alice, _),
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.say, *words)
            await alice.events(len(words))
        await server.logged("bob disconnected (accepted no data for too long)")
        await alice.post("the rest of us go on")


async def test_pipelined_requests_without_reading_are_all_answered() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        head = 3
        for _ in range(30):
            head = await alice.post(LONG)
            await alice.events(1)
        await bob.send(*(Attach(1000 + n, GROUP, 0) for n in range(60)))
        for _ in range(30):  # bob reads nothing, and all others are served
            head = await alice.post("short")
            await alice.events(1)
        answers: list[int] = []
        heard: list[Event] = []
        while len(answers) < 60 or not heard or heard[-1].seq < head:
            match await bob.receive():
                case Attached(re):
                    answers.append(re)
                    heard = []
                case Event() as event:
                    heard.append(event)
        assert answers == list(range(1000, 1060))
        assert seqs(heard) == list(range(1, head + 1))


async def test_page_read_before_a_kick_is_not_sent() -> None:
    store = FaultyStore()
    async with running_server(store) as server:
        async with members(server, "alice", "bob") as (alice, _):
            for n in range(40):
                await alice.post(f"{n} {LONG}")  # so that the first ones leave the actor's cache
        async with (
            raw_client(server.address, "alice") as alice,
            raw_client(server.address, "bob") as bob,
        ):
            await alice.attach(after=43)
            read = store.hold("read", after=True)
            await bob.attach(after=0)
            await read.reached.wait()
            await alice.command(Kick, "bob")
            read.release()
            await alice.post("later")
            frames = await bob.before_pong()
            assert not any(isinstance(frame, Event) for frame in frames)
            assert [f.reason for f in frames if isinstance(f, MembershipChange)] == ["kicked"]


async def test_event_found_by_catch_up_is_sent_once() -> None:
    store = FaultyStore()
    async with running_server(store) as server, members(server, "alice", "bob") as (alice, _):
        await alice.post("early")
    async with (
        running_server(store) as server,
        raw_client(server.address, "alice") as alice,
        raw_client(server.address, "bob") as bob,
    ):
        await alice.attach(after=4)
        read, committed = store.hold("read"), store.hold("append", after=True)
        await bob.attach(after=0)
        await alice.say("on the disk, and not yet told")
        await committed.reached.wait()
        read.release()
        assert seqs(await bob.events(5)) == [1, 2, 3, 4, 5]
        committed.release()
        await alice.post("next")
        assert texts(await bob.events(1)) == ["next"]


GROUPS = [f"group{number}" for number in range(12)]


async def fill_groups(server: RunningServer, each: int) -> None:
    """Found the groups with `each` long messages, more than the actors keep in memory."""
    async with raw_client(server.address, "alice") as alice:
        for group in GROUPS:
            await alice.command(Join, group=group)
            for n in range(each):
                await alice.post(f"{n} {LONG}", group)


async def test_unread_groups_take_the_memory_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    push = SendQueue.push

    def record(self: SendQueue, data: bytes) -> None:
        push(self, data)
        sizes.append(self.size)

    async with running_server() as server:
        await fill_groups(server, 20)
        monkeypatch.setattr(SendQueue, "push", record)
        async with raw_client(server.address, "alice") as alice:
            await alice.send(*(Attach(n, group, 0, 0) for n, group in enumerate(GROUPS)))
            while len(sizes) < 2 or sizes[-1] <= SEND_QUEUE_LIMIT // 2:
                await server.store.read(GROUP, 0)  # until the buffers of the sockets are full
            await alice_reads(alice, each=20)
    assert max(sizes) <= SEND_QUEUE_LIMIT // 2 + 2 * PAGE_LIMIT


async def alice_reads(alice: RawClient, each: int) -> None:
    """Read all groups; check that each has each event once, in order."""
    heard: dict[str, list[int]] = {group: [] for group in GROUPS}
    while any(len(numbers) <= each for numbers in heard.values()):
        frame = await alice.receive()
        assert frame is not None
        if isinstance(frame, Event):
            heard[frame.group].append(frame.seq)
    assert all(numbers == list(range(1, each + 2)) for numbers in heard.values())


async def test_long_snapshot_comes_at_the_readers_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed meanwhile comes after it, once."""
    data = os.urandom(100 * PIECE_LIMIT)
    sizes: list[int] = []
    push = SendQueue.push

    def record(self: SendQueue, data: bytes) -> None:
        push(self, data)
        sizes.append(self.size)

    monkeypatch.setattr(state_cache, "freeze", lambda _: data)
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        raw_client(server.address, "bob") as bob,
    ):
        monkeypatch.setattr(SendQueue, "push", record)
        await bob.send(Attach(1, GROUP, 0, 0))
        for n in range(5):
            await alice.post(f"text {n}")
            await alice.events(1)
        frames = [await bob.receive() for _ in range(101)]
        assert b"".join(one.data for one in frames if isinstance(one, Snapshot)) == data
        assert seqs(await bob.events(8)) == list(range(1, 9))
        assert not any(isinstance(frame, Event) for frame in await bob.before_pong())
    assert max(sizes) <= SEND_QUEUE_LIMIT // 2 + PAGE_LIMIT


@pytest.mark.parametrize("reserve", [0, 1 << 62])
async def test_encoded_states_are_whole(monkeypatch: pytest.MonkeyPatch, reserve: int) -> None:
    """In a file, or in memory if the disk is full."""
    data = os.urandom(20 * PIECE_LIMIT + 1)
    monkeypatch.setattr(state_cache, "freeze", lambda _: data)
    store = MemoryStore()
    store.blobs.set_reserve(reserve)
    state = await encode_state(Group(GROUP), store.blobs)
    frames = [decode_whole(await state.frame(number)) for number in range(state.count)]
    assert b"".join(frame.data for frame in frames) == data
    assert [frame.more for frame in frames] == [*20 * [True], False]


async def test_long_states_are_not_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that are slow may hold one each, of different groups or times."""
    monkeypatch.setattr(state_cache, "freeze", lambda _: bytes(8 << 20))
    store = MemoryStore()
    store.blobs.set_reserve(0)
    tracemalloc.start()
    try:
        held = [await encode_state(Group(GROUP), store.blobs) for _ in range(5)]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < len(held) * 64 * 1024


def decode_whole(data: bytes) -> Snapshot:
    (body,) = split_frames(data)
    frame = decode(body, TO_CLIENT)
    assert isinstance(frame, Snapshot)
    return frame


async def test_states_are_encoded_once_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a busy group: who waits takes what was encoded since."""
    calls: list[int] = []
    present = Subscriptions(MemoryStore(), GROUP)

    def change() -> None:
        group = Group(GROUP)
        group.seq = len(calls) + 1
        present.start(group)

    def freeze(group: Group) -> bytes:
        calls.append(group.seq)
        change()
        return bytes(state_cache.IN_MEMORY + 1)

    monkeypatch.setattr(state_cache, "freeze", freeze)
    monkeypatch.setattr(subscriptions, "is_large", lambda _: True)
    change()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(present.prepare_snapshot)
    assert calls == [1]


async def test_long_presence_comes_at_the_readers_pace() -> None:
    """Changes in the meantime are told to the reader, who ends up with the truth."""
    people, reason = [f"person{n}" for n in range(10_000)], 250 * "x"
    away = dict.fromkeys(people, reason)
    presence = Subscriptions(MemoryStore(), GROUP, away)
    presence.start(Group(GROUP, seq=1, members={person: person for person in people}))
    others = {one: follow(presence, one, SendQueue(lambda _: None, _nothing)) for one in people}
    presence.announce_presence()
    online: dict[str, str | None] = {}
    async with trio.open_nursery() as nursery:
        queue = SendQueue(lambda data: data, _nothing, start_feeder=nursery.start_soon)
        follow(presence, "person0", queue)
        presence.announce_presence()
        away["person9998"] = "back soon"
        presence.remove(others["person9999"])
        presence.presence_changed = True
        presence.announce_presence()
        largest = 0
        while data := queue.dequeue():
            largest = max(largest, queue.size)
            for body in split_frames(data):
                frame = decode(body, TO_CLIENT)
                assert isinstance(frame, PresenceUpdate)
                online.update((one.name, one.away) for one in frame.online)
                for name in frame.offline:
                    online.pop(name, None)
            queue.mark_sent(len(data))
            await wait_all_tasks_blocked()
    assert not queue.overflowed
    assert largest <= SEND_QUEUE_LIMIT
    assert online == {**dict.fromkeys(people[:-1], reason), "person9998": "back soon"}


def _nothing() -> None: ...


def follow(presence: Subscriptions, person: str, queue: SendQueue) -> Subscription:
    """Subscribe a member who has seen all events."""
    subscription = Subscription(Author(person, bytes(8)), queue)
    presence.add(subscription)
    presence.feed_from(subscription, 1)
    return subscription

"""Costs of a group's state: whoever needs it loaded, encoded or copied is charged by its size."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import trio

from tchat.core.group.feature import Event
from tchat.core.group.files import FileRemoved, FileShared
from tchat.core.group.membership import Created, Join, Kicked, Left
from tchat.core.group.messages import Delete, Post
from tchat.core.group.rules import apply
from tchat.core.group.state import Author, Group
from tchat.core.pace import Rate
from tchat.core.protocol.frames import Attach, Snapshot, decode
from tchat.core.protocol.framing import split_frames
from tchat.core.vocabulary import TO_CLIENT
from tchat.server.connections.dispatch import RequestDispatcher
from tchat.server.costs import ACTIVATION, COPIED, DELETED, ENCODED, LOADED, PAGE
from tchat.server.groups.actor import IDLE_SECONDS, GroupActor
from tchat.server.groups.environment import GroupEnvironment
from tchat.server.groups.inbox import Execute, Subscribe
from tchat.server.groups.registry import Registry
from tchat.server.groups.side_effects import side_effects_of
from tchat.server.groups.state_cache import encode_state
from tchat.server.groups.subscriptions import Subscription, Subscriptions
from tchat.server.ledger import Budget, LedgerAccount
from tchat.server.limits import Limits
from tchat.server.log import Log
from tchat.server.send_queue import SendQueue
from tests.helpers import GROUP
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trio.testing import MockClock

    from tchat.core.group.feature import Body
    from tchat.core.protocol.schema import Frame
    from tchat.server.context import ServerContext
    from tchat.server.groups.inbox import Item

ALICE = Author("alice", b"alice123")
ENTRIES = 1_000_000


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log("text", io.StringIO())
    yield log
    log.close()


def open_queue() -> SendQueue:
    return SendQueue(lambda _: None, lambda: None, start_feeder=trio.lowlevel.spawn_system_task)


def active(registry: Registry) -> GroupActor:
    """Return the actor of the group, which is active."""
    actor = registry.find(GROUP)
    assert actor is not None
    return actor


# ------------------------------------------------------------------ what an actor reports


async def test_size_of_a_loaded_state_is_reported(autojump_clock: MockClock, log: Log) -> None:
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(MemoryStore(), log), nursery)
        loaded: list[int] = []
        join = Execute(ALICE, Join(1, 1, GROUP), open_queue())
        await registry.send(GROUP, join, loaded.append)
        await trio.sleep(1)
        entries = active(registry).entries
        await trio.sleep(IDLE_SECONDS)
        assert registry.find(GROUP) is None
        await registry.send(GROUP, join, loaded.append)
        await trio.sleep(1)
        await registry.send(GROUP, join, loaded.append)  # it is active now
        nursery.cancel_scope.cancel()
    assert entries > 0
    assert loaded == [0, entries]


async def test_snapshot_is_to_be_encoded_once(autojump_clock: MockClock, log: Log) -> None:
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(MemoryStore(), log), nursery)
        queue = open_queue()
        await registry.send(GROUP, Execute(ALICE, Join(1, 1, GROUP), queue))
        await trio.sleep(1)
        to_encode = [active(registry).entries_to_encode]
        await registry.send(GROUP, Subscribe(Subscription(ALICE, queue), Attach(2, GROUP, 0, 0)))
        await trio.sleep(1)
        to_encode.append(active(registry).entries_to_encode)
        await registry.send(GROUP, Execute(ALICE, Post(3, 3, GROUP, "hi"), queue))
        await trio.sleep(1)
        to_encode.append(active(registry).entries_to_encode)
        entries = active(registry).entries
        nursery.cancel_scope.cancel()
    assert to_encode == [entries, 0, entries]


async def test_deleted_text_is_charged_by_its_length(autojump_clock: MockClock, log: Log) -> None:
    """Its words are removed from the index: a message of 16 KiB takes the writer up to 30 ms."""
    charged: list[float] = []
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(MemoryStore(), log), nursery)
        queue = open_queue()
        commands = [
            Join(1, 1, GROUP),
            Post(2, 2, GROUP, "x" * 5000),
            Delete(3, 3, GROUP, 2),
            Delete(3, 3, GROUP, 2),  # a repeat
            Delete(4, 4, GROUP, 2),  # there is nothing left
            Delete(5, 5, GROUP, 1),  # no message
        ]
        for command in commands:
            await registry.send(GROUP, Execute(ALICE, command, queue, (), charged.append))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert charged == [DELETED * 5000]


# ------------------------------------------------------------------ what is charged


class LargeGroup:
    """A registry with one group, which is active or not."""

    listeners = 0
    entries = entries_to_encode = ENTRIES

    def __init__(self, *, active: bool) -> None:
        self._active = active
        self.inbox = self

    def find(self, _: str) -> LargeGroup | None:
        return self if self._active else None

    def try_put(self, _: Item) -> bool:
        return True

    async def try_read(self, _: Item) -> bool:
        return False

    async def send(self, _key: str, _item: Item, on_loaded: Callable[[int], None]) -> None:
        on_loaded(ENTRIES)


@pytest.mark.parametrize(
    ("frame", "active", "alone", "together"),
    [
        (Post(1, 1, GROUP, "hi"), True, 0, COPIED * ENTRIES),
        (Post(1, 1, GROUP, "hi"), False, LOADED * ENTRIES, ACTIVATION),
        (Attach(1, GROUP, 0, 100), True, ENCODED * ENTRIES, 0),
        (Attach(1, GROUP, 7), True, 0, 0),
    ],
)
async def test_work_on_a_state_is_charged(
    frame: Frame, *, active: bool, alone: float, together: float
) -> None:
    """Threads load and encode it: the person and the address pay, but nobody else waits."""
    own, address, whole = (Budget(Rate(1, 1_000_000)) for _ in range(3))
    context = SimpleNamespace(
        registry=LargeGroup(active=active),
        rate_limiter=SimpleNamespace(reserve=lambda *_: 0),
        limits=Limits(),
        network_rates=SimpleNamespace(reserve=lambda *_: 0),
    )
    account = LedgerAccount(own, (address, whole))
    dispatcher = RequestDispatcher(
        cast("ServerContext", context), ALICE, open_queue(), account, lambda: None
    )
    await dispatcher.handle(frame, 0)
    assert [round(budget.used) for budget in (own, address, whole)] == [
        round(alone + together),
        round(alone + together),
        round(together),
    ]


async def test_long_snapshot_is_charged_by_the_page(autojump_clock: MockClock) -> None:
    group = group_with_files(2000)
    pages = (await encode_state(group, MemoryStore().blobs)).count
    charged: list[float] = []
    received: list[Frame] = []

    async def admit_page() -> None:
        charged.append(PAGE)

    def send_now(data: bytes) -> None:
        received.extend(decode(body, TO_CLIENT) for body in split_frames(data))

    queue = SendQueue(
        send_now,
        lambda: None,
        start_feeder=trio.lowlevel.spawn_system_task,
        admit_page=admit_page,
    )
    subscriptions = Subscriptions(MemoryStore(), GROUP)
    subscriptions.start(group)
    subscription = Subscription(ALICE, queue)
    subscriptions.add(subscription)
    subscriptions.feed_from(subscription, group.seq, with_state=True)
    await trio.sleep(1)
    assert sum(isinstance(frame, Snapshot) for frame in received) == pages > 5
    assert len(charged) == pages - 1


# ------------------------------------------------------------------ the index of files


def group_with_files(count: int) -> Group:
    group = Group()
    add(group, Created())
    for number in range(1, count + 1):
        add(group, FileShared(number, f"file {number} " + "x" * 100, 1, bytes(32)))
    return group


def add(group: Group, body: Body) -> Event:
    event = Event(GROUP, group.seq + 1, 1, "alice", ALICE.client, group.seq + 1, body)
    apply(group, event)
    return event


class Untouched(dict[int, object]):
    """Entries of which only some are looked at."""

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("All entries were looked at.")

    items = values = keys = __iter__  # type: ignore[assignment]


def test_only_files_of_events_are_looked_at() -> None:
    before = group_with_files(5)
    after = before.copy()
    events = [
        add(after, body)
        for body in (
            FileRemoved(2),
            FileShared(6, "six", 1, bytes(32)),
            FileShared(7, "seven", 1, bytes(32)),
            FileRemoved(7),
            FileShared(3, "three", 1, bytes(32)),
        )
    ]
    before.files, after.files = Untouched(before.files), Untouched(after.files)  # type: ignore[assignment]
    effects = side_effects_of(before, after, events)
    assert [entry.number for entry in effects.added_files] == [3, 6]
    assert effects.removed_files == (2, 3)


def test_leaving_looks_at_no_files() -> None:
    """In a group with 22,000 files, that took 10 ms, in which the server did nothing else."""
    before = group_with_files(3)
    before.members["bob"] = "bob"
    after = before.copy()
    events = [add(after, Left())]
    before.files, after.files = Untouched(before.files), Untouched(after.files)  # type: ignore[assignment]
    assert not side_effects_of(before, after, events).removed_files


def test_all_files_of_a_closed_group_are_removed() -> None:
    before = group_with_files(3)
    after = before.copy()
    events = [add(after, FileRemoved(1)), add(after, Left())]
    assert side_effects_of(before, after, events).removed_files == (1, 2, 3)


def test_standings_are_compared_for_few_people() -> None:
    """A kick in a large group does not compare the standings of everybody."""
    before = Group("ops", admin="alice", members={f"person{n}": f"person{n}" for n in range(9)})
    after = before.copy()
    events = [add(after, Kicked("person7"))]
    before.members, after.members = Untouched(before.members), Untouched(after.members)  # type: ignore[assignment]
    assert side_effects_of(before, after, events).standings == {"person7": "outsider"}

"""The life of a group's actor: woken on demand, let go when idle, and never with work unread."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.core.group.commands import Command, Delete, Edit, Join, Post
from tchat.core.group.events import Deleted, Erased, Event, Posted
from tchat.core.group.state import Author
from tchat.core.protocol.frames import Attach, Attached, Failed, Ok, decode
from tchat.core.protocol.framing import split_frames
from tchat.core.vocabulary import TO_CLIENT
from tchat.errors import Code
from tchat.server.groups import actor as actor_module
from tchat.server.groups.actor import IDLE_SECONDS
from tchat.server.groups.inbox import Execute, ReadReceipt, Subscribe
from tchat.server.groups.registry import Registry
from tchat.server.groups.subscriptions import Subscription
from tchat.server.log import Log
from tchat.server.send_queue import SendQueue
from tchat.store.base import NO_EFFECTS, StorageFull
from tests.helpers import GROUP, log_of, seqs, texts
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from tchat.core.protocol.schema import Frame
    from tchat.store.base import Page, SideEffects

ALICE = Author("alice", b"alice123")


class CountingStore(MemoryStore):
    """Counts how often a log is loaded from its beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.loads = 0

    async def read(self, group: str, after: int) -> Page | None:
        self.loads += after == 0
        return await super().read(group, after)


class Person:
    """Someone whose connection is nothing but an outbox."""

    def __init__(self, registry: Registry, author: Author = ALICE) -> None:
        self.author = author
        self._news = trio.Event()
        self.send_queue = SendQueue(lambda data: data, self._wake)
        self.registry = registry
        self.subscription = Subscription(author, self.send_queue)

    async def send(self, *commands: Command) -> None:
        for command in commands:
            await self.registry.send(GROUP, Execute(self.author, command, self.send_queue))

    async def attach(self, after: int = 0) -> None:
        await self.registry.send(GROUP, Subscribe(self.subscription, Attach(1, GROUP, after)))

    async def hears(self) -> list[Frame]:
        await self._news.wait()
        data = self.send_queue.take()
        assert data, "something was said to be there"
        self.send_queue.sent(len(data))
        assert self.send_queue.take() is None
        self._news = trio.Event()
        return [decode(body, TO_CLIENT) for body in split_frames(data)]

    def _wake(self) -> None:
        self._news.set()


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log("text", io.StringIO())
    yield log
    log.close()


async def test_an_idle_group_is_let_go_and_loaded_again_as_it_was(
    autojump_clock: MockClock, log: Log
) -> None:
    store = CountingStore()
    async with trio.open_nursery() as nursery:
        alice = Person(Registry(store, log, nursery))
        await alice.send(Join(1, 1, GROUP))
        assert await alice.hears() == [Ok(1, 1)]
        await trio.sleep(IDLE_SECONDS - 1)
        await alice.send(Post(2, 2, GROUP, "still awake"))
        assert await alice.hears() == [Ok(2, 2)]
        assert store.loads == 1
        await trio.sleep(IDLE_SECONDS + 1)
        assert not nursery.child_tasks
        await alice.send(Post(2, 2, GROUP, "still awake"), Post(3, 3, GROUP, "awake again"))
        assert await alice.hears() == [Ok(2), Ok(3, 3)]
        assert store.loads == 2
    assert texts(await log_of(store)) == ["still awake", "awake again"]


async def test_a_group_that_somebody_follows_stays_awake(
    autojump_clock: MockClock, log: Log
) -> None:
    store = CountingStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(store, log, nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP))
        await alice.attach()
        await trio.sleep(100 * IDLE_SECONDS)
        assert nursery.child_tasks
        assert store.loads == 1
        registry.leave(alice.subscription, GROUP)
        await trio.sleep(IDLE_SECONDS + 1)
        assert not nursery.child_tasks


async def test_what_was_seen_is_kept_when_a_group_is_let_go(
    autojump_clock: MockClock, log: Log
) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(store, log, nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP))
        await registry.send(GROUP, ReadReceipt("alice", 1))
        await trio.sleep(IDLE_SECONDS + 1)
        assert not nursery.child_tasks
    assert await store.cursors(GROUP) == {"alice": 1}


async def test_a_request_that_comes_as_the_group_is_let_go_is_answered(
    autojump_clock: MockClock, log: Log
) -> None:
    # Both happen in the same instant, in either order: so it is tried often enough.
    async with trio.open_nursery() as nursery:
        alice = Person(Registry(MemoryStore(), log, nursery))
        for n in range(1, 40):
            await alice.send(Join(n, n, GROUP))
            with trio.fail_after(5):
                assert [frame.re for frame in await alice.hears() if isinstance(frame, Ok)] == [n]
            await trio.sleep(IDLE_SECONDS)


async def test_a_closed_registry_finishes_what_waits(log: Log) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(store, log, nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP), *(Post(n, n, GROUP, f"{n}") for n in range(2, 200)))
        registry.close()
    assert texts(await log_of(store)) == [f"{n}" for n in range(2, 200)]
    assert len(await alice.hears()) == 199


async def test_a_full_inbox_makes_its_senders_wait_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setattr(actor_module, "INBOX_LIMIT", 2)
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(store, log, nursery)
        people = [Person(registry, Author(f"p{n}", bytes([n] * 8))) for n in range(20)]
        for person in people:
            nursery.start_soon(person.send, *(Join(n, n, GROUP) for n in range(1, 20)))
        for person in people:
            answers: list[Frame] = []
            while len(answers) < 19:
                answers += await person.hears()
            assert [frame.re for frame in answers if isinstance(frame, Ok)] == list(range(1, 20))
        registry.close()
    assert seqs(await log_of(store)) == list(range(1, 21))


async def test_commands_that_wait_are_stored_in_one_append(log: Log) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(store, log, nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP), *(Post(n, n, GROUP, "x") for n in range(2, 50)))
        await alice.attach()
        registry.close()
    page = await store.read(GROUP, 0)
    assert page is not None
    assert (page.first, page.last) == (1, 49)
    answers = await alice.hears()
    assert sum(isinstance(frame, Ok) for frame in answers) == 49
    assert isinstance(answers[49], Attached)
    assert seqs(frame for frame in answers if isinstance(frame, Event)) == list(range(1, 50))


async def test_the_clock_going_back_does_not_take_the_log_with_it(log: Log) -> None:
    times = iter([5000, 4000, 4500, 6000])
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(store, log, nursery, clock=lambda: next(times))
        alice = Person(registry)
        for command in (Join(1, 1, GROUP), *(Post(n, n, GROUP, "x") for n in (2, 3, 4))):
            await alice.send(command)
            await alice.hears()
        registry.close()
    assert [event.at for event in await log_of(store)] == [5000, 5000, 5000, 6000]


class FullStore(MemoryStore):
    """Has no room, until it is given some."""

    full = True

    async def append(
        self,
        group: str,
        expected: int,
        count: int,
        frames: bytes,
        effects: SideEffects = NO_EFFECTS,
    ) -> None:
        if self.full:
            await trio.lowlevel.checkpoint()
            raise StorageFull
        await super().append(group, expected, count, frames, effects)


async def test_a_repetition_of_what_could_not_be_stored_is_not_acknowledged(log: Log) -> None:
    store = FullStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(store, log, nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP), Join(2, 1, GROUP), Post(3, 2, GROUP, "in the draft"))
        answers = await alice.hears()
        assert [(type(a), getattr(a, "code", "")) for a in answers] == [
            (Failed, Code.STORAGE_FULL)
        ] * 3
        store.full = False
        await alice.send(Join(4, 1, GROUP))
        assert await alice.hears() == [Ok(4, 1)]
        registry.close()


async def test_a_refusal_that_rests_on_nothing_uncommitted_holds_on_a_full_disk(log: Log) -> None:
    async with trio.open_nursery() as nursery:
        registry = Registry(FullStore(), log, nursery)
        alice = Person(registry)
        await alice.send(Post(1, 1, GROUP, "before"), Join(2, 2, GROUP))
        codes = [answer.code for answer in await alice.hears() if isinstance(answer, Failed)]
        assert codes == [Code.NOT_MEMBER, Code.STORAGE_FULL]
        registry.close()


async def test_a_group_that_never_was_is_let_go_at_once(log: Log) -> None:
    async with trio.open_nursery() as nursery:
        registry = Registry(MemoryStore(), log, nursery)
        alice = Person(registry)
        await registry.send(GROUP, Subscribe(alice.subscription, Attach(1, GROUP, 0)))
        assert [frame.standing for frame in await alice.hears() if isinstance(frame, Attached)]
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks


async def test_messages_that_wait_to_be_said_are_changed_and_deleted_behind_that(log: Log) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(store, log, nursery)
        alice = Person(registry)
        await alice.attach()
        await alice.send(
            Join(1, 1, GROUP),
            Post(2, 2, GROUP, "one"),
            Post(3, 3, GROUP, "two"),
            Edit(4, 4, GROUP, 2, "one, edited"),
            Delete(5, 5, GROUP, 2),
            Edit(6, 6, GROUP, 2, "too late"),
            Delete(7, 7, GROUP, 3),
            Post(8, 8, GROUP, "three"),
        )
        registry.close()
    answers = await alice.hears()
    assert [frame.re for frame in answers if isinstance(frame, Failed)] == [6]
    assert [frame.seq for frame in answers if isinstance(frame, Ok)] == [1, 2, 3, 4, 5, 6, 7]
    bodies = [event.body for event in await log_of(store)][1:]
    assert bodies == [Erased()] * 3 + [Deleted(2), Deleted(3), Posted("three")]

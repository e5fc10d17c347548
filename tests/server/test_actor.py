"""Actor of a group: activation, retirement, batches, failed commits."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tchat.core.group.feature import Command, Event
from tchat.core.group.membership import Approve, Ban, Join, Unban
from tchat.core.group.messages import Delete, Deleted, Edit, Erased, Post, Posted
from tchat.core.group.operation import Close
from tchat.core.group.state import OPERATOR, Author
from tchat.core.protocol.frames import Attach, Attached, Failed, Ok, decode
from tchat.core.protocol.framing import split_frames
from tchat.core.vocabulary import TO_CLIENT
from tchat.errors import Code
from tchat.server.groups.actor import IDLE_SECONDS, SAVE_SECONDS
from tchat.server.groups.environment import GroupEnvironment
from tchat.server.groups.idle import IdleGroups
from tchat.server.groups.inbox import Execute, Inbox, ReadReceipt, Subscribe
from tchat.server.groups.registry import Registry
from tchat.server.groups.subscriptions import Subscription
from tchat.server.log import Log
from tchat.server.send_queue import SendQueue
from tchat.store.base import SideEffects
from tests.faulty_store import FaultyStore
from tests.helpers import GROUP, GUARD, log_of, seqs, texts
from tests.memory_store import MemoryStore
from tests.server.fake_connection import FakeConnection
from tests.store.batches import packed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from tchat.core.protocol.schema import Frame

ALICE = Author("alice", b"alice123")


class Person:
    """A person whose connection is a send queue without a socket."""

    def __init__(self, registry: Registry, author: Author = ALICE) -> None:
        self.author = author
        self._arrived = trio.Event()
        self.send_queue = SendQueue(
            lambda data: data, self._wake, start_feeder=trio.lowlevel.spawn_system_task
        )
        self.registry = registry
        self.subscription = Subscription(author, self.send_queue)

    async def send(self, *commands: Command) -> None:
        for command in commands:
            await self.registry.send(GROUP, Execute(self.author, command, self.send_queue))

    async def attach(self, after: int = 0) -> None:
        await self.registry.send(GROUP, Subscribe(self.subscription, Attach(1, GROUP, after)))

    async def receive(self) -> list[Frame]:
        await self._arrived.wait()
        data = self.send_queue.dequeue()
        assert data, "something was said to be there"
        self.send_queue.mark_sent(len(data))
        assert self.send_queue.dequeue() is None
        self._arrived = trio.Event()
        return [decode(body, TO_CLIENT) for body in split_frames(data)]

    def _wake(self) -> None:
        self._arrived.set()


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log("text", io.StringIO())
    yield log
    log.close()


async def test_idle_group_retires_and_reloads_its_state(
    autojump_clock: MockClock, log: Log
) -> None:
    store = FaultyStore()
    async with trio.open_nursery() as nursery:
        alice = Person(Registry(GroupEnvironment(store, log), nursery))
        await alice.send(Join(1, 1, GROUP))
        assert await alice.receive() == [Ok(1, 1)]
        await trio.sleep(IDLE_SECONDS - 1)
        await alice.send(Post(2, 2, GROUP, "still awake"))
        assert await alice.receive() == [Ok(2, 2)]
        assert store.count("load") == 1
        await trio.sleep(IDLE_SECONDS + 1)
        assert not nursery.child_tasks
        await alice.send(Post(2, 2, GROUP, "still awake"), Post(3, 3, GROUP, "awake again"))
        assert await alice.receive() == [Ok(2), Ok(3, 3)]
        assert store.count("load") == 2
    assert texts(await log_of(store)) == ["still awake", "awake again"]


async def test_retiring_group_hides_no_erasure_of_another(
    autojump_clock: MockClock, log: Log
) -> None:
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(MemoryStore(), log), nursery)
        alice = Person(registry)

        async def post_and_delete(group: str) -> None:
            for command in (Join(1, 1, group), Post(2, 2, group, "x"), Delete(3, 3, group, 2)):
                await registry.send(group, Execute(ALICE, command, alice.send_queue))
            await registry.settle()

        await post_and_delete("retires")
        before = registry.erasures(["retires", "stays"])
        assert before
        await trio.sleep(IDLE_SECONDS + 1)
        await post_and_delete("stays")
        assert registry.count == 1
        assert registry.erasures(["retires", "stays"]) != before
        await trio.sleep(IDLE_SECONDS + 1)
        assert registry.count == 0


async def test_group_with_a_subscriber_stays_active(autojump_clock: MockClock, log: Log) -> None:
    store = FaultyStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log), nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP))
        await alice.attach()
        await trio.sleep(100 * IDLE_SECONDS)
        assert nursery.child_tasks
        assert store.count("load") == 1
        registry.unsubscribe(alice.subscription, GROUP)
        await trio.sleep(IDLE_SECONDS + 1)
        assert not nursery.child_tasks


async def test_idle_groups_beyond_the_budget_retire_early(
    autojump_clock: MockClock, log: Log
) -> None:
    """The group that was needed last stays longest, and a group with a subscriber in any case."""
    store = FaultyStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log, idle=IdleGroups(250)), nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP))
        await alice.attach()
        for number, group in enumerate(["a", "b", "c", "a"], start=2):
            join = Execute(ALICE, Join(number, number, group), alice.send_queue)
            await registry.send(group, join)
            await trio.sleep(1)
        assert registry.count == 3
        assert [store.count("load", group=group) for group in (GROUP, "a", "b", "c")] == [
            1,
            2,
            1,
            1,
        ]
        await registry.send("c", Execute(ALICE, Join(9, 9, "c"), alice.send_queue))
        await trio.sleep(1)
        assert store.count("load", group="c") == 1
        nursery.cancel_scope.cancel()


async def test_few_groups_are_loaded_at_the_same_time(log: Log) -> None:
    """Whoever waits for one holds nothing, and a group that is active is not affected."""
    store = FaultyStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log, loading_limit=2), nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP))
        await alice.receive()
        load = store.hold("load")
        for number in range(50):
            receipt = ReadReceipt("alice", 1, alice.send_queue)
            nursery.start_soon(registry.send, f"unknown{number}", receipt)
        await trio.testing.wait_all_tasks_blocked()
        assert (store.count("load"), registry.count) == (3, 3)
        await alice.send(Post(2, 2, GROUP, "as always"))
        assert await alice.receive() == [Ok(2, 2)]
        load.release()
        await trio.testing.wait_all_tasks_blocked()
        assert (store.count("load"), registry.count) == (51, 1)
        nursery.cancel_scope.cancel()


async def test_failed_load_lets_the_next_group_load(log: Log) -> None:
    store = FaultyStore()
    store.fail(ValueError("unreadable"), "load", times=3)
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log, loading_limit=1), nursery)
        alice = Person(registry)
        for number in range(3):
            receipt = ReadReceipt("alice", 1, alice.send_queue)
            await registry.send(f"unknown{number}", receipt)
        await alice.send(Join(1, 1, GROUP))
        assert await alice.receive() == [Ok(1, 1)]
        nursery.cancel_scope.cancel()


async def test_read_positions_are_saved_when_a_group_retires(
    autojump_clock: MockClock, log: Log
) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log), nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP))
        await registry.send(GROUP, ReadReceipt("alice", 1, alice.send_queue))
        await trio.sleep(IDLE_SECONDS + 1)
        assert not nursery.child_tasks
    assert await store.cursors(GROUP) == {"alice": 1}


@pytest.mark.parametrize("budget", [0, 1_000_000], ids=["early", "late"])
async def test_group_retires_only_once_read_positions_are_saved(
    autojump_clock: MockClock, log: Log, budget: int
) -> None:
    """Otherwise, the group might be loaded again with the positions from before."""
    store = FaultyStore()
    saving = store.hold("set_cursors")
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log, idle=IdleGroups(budget)), nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP))
        await registry.send(GROUP, ReadReceipt("alice", 1, alice.send_queue))
        await registry.settle()
        await registry.send("other", Execute(ALICE, Join(1, 1, "other"), alice.send_queue))
        await saving.reached.wait()
        await trio.sleep(IDLE_SECONDS + 1)
        assert registry.is_active(GROUP)
        await alice.send(Post(2, 2, GROUP, "needed again"))
        saving.release()
        await registry.settle()
        assert registry.last_read(GROUP, "alice") == 1
        assert store.count("load", group=GROUP) == 1


async def test_read_positions_are_saved_in_an_active_group(
    autojump_clock: MockClock, log: Log
) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log), nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP), Post(2, 2, GROUP, "hello"))
        await alice.attach()
        for seq in (1, 2):
            await registry.send(GROUP, ReadReceipt("alice", seq, alice.send_queue))
            await trio.sleep(SAVE_SECONDS + 1)
            assert await store.cursors(GROUP) == {"alice": seq}
        nursery.cancel_scope.cancel()


async def test_former_members_of_closed_groups_are_not_told(log: Log) -> None:
    async with trio.open_nursery() as nursery:
        environment = GroupEnvironment(MemoryStore(), log)
        registry = Registry(environment, nursery)
        alice, bob, operator = (
            Person(registry, Author(name, name.encode().ljust(8)[:8]))
            for name in ("alice", "bob", OPERATOR)
        )
        elsewhere = FakeConnection(bob.author)
        environment.presence.connected(elsewhere)
        await alice.send(Join(1, 1, GROUP))
        await bob.send(Join(1, 1, GROUP))
        await alice.send(Approve(2, 2, GROUP, "bob"), Post(3, 3, GROUP, "bob, look"))
        await operator.send(Close(1, 1, GROUP))
        await alice.send(Join(4, 4, GROUP), Post(5, 5, GROUP, "bob, look again"))
        registry.close()
    assert [notice.seq for notice in elsewhere.announced] == [4]


async def test_command_arriving_as_the_group_retires_is_answered(
    autojump_clock: MockClock, log: Log
) -> None:
    # Both happen in the same instant, in random order: try often enough.
    async with trio.open_nursery() as nursery:
        alice = Person(Registry(GroupEnvironment(MemoryStore(), log), nursery))
        for n in range(1, 40):
            await alice.send(Join(n, n, GROUP))
            with trio.fail_after(5):
                assert [frame.re for frame in await alice.receive() if isinstance(frame, Ok)] == [n]
            await trio.sleep(IDLE_SECONDS)


async def test_closed_registry_processes_its_inboxes(log: Log) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log), nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP), *(Post(n, n, GROUP, f"{n}") for n in range(2, 200)))
        registry.close()
    assert texts(await log_of(store)) == [f"{n}" for n in range(2, 200)]
    assert len(await alice.receive()) == 199


async def test_full_inbox_applies_backpressure_and_loses_nothing(
    log: Log,
) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log, inbox_limit=2), nursery)
        people = [Person(registry, Author(f"p{n}", bytes([n] * 8))) for n in range(20)]
        for person in people:
            nursery.start_soon(person.send, *(Join(n, n, GROUP) for n in range(1, 20)))
        for person in people:
            answers: list[Frame] = []
            while len(answers) < 19:
                answers += await person.receive()
            assert [frame.re for frame in answers if isinstance(frame, Ok)] == list(range(1, 20))
        registry.close()
    assert seqs(await log_of(store)) == list(range(1, 21))


async def test_inbox_full_of_bytes_loses_nothing(log: Log) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log, inbox_bytes=100), nursery)
        alice, same = Person(registry), Person(registry)
        await alice.send(Join(1, 1, GROUP))
        async with trio.open_nursery() as senders:
            for person, first in ((alice, 2), (same, 100)):
                numbers = range(first, first + 30)
                senders.start_soon(person.send, *(Post(n, n, GROUP, f"{n}") for n in numbers))
        registry.close()
    assert sorted(map(int, texts(await log_of(store)))) == [*range(2, 32), *range(100, 130)]


async def test_long_texts_fill_an_inbox() -> None:
    """Bytes count, not only items; who waits for space keeps the order of their items."""
    inbox = Inbox(1000, 100_000)
    queue = SendQueue(lambda data: data, lambda: None)
    put = 0

    async def send(author: Author) -> None:
        nonlocal put
        for n in range(20):
            post = Post(n, n, GROUP, 16_000 * "x")
            await inbox.put(Execute(author, post, queue, size=16_000))
            put += 1

    authors = [Author(f"p{n}", bytes([n] * 8)) for n in range(4)]
    async with trio.open_nursery() as nursery:
        for author in authors:
            nursery.start_soon(send, author)
        await trio.testing.wait_all_tasks_blocked()
        assert put == 7
        assert inbox.is_wanted
        taken = [await inbox.take() for _ in range(80)]
    for author in authors:
        theirs = [one for one in taken if isinstance(one, Execute) and one.author is author]
        assert [one.command.id for one in theirs] == list(range(20))
    assert not inbox.is_wanted


async def test_actor_is_woken_while_a_sender_gives_up() -> None:
    """The sender has just got space, and is cancelled before it uses it."""
    queue = SendQueue(lambda data: data, lambda: None)
    item = Execute(ALICE, Post(1, 1, GROUP, "x"), queue, size=50)
    for _ in range(20):  # in either order of the two tasks that run next
        inbox, space, sender = Inbox(1000, 10), trio.Event(), trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_put_until_cancelled, inbox, item, sender)
            nursery.start_soon(_wake_and_cancel, inbox, space, sender)
            assert inbox.try_put(item)
            await trio.testing.wait_all_tasks_blocked()
            inbox.try_take()
            space.set()
            with trio.fail_after(GUARD):
                await inbox.take()


async def _put_until_cancelled(inbox: Inbox, item: Execute, scope: trio.CancelScope) -> None:
    with scope:
        await inbox.put(item)


async def _wake_and_cancel(inbox: Inbox, space: trio.Event, scope: trio.CancelScope) -> None:
    await space.wait()
    inbox.wake()
    scope.cancel()


async def test_abandoned_inbox_wakes_waiting_senders() -> None:
    inbox = Inbox(1000, 10)
    queue = SendQueue(lambda data: data, lambda: None)
    item = Execute(ALICE, Post(1, 1, GROUP, "x"), queue, size=50)
    await inbox.put(item)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(_fails_to_put, inbox, item)
        await trio.testing.wait_all_tasks_blocked()
        inbox.abandon()


async def _fails_to_put(inbox: Inbox, item: Execute) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await inbox.put(item)


async def test_waiting_commands_are_committed_in_one_append(log: Log) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log), nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP), *(Post(n, n, GROUP, "x") for n in range(2, 50)))
        await alice.attach()
        registry.close()
    page = await store.read(GROUP, 0)
    assert page is not None
    assert (page.first, page.last) == (1, 49)
    answers = await alice.receive()
    assert sum(isinstance(frame, Ok) for frame in answers) == 49
    assert isinstance(answers[49], Attached)
    assert seqs(frame for frame in answers if isinstance(frame, Event)) == list(range(1, 50))


async def test_clock_going_backwards_keeps_event_times_ordered(log: Log) -> None:
    times = iter([5000, 4000, 4500, 6000])
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log, clock=lambda: next(times)), nursery)
        alice = Person(registry)
        for command in (Join(1, 1, GROUP), *(Post(n, n, GROUP, "x") for n in (2, 3, 4))):
            await alice.send(command)
            await alice.receive()
        registry.close()
    assert [event.at for event in await log_of(store)] == [5000, 5000, 5000, 6000]


async def test_repeated_command_is_not_acknowledged_before_a_commit(log: Log) -> None:
    store = FaultyStore()
    store.fill("append")
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log), nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP), Join(2, 1, GROUP), Post(3, 2, GROUP, "in the draft"))
        answers = await alice.receive()
        assert [(type(a), getattr(a, "code", "")) for a in answers] == [
            (Failed, Code.STORAGE_FULL)
        ] * 3
        store.mend()
        await alice.send(Join(4, 1, GROUP))
        assert await alice.receive() == [Ok(4, 1)]
        registry.close()


async def test_what_follows_a_refused_founding_is_refused(log: Log) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        effects = SideEffects({"bob": "member"}, display_name="0ps")
        await store.append("0ps", 0, 1, packed(b"created"), effects)
        registry = Registry(GroupEnvironment(store, log), nursery)
        alice = Person(registry)
        await alice.send(Join(1, 1, GROUP), Post(2, 2, GROUP, "in the draft"))
        answers = await alice.receive()
        assert [getattr(a, "code", "") for a in answers] == [Code.LOOKALIKE] * 2
        registry.close()
    assert await log_of(store) == []
    assert await store.groups_of("alice") == {}


async def test_unchanged_audience_does_not_end_a_batch(log: Log) -> None:
    """Founding, requests and lifted bans let nobody see more or less; a ban does."""
    store = FaultyStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log), nursery)
        alice, bob = Person(registry), Person(registry, Author("bob", b"bob12345"))
        await alice.send(Join(1, 1, GROUP))
        await bob.send(Join(1, 1, GROUP))
        await alice.send(Ban(2, 2, GROUP, "carol"), Unban(3, 3, GROUP, "carol"))
        await alice.send(Post(4, 4, GROUP, "hello"))
        registry.close()
    assert store.count("append") == 2
    assert len(await log_of(store)) == 5


async def test_failed_commit_keeps_refusals_of_earlier_commands(log: Log) -> None:
    store = FaultyStore()
    store.fill("append")
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log), nursery)
        alice = Person(registry)
        await alice.send(Post(1, 1, GROUP, "before"), Join(2, 2, GROUP))
        codes = [answer.code for answer in await alice.receive() if isinstance(answer, Failed)]
        assert codes == [Code.NOT_MEMBER, Code.STORAGE_FULL]
        registry.close()


@pytest.mark.parametrize(("group", "answer"), [(GROUP, Attached), ("@alice,bob", Failed)])
async def test_group_that_does_not_exist_retires_at_once(
    group: str, answer: type[Frame], log: Log
) -> None:
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(MemoryStore(), log), nursery)
        alice = Person(registry)
        await registry.send(group, Subscribe(alice.subscription, Attach(1, group, 0)))
        assert [type(frame) for frame in await alice.receive()] == [answer]
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks


async def test_edits_and_deletions_follow_the_posts_they_target(log: Log) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        registry = Registry(GroupEnvironment(store, log), nursery)
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
    answers = await alice.receive()
    assert [frame.re for frame in answers if isinstance(frame, Failed)] == [6]
    assert [frame.seq for frame in answers if isinstance(frame, Ok)] == [1, 2, 3, 4, 5, 6, 7]
    bodies = [event.body for event in await log_of(store)][1:]
    assert bodies == [Erased()] * 3 + [Deleted(2), Deleted(3), Posted("three")]

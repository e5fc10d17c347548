"""Memory of a client: logs, updates and states stay within their bounds, whatever is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.lowlevel
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tchat.client import bounds, update_queue
from tchat.client.replica import Replica, size_of
from tchat.client.retention import HELD_FACTOR, Retention, Trimmer
from tchat.client.updates import EventReceived, GroupUnusable, PresenceChanged, Trimmed, Update
from tchat.core.group.feature import Event
from tchat.core.group.messages import Edited, Posted
from tchat.core.protocol.frames import Activity, Attached
from tchat.errors import ProtocolError
from tests.client.impostor import Wire, event, events, impostor, page
from tests.client.receiving import next_update
from tests.helpers import GROUP, GUARD, THOROUGH, session_at, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tchat.core.group.feature import Body

TEXT = "😀" * 4096
"""A text of 16 KiB, which takes as much in memory."""


def entry(seq: int, body: Body) -> Event:
    return Event(GROUP, seq, seq, "eve", bytes(8), seq, body)


def member_of(name: str) -> Replica:
    replica = Replica(name, recent=0)
    replica.apply_attached(Attached(1, name, "member"))
    return replica


class Groups:
    """Replicas with a trimmer, and the sum of their sizes at its highest."""

    def __init__(self, count: int, retention: Retention) -> None:
        self.replicas = [member_of(f"group{number}") for number in range(count)]
        self.highest = 0
        self.trimmed: list[Replica] = []
        self._trimmer = Trimmer(self.replicas, self.trimmed.append)
        self._trimmer.retention = retention

    def say(self, replica: Replica, text: str) -> None:
        """Add a message to a log, and check what is kept of it."""
        added = entry(replica.last + 1, Posted(text))
        replica.apply_event(added)
        self._trimmer.on_added(replica, size_of(added))
        self.highest = max(self.highest, sum(one.size for one in self.replicas))
        assert replica.log[-1] is added


def test_long_texts_stay_within_the_bound() -> None:
    retention = Retention()
    groups = Groups(1, retention)
    (ops,) = groups.replicas
    count = 200_000 if THOROUGH else 10_000
    for _ in range(count):
        groups.say(ops, TEXT)
    assert groups.highest <= retention.size + size_of(entry(1, Posted(TEXT)))
    assert ops.size == sum(map(size_of, ops.log))
    assert (ops.last, ops.state.seq) == (count, count)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4000), st.booleans()), max_size=300))
def test_all_logs_stay_within_the_bounds(said: Sequence[tuple[int, int, bool]]) -> None:
    retention = Retention(events=40, size=60_000, total=150_000)
    groups = Groups(6, retention)
    for number, size, held in said:
        replica = groups.replicas[number]
        replica.held = held
        groups.say(replica, "x" * size)
        factor = HELD_FACTOR if held else 1
        assert len(replica.log) <= retention.events * factor
        assert replica.size == sum(map(size_of, replica.log))
        assert replica.size <= retention.size * factor + 5000
    assert groups.highest <= retention.total + 2 * 64 * 1024


def test_part_that_is_looked_at_is_cut_last() -> None:
    groups = Groups(3, Retention(total=400_000))
    held, other, third = groups.replicas
    held.held = True
    for _ in range(25):
        groups.say(held, "x" * 8000)
    for _ in range(100):
        groups.say(other, "x" * 4000)
        groups.say(third, "x" * 4000)
    assert groups.trimmed
    assert held not in groups.trimmed


def test_long_texts_in_many_groups_are_cut() -> None:
    """Twenty events of each of a thousand groups took more than a gigabyte."""
    retention = Retention(total=2_000_000)
    groups = Groups(50, retention)
    for _ in range(10):
        for replica in groups.replicas:
            groups.say(replica, TEXT)
    assert groups.highest <= retention.total + 2 * 64 * 1024
    assert all(replica.log for replica in groups.replicas)


async def test_page_is_asked_again_after_a_cut() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in(seq=40)
        await wire.say(*events(1, 40))
        request = await wire.hear_only("history_request")
        await wire.say(*events(41, 50), page(request, *events(1, request["before"] - 1)))
        request = await wire.hear_only("history_request")
        await wire.say(page(request, *events(1, request["before"] - 1)))
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        alice.set_retention(Retention(events=30))
        ops = alice.follow(GROUP)
        await until(alice, lambda: ops.last == 40)
        assert ops.first == 16
        assert await alice.load_history(ops) == 30
        assert [one.seq for one in ops.log] == list(range(1, 51))


async def test_log_that_was_cut_is_loaded_again() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in(seq=40)
        await wire.say(*events(1, 40))
        request = await wire.hear_only("history_request")
        await wire.say(page(request, *events(1, request["before"] - 1)))
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        alice.set_retention(Retention(events=30))
        ops = alice.follow(GROUP)
        update = await next_update(alice, Trimmed)
        assert update == Trimmed(ops, 16)
        await until(alice, lambda: ops.last == 40)
        assert (ops.first, ops.at_beginning) == (16, False)
        assert await alice.load_history(ops) == 15
        assert [one.seq for one in ops.log] == list(range(1, 41))


async def test_server_waits_while_updates_are_not_received(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(update_queue, "MOST_UPDATES", 100)

    async def act(wire: Wire) -> None:
        await wire.let_in(seq=10_000)
        for seq in range(1, 10_001, 100):
            await wire.say(*[event(one, text="x" * 500) for one in range(seq, seq + 100)])
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        ops = alice.follow(GROUP)
        with trio.fail_after(GUARD):
            while len(alice.updates) <= 100:
                await trio.testing.wait_all_tasks_blocked(0.01)
            await trio.testing.wait_all_tasks_blocked(0.01)
            most = len(alice.updates)
            while ops.last < 3000:
                await alice.updates.receive()
                most = max(most, len(alice.updates))
    assert most < 1000


async def test_summons_flood_is_not_remembered() -> None:
    async def act(wire: Wire) -> None:
        await wire.let_in(seq=0)
        for number in range(1000):
            await wire.say(Activity(f"den{number}", number, "eve").to_map())
        await wire.say(event(1))
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        ops = alice.follow(GROUP)
        await until(alice, lambda: ops.last == 1)
        assert list(alice.groups) == [GROUP]


def test_presence_floods_are_one_update() -> None:
    queue, ops = update_queue.UpdateQueue(), Replica(GROUP)
    for _ in range(1000):
        queue.put(PresenceChanged(ops))
    assert len(queue) == 1


@given(st.lists(st.sampled_from(["put", "take"]), max_size=60))
def test_size_of_the_queue_is_what_waits(steps: Sequence[str]) -> None:
    queue, ops = update_queue.UpdateQueue(), Replica(GROUP)
    waiting: list[Update] = []
    for number, step in enumerate(steps, start=1):
        if step == "put":
            waiting.append(EventReceived(ops, entry(number, Posted("x" * number)), unseen=True))
            queue.put(waiting[-1])
        elif waiting:
            assert queue.receive_nowait() is waiting.pop(0)
        assert len(queue) == len(waiting)
        assert bool(queue.size) == bool(waiting)


async def test_endless_edits_lose_only_their_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tchat.client.replica.MOST_EDITS", 20)

    async def act(wire: Wire) -> None:
        await wire.let_in(seq=0)
        await wire.say(event(1))
        await wire.say(*[event(seq, kind="edited", target=1) for seq in range(2, 60)])
        await wire.hear()

    async with impostor(act) as server, session_at(server.address, "alice") as alice:
        ops = alice.follow(GROUP)
        await next_update(alice, GroupUnusable)
        assert (ops.state.seq, ops.size, ops.log) == (0, 0, [])
        assert server.connections == 1


def test_command_numbers_are_not_collected() -> None:
    ops = member_of(GROUP)
    for seq in range(1, 5000):
        body = Posted("x") if seq == 1 else Edited(seq - 1, "y")
        ops.apply_event(Event(GROUP, seq, 1, "eve", seq.to_bytes(8, "big"), 1, body))
    assert len(ops.state.counts) < 10


def test_large_state_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_ENTRIES", {"edits": 49})
    ops = member_of(GROUP)
    for seq in range(1, 50):
        ops.apply_event(entry(seq, Edited(1000 + seq, "y")))
    with pytest.raises(ProtocolError):
        ops.apply_event(entry(50, Edited(1050, "y")))

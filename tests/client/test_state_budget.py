"""Memory budget of the states of all groups of a server: newcomers and growth are refused."""

from __future__ import annotations

import tracemalloc
from contextlib import asynccontextmanager
from itertools import chain
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client import subscriptions
from tchat.client.bounds import NAME_LENGTH, read_state
from tchat.client.replica import Replica
from tchat.client.state_budget import StateBudget, memory_of
from tchat.core.group.compaction import KEYS_OF_A_BAN
from tchat.core.group.feature import Event
from tchat.core.group.files import FileShared
from tchat.core.group.membership import Banned, Denied, Joined, Requested
from tchat.core.group.messages import Edited, Posted
from tchat.core.group.settings import TopicSet
from tchat.core.group.snapshots import freeze
from tchat.core.group.state import File, Group, MessageEdits
from tchat.core.protocol.frames import Attached, OnlineMember, PresenceUpdate, Snapshot
from tchat.errors import Code, ProtocolError
from tests.client.impostor import Wire, event, events, impostor
from tests.helpers import GUARD, session_at, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tchat.client.session import Session
    from tchat.core.group.feature import Body

SEQ = 100


def state_of(group: str, files: int) -> Group:
    """Return the state of a group with so many files."""
    shared = {n: File(n, f"plan {n}", 1, bytes(32), "eve", 1) for n in range(1, files + 1)}
    return Group(group, SEQ, 1, floor=1, admin="alice", members={"alice": "alice"}, files=shared)


LARGE, SMALL = 400, 4
SIZE = memory_of(state_of("lab", LARGE))
TOTAL = int(4.5 * SIZE)


async def open_group(wire: Wire, files: int, *, more: bool = False) -> str:
    """Answer the next attach, with a snapshot that has so many files; return the group."""
    request = await wire.hear_only("attach")
    group = request["group"]
    await wire.say(
        Attached(request["id"], group, "member", seq=SEQ, first=SEQ + 1).to_map(),
        Snapshot(group, SEQ, freeze(state_of(group, files)), more).to_map(),
    )
    return str(group)


@asynccontextmanager
async def alice_at(act: Callable[[Wire], Awaitable[None]]) -> AsyncIterator[Session]:
    """Run a client with a small budget at a scripted server."""
    with trio.fail_after(GUARD):
        async with (
            impostor(act) as server,
            session_at(server.address, "alice", recent=0) as alice,
        ):
            alice._following.state_budget.total = TOTAL
            yield alice
            assert server.connections == 1


def open_in(session: Session) -> list[str]:
    return [one.name for one in session.groups.values() if one.caught_up and not one.unusable]


async def test_groups_beyond_the_budget_are_refused() -> None:
    async def act(wire: Wire) -> None:
        await wire.greet()
        for _ in range(8):
            await open_group(wire, LARGE)
        await wire.say(event(SEQ + 1, "lab0"))
        await open_group(wire, LARGE)
        await wire.hear()

    async with alice_at(act) as alice:
        labs = [alice.follow(f"lab{number}") for number in range(8)]
        await until(alice, lambda: all(one.caught_up or one.unusable for one in labs))
        assert open_in(alice) == ["lab0", "lab1", "lab2", "lab3"]
        refusal = labs[7].unusable
        assert refusal is not None
        assert refusal.code == Code.TOO_MANY
        assert refusal.sentence.startswith("lab7 cannot be shown. With it, the groups of this")
        await until(alice, lambda: labs[0].last == SEQ + 1)
        for closed in (labs[1], labs[7]):
            alice.unfollow(closed)
        again = await alice.enter("lab7", join=False)
        await until(alice, lambda: again.caught_up)


async def test_unfinished_snapshots_are_counted() -> None:
    async def act(wire: Wire) -> None:
        await wire.greet()
        for _ in range(60):
            await open_group(wire, LARGE, more=True)
        await wire.hear()

    async with alice_at(act) as alice:
        labs = [alice.follow(f"lab{number}") for number in range(60)]
        await until(alice, lambda: labs[59].attached and bool(labs[59].unusable))
        assert 0 < sum(one.memory for one in labs) <= TOTAL


async def test_group_that_grows_is_given_up() -> None:
    async def act(wire: Wire) -> None:
        await wire.greet()
        for files in (LARGE, LARGE, LARGE, SMALL):
            group = await open_group(wire, files)
        for seq in range(SEQ + 1, SEQ + 2 * LARGE):
            body = {"kind": "file_shared", "number": seq, "name": "plan", "size": 1}
            await wire.say(event(seq, group, **body, sha256=bytes(32)))
        await wire.say(event(SEQ + 1, "lab0"))
        await wire.hear()

    async with alice_at(act) as alice:
        labs = [alice.follow(f"lab{number}") for number in range(4)]
        await until(alice, lambda: labs[0].last == SEQ + 1)
        await until(alice, lambda: labs[3].unusable is not None)
        assert open_in(alice) == ["lab0", "lab1", "lab2"]


def group_of(name: str, files: int) -> Replica:
    """Return an open group whose state has so many files."""
    replica = Replica(name, 0)
    state = state_of(name, files)
    replica.restore(state, memory_of(state))
    return replica


async def test_group_that_shrank_is_given_up_first() -> None:
    """It made room for another one, and then it grows again, without exceeding its first size."""
    lab, ops = group_of("lab", LARGE), group_of("ops", LARGE)
    budget = StateBudget([Replica("new", 0), ops, lab], int(1.5 * SIZE))
    lab.set_state_memory(memory_of(state_of("lab", SMALL)))
    assert await budget.find_excess() is None
    lab.state_growth = int(0.9 * SIZE)
    lab.state.files |= state_of("lab", LARGE).files
    assert await budget.find_excess() is lab


async def test_only_groups_that_take_memory_are_given_up() -> None:
    """Otherwise, the search for groups to give up would never end."""
    ops = group_of("ops", LARGE)
    assert await StateBudget([Replica("new", 0), ops], SIZE // 2).find_excess() is ops


async def test_group_that_was_reset_is_given_up_first() -> None:
    """A server that begins its log anew lets it grow from nothing."""
    lab, ops = group_of("lab", LARGE), group_of("ops", LARGE)
    budget = StateBudget([Replica("new", 0), ops, lab], int(1.5 * SIZE))
    lab.reset()
    lab.state = state_of("lab", LARGE)
    lab.state_growth = int(0.9 * SIZE)
    assert await budget.find_excess() is lab


async def test_presence_is_counted() -> None:
    async def act(wire: Wire) -> None:
        await wire.greet()
        for _ in range(3):
            group = await open_group(wire, SMALL)
        people = [OnlineMember(f"person{n}", "x" * 200) for n in range(TOTAL // 500)]
        for start in range(0, len(people), 100):
            online = tuple(people[start : start + 100])
            await wire.say(PresenceUpdate(group, online=online, offline=(), reset=False).to_map())
        await wire.hear()

    async with alice_at(act) as alice:
        labs = [alice.follow(f"lab{number}") for number in range(3)]
        await until(alice, lambda: labs[2].unusable is not None)
        assert open_in(alice) == ["lab0", "lab1"]
        assert (labs[2].memory, labs[2].online) == (0, {})


async def test_messages_alone_never_exceed_the_budget() -> None:
    async def act(wire: Wire) -> None:
        await wire.greet()
        await open_group(wire, LARGE)
        await wire.say(*events(SEQ + 1, 4000, "lab"))
        await wire.hear()

    async with alice_at(act) as alice:
        lab = alice.follow("lab")
        await until(alice, lambda: lab.last == 4000)
        assert lab.memory <= 2 * SIZE


async def test_estimates_are_replaced_by_measurements() -> None:
    """Topics replace each other in the state, but each is in the estimate."""
    replica = Replica("ops", 0)
    budget = StateBudget([replica], 100_000)
    for seq in range(1, 200):
        body = Posted("x") if seq == 1 else TopicSet("x" * 256)
        replica.apply_event(Event("ops", seq, 1, "eve", bytes(8), seq, body))
    assert replica.memory > budget.total
    assert await budget.find_excess() is None
    assert replica.memory < 10_000


NAME = NAME_LENGTH * "\U00020000"
"""The longest name, with four bytes for each letter."""

DEVICES = range(KEYS_OF_A_BAN)

GROWTH: dict[str, Callable[[int], list[tuple[str, Body]]]] = {
    "members": lambda n: [(f"m{n}", Joined(key=key_of(n)))],
    "long names": lambda n: [(f"{n}{NAME}"[:NAME_LENGTH], Joined(key=key_of(n)))],
    "bans of many keys": lambda n: [
        *((f"m{n}", Joined(key=key_of(KEYS_OF_A_BAN * n + device))) for device in DEVICES),
        ("eve", Banned(f"m{n}")),
    ],
    "requests": lambda n: [(f"m{n}", Requested(key_of(n)))],
    "denials": lambda n: [(f"m{n}", Requested(key_of(n))), ("eve", Denied(f"m{n}"))],
    "files": lambda n: [("eve", FileShared(n, "plan", 1, bytes(32)))],
    "edits": lambda n: [("eve", Posted("x")), ("eve", Edited(2 * n - 1, "y"))],
    "many edits": lambda n: [("eve", Edited(1, "y") if n > 1 else Posted("x"))],
}


def key_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.mark.parametrize("events_of", GROWTH.values(), ids=GROWTH)
def test_estimated_growth_is_never_too_low(
    events_of: Callable[[int], list[tuple[str, Body]]],
) -> None:
    """The state is measured only when the estimates exceed the budget."""
    replica = Replica("ops", 0)
    empty = memory_of(replica.state)
    all_events = chain.from_iterable(map(events_of, range(1, 300)))
    for seq, (who, body) in enumerate(all_events, start=1):
        replica.apply_event(Event("ops", seq, 1, who, bytes(8), seq, body))
    assert memory_of(replica.state) - empty <= replica.memory


def test_presence_is_subtracted_again() -> None:
    replica = Replica("ops", 0)
    for away in ("lunch", "a long reason", None):
        online = (OnlineMember("Bob", away), OnlineMember("eve"))
        replica.apply_presence(PresenceUpdate("ops", online=online, offline=(), reset=False))
    assert replica.memory > 0
    replica.apply_presence(PresenceUpdate("ops", online=(), offline=("bob", "eve"), reset=False))
    assert replica.memory == 0


def test_measured_memory_is_about_right() -> None:
    edits = {n: MessageEdits(n, tuple(range(n, n + 40))) for n in range(1000, 4000)}
    state = state_of("ops", 3000)
    state.edits = edits
    data = freeze(state)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        group = read_state(data, SEQ)
        real = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.7 * real < memory_of(group) < 1.5 * real


@pytest.mark.parametrize("data", [b"\xff", b"\xa1\x61x\x80" + b"\xa0", freeze(Group("x" * 999))])
def test_error_about_a_snapshot_does_not_keep_it(data: bytes) -> None:
    """Twenty refused snapshots took 335 MB, until the next collection of garbage."""
    error = subscriptions._read_measured(data, 1)
    assert isinstance(error, ProtocolError)
    assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)

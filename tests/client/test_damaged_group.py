"""A group that is damaged on the server: the client does without it, and tries again later."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client import subscriptions
from tchat.client.replica import Replica
from tchat.client.updates import Disconnected, GroupUnusable, LogReplaced
from tchat.core.group.operation import Missing
from tchat.errors import Code, Refused
from tchat.server.groups import actor
from tchat.store.base import LogDamaged
from tests.client.receiving import next_update, pending_updates
from tests.faulty_store import FaultyStore
from tests.helpers import GROUP, members, running_server, session_at, texts, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.helpers import RunningServer

DAMAGED = LogDamaged(GROUP, 2, 3, "the checksum is wrong")


@pytest.fixture
def store() -> FaultyStore:
    """Return the store of the server."""
    return FaultyStore()


@asynccontextmanager
async def two_groups(store: FaultyStore) -> AsyncIterator[RunningServer]:
    """Serve two groups of alice, which have to be read from the store."""
    async with running_server(store) as server:
        for group in (GROUP, "lab"):
            async with members(server, "alice", group=group) as (alice,):
                await alice.post(f"first in {group}", group)
                await alice.post(f"second in {group}", group)
    async with running_server(store) as server:
        yield server


def damage(store: FaultyStore, operation: str, times: float = float("inf")) -> None:
    """Damage the log of a group: it cannot be loaded, or not be read from its beginning."""
    store.fail(
        DAMAGED,
        operation,
        times=times,
        when=lambda call: call["group"] == GROUP and call.get("after", 0) == 0,
    )


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let client and server try a damaged group again at once."""
    monkeypatch.setattr(subscriptions, "DAMAGED_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(actor, "DAMAGED_SECONDS", 0.0)
    monkeypatch.setattr(actor, "IDLE_SECONDS", 0.0)


@pytest.mark.parametrize("operation", ["load", "read"])
async def test_other_groups_stay_on_the_same_connection(store: FaultyStore, operation: str) -> None:
    async with two_groups(store) as server, session_at(server.address, "alice") as alice:
        damage(store, operation)
        ops, lab = alice.follow(GROUP), alice.follow("lab")
        update = await next_update(alice, GroupUnusable)
        assert isinstance(update, GroupUnusable)
        assert (update.replica, update.refusal.code) == (ops, Code.LOG_DAMAGED)
        assert ops.unusable is update.refusal
        await until(alice, lambda: lab.caught_up)
        alice.post(lab, "still here")
        await until(alice, lambda: texts(lab.log)[-1:] == ["still here"])
        assert not any(isinstance(one, Disconnected) for one in pending_updates(alice))
        assert sum(call.operation == operation and not call.done for call in store.calls) == 1


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("operation", ["load", "read"])
async def test_a_mended_group_is_followed_again(store: FaultyStore, operation: str) -> None:
    async with two_groups(store) as server, session_at(server.address, "alice") as alice:
        damage(store, operation, times=3)
        ops = alice.follow(GROUP)
        update = await next_update(alice, GroupUnusable)
        assert isinstance(update, GroupUnusable)
        await until(alice, lambda: ops.caught_up)
        assert texts(ops.log) == [f"first in {GROUP}", f"second in {GROUP}"]
        assert ops.unusable is None
        again = [one for one in pending_updates(alice) if isinstance(one, GroupUnusable)]
        assert not again, "the person is told once"


async def test_attempts_are_minutes_apart() -> None:
    suspended = subscriptions._Suspended()
    waits = []
    for _ in range(8):
        suspended.wait()
        waits.append(suspended.due - trio.current_time())
    assert 14 < waits[0] < 31
    assert 299 < waits[-1] < 601


async def test_messages_to_a_damaged_group_are_given_back(store: FaultyStore) -> None:
    async with two_groups(store) as server, session_at(server.address, "alice") as alice:
        ops = await alice.enter(GROUP)
        await until(alice, lambda: ops.caught_up)
        store.fail(DAMAGED, "append", times=1)
        refused = alice.post(ops, "one")
        await until(alice, lambda: refused.failure)
        assert isinstance(refused.failure, Refused)
        assert refused.failure.code == Code.LOG_DAMAGED
        alice.resend(refused)
        await until(alice, lambda: texts(ops.log)[-1:] == ["one"])


async def test_a_group_goes_on_past_damage(store: FaultyStore) -> None:
    """The client begins with the state, and reads back what is not damaged."""
    async with (
        two_groups(store) as server,
        session_at(server.address, "alice", recent=10) as alice,
    ):
        damage(store, "read")
        store.fail(
            LogDamaged(GROUP, 3, 3, "the checksum is wrong"),
            "read_before",
            when=lambda call: call["before"] == 4,
        )
        ops = alice.follow(GROUP)
        update = await next_update(alice, LogReplaced)
        assert isinstance(update, LogReplaced)
        assert update.is_damaged
        await until(alice, lambda: ops.caught_up)
        alice.post(ops, "third")
        await until(alice, lambda: texts(ops.log) == ["third"])
        while not ops.at_beginning:
            assert await alice.load_history(ops)
        assert texts(ops.log) == [f"first in {GROUP}", "third"]
        assert ops.log[2].body == Missing(1)


def test_a_second_damage_is_not_passed() -> None:
    """Otherwise, a server that always finds damage would be asked without a pause."""
    replica = Replica(GROUP, recent=10)
    assert replica.pass_damage()
    assert not replica.pass_damage()
    replica.on_disconnected()
    assert replica.pass_damage()
    assert not Replica(GROUP, recent=None).pass_damage()

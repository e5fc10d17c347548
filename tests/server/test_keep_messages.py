"""`--keep-messages`: older messages are erased, and the rest of the log stays."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.membership import Join
from tchat.core.group.messages import Delete, Edit, Pin, Post
from tchat.core.group.operation import Expired
from tchat.core.group.settings import SetTopic
from tchat.machine_clocks import DAY_MS
from tchat.server.context import make_context
from tchat.server.limits import Limits, parse_limit
from tchat.server.log import Log
from tchat.server.operations import expiry
from tchat.server.operations.group_commands import Commander
from tchat.server.operations.verification import verify_server
from tchat.store.open import open_store
from tchat.store.words import terms_of
from tests.faulty_store import FaultyStore
from tests.helpers import GROUP, log_of, members, running_server, texts
from tests.store.logs import files_with

if TYPE_CHECKING:
    from pathlib import Path

TODAY = 20_000 * DAY_MS


class Calendar:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = TODAY + 1000

    def __call__(self) -> int:
        return self.now


def limits(days: int) -> Limits:
    return replace(Limits(), keep_messages=days * DAY_MS).without_rates()


async def test_old_messages_are_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "CHECK_SECONDS", 0.01)
    clock = Calendar()
    async with (
        open_store(tmp_path) as store,
        running_server(store, limits(30), clock=clock) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        old = await alice.post("marzipan4711 old")
        await alice.command(Edit, old, "nougat4711 edited")
        await alice.command(Pin, old)
        clock.now += 10 * DAY_MS
        late = await alice.post("praline fresh")
        assert len(await store.search([GROUP], terms_of("nougat4711"), 0, 9)) == 1
        clock.now += 21 * DAY_MS
        await server.logged("removed the messages of ops up to event ")
        assert await store.maintenance.settle()
        assert texts(await log_of(store)) == ["praline fresh"]
        assert await store.search([GROUP], terms_of("nougat4711"), 0, 9) == []
        assert len(await store.search([GROUP], terms_of("praline"), 0, 9)) == 1
        assert (await bob.refusal(Delete, old)).code == "no_such_message"
        await alice.command(Edit, late, "praline still here")
    assert verify_server(tmp_path).faults == []
    assert files_with("4711", tmp_path) == []


async def test_a_day_has_one_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "CHECK_SECONDS", 0.001)
    clock = Calendar()
    async with (
        open_store(tmp_path) as store,
        running_server(store, limits(1), clock=clock) as server,
        members(server, "alice") as (alice,),
    ):
        await alice.post("old")
        clock.now += 3 * DAY_MS
        await server.logged("removed the messages")
        for number in range(50):
            await alice.post(f"new {number}")
        assert sum("removed the messages" in line for line in server.console) == 1


async def test_idle_groups_get_no_further_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "CHECK_SECONDS", 0.001)
    clock = Calendar()
    async with (
        open_store(tmp_path) as store,
        running_server(store, limits(1), clock=clock) as server,
        members(server, "alice") as (alice,),
        members(server, "alice", group="silent"),
    ):
        await alice.post("old")
        clock.now += 3 * DAY_MS
        await server.logged("removed the messages of ops")
        for _ in range(5):
            clock.now += 3 * DAY_MS
            await alice.command(SetTopic, f"day {clock.now // DAY_MS}")
            await store.maintenance.expired(clock.now)
        await alice.post("new")
        clock.now += 3 * DAY_MS
        await server.logged("removed the messages of ops")
    assert sum("removed the messages" in line for line in server.console) == 2


async def test_one_refusal_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FaultyStore()
    old = [(group, 2) for group in ("aaa", "bbb", "ccc")]

    async def expired(_: int) -> list[tuple[str, int]]:
        return old

    monkeypatch.setattr(store.maintenance, "expired", expired)
    with closing(Log(stream=StringIO())) as log:
        async with trio.open_nursery() as groups:
            context = make_context(store, log, groups, limits(1))
            for group, _ in old:
                await Commander(context, "alice").give(Join(0, 0, group))
                await Commander(context, "alice").give(Post(0, 0, group, "old"))
            store.fill("append", when=lambda call: call["group"] == "aaa")
            await expiry.expire(context)
            context.registry.close()
    logs = {group: [e.body for e in await log_of(store, group)] for group, _ in old}
    assert {group for group, log in logs.items() if Expired(2) in log} == {"bbb", "ccc"}


@pytest.mark.parametrize("text", ["12h", "36h", "1", "d", "0d"])
def test_only_whole_days_are_accepted(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_limit("keep_messages", text)
    assert parse_limit("keep_messages", "2d") == 2 * DAY_MS
    assert parse_limit("keep_messages", "forever") is None

"""Unsent messages of one process are sent by the next: first, in order, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.updates import JournalDamaged
from tchat.core.text import fold
from tchat.errors import Code, Refused
from tests.client.receiving import next_update
from tests.client.unsent import again, delivered, drops, left_in, waiting
from tests.fault_proxy import FaultProxy, cut_off, fault_proxy
from tests.helpers import (
    GROUP,
    GUARD,
    log_of,
    members,
    running_server,
    session_at,
    session_of,
    texts,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.client.client_id import ClientId


async def test_next_process_sends_unsent_messages(client_id: ClientId, tmp_path: Path) -> None:
    async with running_server() as server, fault_proxy(server.address) as proxy:
        async with session_of(proxy.address, "alice", client_id) as (alice, ops):
            await cut_off(proxy, alice)
            alice.post(ops, "one")
            alice.post(ops, "two", reply=1)
        assert left_in(tmp_path, proxy.address) == ["one", "two"]
        proxy.refusing = False
        async with session_at(proxy.address, "alice", again(client_id)) as alice:
            ops = alice.follow(GROUP)
            assert waiting(ops) == ["one", "two"]
            alice.post(ops, "three")
            await delivered(alice, ops)
            assert texts(ops.log) == ["one", "two", "three"]
        assert left_in(tmp_path, proxy.address) == []


@pytest.mark.parametrize("lost", ["post", "event"])
async def test_possibly_sent_messages_keep_their_numbers(
    lost: str, client_id: ClientId, tmp_path: Path
) -> None:
    async with running_server() as server, fault_proxy(server.address) as proxy:
        async with session_of(proxy.address, "alice", client_id) as (alice, ops):
            await alice.post(ops, "before").wait()
            answers = drops(type="ok")
            proxy.watch = lambda side, frame: (
                "drop" if frame["type"] == lost else answers(side, frame)
            )
            alice.post(ops, "perhaps")
            await proxy.passes(type=lost, text="perhaps")
        proxy.watch = FaultProxy(server.address).watch
        async with session_at(proxy.address, "alice", again(client_id)) as alice:
            ops = alice.follow(GROUP)
            assert waiting(ops) == ["perhaps"]
            alice.post(ops, "after")
            await delivered(alice, ops)
            assert texts(ops.log) == ["before", "perhaps", "after"]
        sent = [f for f in proxy.of_type("post") if f["text"] == "perhaps"]
        assert len({(f["n"], f["text"]) for f in sent}) == 1
        assert left_in(tmp_path, proxy.address) == []


async def test_unsent_messages_reach_unfollowed_groups(client_id: ClientId, tmp_path: Path) -> None:
    async with running_server() as server, members(server, "alice", group="dev"):
        name = f"{server.address} without TLS"
        client_id.journal.add("alice", name, "dev", "left here", None, 1)
        async with session_of(server.address, "alice", again(client_id)) as (alice, _):
            await alice.wait_for_answers()
            assert fold("dev") not in alice.groups
        assert texts(await log_of(server.store, "dev")) == ["left here"]
        assert left_in(tmp_path, server.address) == []


async def test_unsent_messages_of_others_are_not_sent(client_id: ClientId, tmp_path: Path) -> None:
    async with running_server() as server, members(server, "alice", "bob"):
        name = f"{server.address} without TLS"
        client_id.journal.add("bob", name, GROUP, "of bob", None, 1)
        client_id.journal.add("alice", "elsewhere:1 without TLS", GROUP, "for elsewhere", None, 1)
        async with session_of(server.address, "alice", again(client_id)) as (alice, ops):
            await alice.post(ops, "of alice").wait()
        assert texts(await log_of(server.store)) == ["of alice"]
        assert left_in(tmp_path, server.address, "bob") == ["of bob"]


async def test_next_process_shows_refused_messages_unsent(client_id: ClientId) -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        members(server, "alice"),
    ):
        async with session_of(proxy.address, "bob", client_id) as (bob, ops):
            with pytest.raises(Refused):
                await bob.post(ops, "too early").wait()
        proxy.frames.clear()
        later = again(client_id)
        async with session_of(proxy.address, "bob", later) as (bob, ops):
            (pending,) = ops.pending
            assert pending.failure is not None
            assert pending.failure.code == Code.NOT_APPROVED
            with pytest.raises(Refused):
                await pending.wait()
            bob.discard(pending)
            await bob.wait_for_answers()
            assert proxy.of_type("post") == []
        async with session_of(proxy.address, "bob", again(later)) as (_, ops):
            assert ops.pending == []


async def test_journal_damage_is_reported(client_id: ClientId, tmp_path: Path) -> None:
    (tmp_path / "slots" / "0.outbox").write_bytes(b"no journal\n")
    async with (
        running_server() as server,
        session_at(server.address, "alice", again(client_id)) as alice,
    ):
        update = await next_update(alice, JournalDamaged)
    assert isinstance(update, JournalDamaged)
    assert "0.outbox was damaged" in update.sentence


# ------------------------------------------------------------------ numbers


async def test_new_numbers_stay_within_the_dedup_window(
    client_id: ClientId,
) -> None:
    async with running_server() as server, fault_proxy(server.address) as proxy:
        async with session_of(proxy.address, "alice", client_id) as (alice, ops):
            proxy.watch = drops(type="post")
            alice.post(ops, "old")
            await proxy.passes(type="post")
        for _ in range(3):  # other processes use a few numbers and are killed
            between = again(client_id)
            between.next_number()
        held = drops(type="post", text="old")
        proxy.watch = lambda side, frame: (
            "drop" if side == "client" and held(side, frame) == "drop" else "pass"
        )
        async with session_at(proxy.address, "alice", again(client_id)) as alice:
            ops = alice.follow(GROUP)
            alice.post(ops, "new")
            with trio.fail_after(GUARD):
                while len([f for f in proxy.of_type("post") if f["text"] == "old"]) < 2:
                    await trio.lowlevel.checkpoint()
            await until(alice, lambda: ops.caught_up)
            assert [f for f in proxy.of_type("post") if f["text"] == "new"] == []
            proxy.watch = FaultProxy(server.address).watch
            proxy.cut()
            await delivered(alice, ops)
            assert texts(ops.log) == ["old", "new"]

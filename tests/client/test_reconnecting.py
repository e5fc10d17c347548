"""Reconnection and catch-up: each post is stored once, and every group resumes."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tchat.client.client_id import ClientId
from tchat.client.updates import Connected, Disconnected
from tchat.core.group.membership import Kick
from tchat.errors import Code, Refused
from tchat.store.open import open_store
from tests.client.receiving import next_update
from tests.fault_proxy import Side, Verdict, cut_off, fault_proxy
from tests.helpers import (
    GROUP,
    GUARD,
    approve,
    log_of,
    members,
    running_server,
    seqs,
    session_of,
    texts,
    until,
)
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session


# ------------------------------------------------------------------ broken connections


def cut_at(side: Side, verdict: Verdict, positions: set[int]) -> Callable[[Side, Any], Verdict]:
    """Return a watch that cuts the connection at these frames of one side, over all connections."""
    counter = count()

    def watch(who: Side, frame: dict[str, Any]) -> Verdict:
        return verdict if who == side and next(counter) in positions else "pass"

    return watch


async def post_steadily(session: Session, replica: Replica, words: list[str]) -> None:
    """Post in groups of three; wait for the last answer of each."""
    for start in range(0, len(words), 3):
        requests = [session.post(replica, text) for text in words[start : start + 3]]
        await requests[-1].wait()


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("verdict", ["cut", "tear"])
@pytest.mark.parametrize("step", [2, 3, 7])
async def test_posts_are_stored_once_despite_cuts(side: Side, verdict: Verdict, step: int) -> None:
    words = [f"text {n}" for n in range(60)]
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        proxy.watch = cut_at(side, verdict, set(range(0, 30 * step, step)))
        with trio.fail_after(GUARD):
            await post_steadily(alice, ops, words)
        await until(alice, lambda: len(texts(ops.log)) == len(words))
        assert texts(await log_of(server.store)) == words
        assert ops.log == await log_of(server.store)


async def test_all_posts_at_once_survive_cuts_in_order() -> None:
    words = [f"text {n}" for n in range(200)]
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        proxy.watch = cut_at("server", "tear", set(range(0, 900, 30)))
        requests = [alice.post(ops, text) for text in words]
        for request in requests:
            await request.wait()
        assert texts(await log_of(server.store)) == words


async def test_readers_get_every_event_once_despite_cuts() -> None:
    words = [f"text {n}" for n in range(150)]
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(server.address, "alice") as (alice, ops),
        session_of(proxy.address, "bob") as (bob, there),
    ):
        await approve(alice, "bob")
        await until(bob, lambda: there.caught_up)
        proxy.watch = cut_at("server", "tear", set(range(0, 400, 9)))
        await post_steadily(alice, ops, words)
        await until(bob, lambda: len(texts(there.log)) == len(words))
        assert there.log == await log_of(server.store)
        assert seqs(there.log) == list(range(1, len(there.log) + 1))


async def test_session_resumes_after_its_last_event() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        for n in range(10):
            await alice.post(ops, f"text {n}").wait()
        proxy.cut()
        await next_update(alice, Disconnected)
        assert await next_update(alice, Connected) == Connected("alice", again=True)
        await alice.post(ops, "after the cut").wait()
        attached = [f["after"] for side, f in proxy.frames if f["type"] == "attach"]
        assert attached[-1] == 11
        sent = [f["seq"] for side, f in proxy.frames if f["type"] == "event"]
        assert sent == list(range(1, 13))


async def test_missing_event_causes_another_catch_up() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        await until(alice, lambda: ops.caught_up)
        lost = {"text 3"}

        def lose(side: Side, frame: dict[str, Any]) -> Verdict:
            if side == "server" and frame.get("text") in lost:
                lost.clear()
                return "drop"
            return "pass"

        proxy.watch = lose
        for n in range(6):
            await alice.post(ops, f"text {n}").wait()
        await until(alice, lambda: len(texts(ops.log)) == 6)
        assert ops.log == await log_of(server.store)


async def test_requests_made_while_disconnected_are_sent_on_reconnection() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        await alice.post(ops, "before").wait()
        await cut_off(proxy, alice)
        requests = [alice.post(ops, f"meanwhile {n}") for n in range(3)]
        refused = alice.submit(lambda i, n: Kick(i, n, GROUP, "nobody"))
        requests.append(alice.post(ops, "last"))
        assert not any(pending.request.done.is_set() for pending in requests)
        assert not refused.done.is_set()
        proxy.refusing = False
        for request in requests:
            await request.wait()
        with pytest.raises(Refused) as caught:
            await refused.wait()
        assert caught.value.code == Code.NO_SUCH_MEMBER
        said = ["before", "meanwhile 0", "meanwhile 1", "meanwhile 2", "last"]
        assert texts(await log_of(server.store)) == said


async def test_invalid_message_is_refused_offline_too() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        await cut_off(proxy, alice)
        with pytest.raises(Refused) as caught:
            alice.post(ops, 20_000 * "x")
        assert caught.value.code == Code.TEXT_TOO_LONG
        assert alice.unanswered <= 1  # the attach that will resume


async def test_missed_approval_is_found_on_reconnection() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(server.address, "alice") as (alice, _),
        session_of(proxy.address, "bob") as (bob, ops),
    ):
        await cut_off(proxy, bob)
        await approve(alice, "bob")
        proxy.refusing = False
        await until(bob, lambda: ops.caught_up)
        assert ops.log == await log_of(server.store)


async def test_missed_kick_is_found_on_reconnection() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(server.address, "alice") as (alice, _),
        session_of(proxy.address, "bob") as (bob, ops),
    ):
        await approve(alice, "bob")
        await until(bob, lambda: ops.caught_up)
        await cut_off(proxy, bob)
        await alice.request(lambda i, n: Kick(i, n, GROUP, "bob"))
        proxy.refusing = False
        await until(bob, lambda: ops.standing == "outsider")
        assert ops.kicked


async def test_clients_resume_after_a_server_restart(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
        session_of(proxy.address, "bob") as (bob, there),
    ):
        await approve(alice, "bob")
        await until(bob, lambda: there.caught_up)
        await alice.post(ops, "one").wait()
        await bob.post(there, "two").wait()
        await server.end()
        alice.post(ops, "three")
        async with running_server(store) as again:
            proxy.target = again.address
            await until(bob, lambda: "three" in texts(there.log))
            await bob.post(there, "four").wait()
            await until(alice, lambda: "four" in texts(ops.log))
        assert texts(ops.log) == ["one", "two", "three", "four"]
        assert ops.log == there.log == await log_of(store)


async def test_restored_server_is_followed_from_the_beginning() -> None:
    backup = MemoryStore()
    async with running_server(backup) as server, members(server, "alice") as (someone,):
        await someone.post("in the backup")
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        for n in range(5):
            await alice.post(ops, f"not in the backup {n}").wait()
        await server.end()
        async with running_server(backup) as restored:
            proxy.target = restored.address
            await until(alice, lambda: texts(ops.log) == ["in the backup"])
            await alice.post(ops, "and on").wait()
            await until(alice, lambda: texts(ops.log) == ["in the backup", "and on"])
        assert ops.log == await log_of(backup)


async def test_lost_command_numbers_lose_no_posts() -> None:
    client_id = ClientId()
    async with running_server() as server:
        async with session_of(server.address, "alice", client_id) as (alice, ops):
            for n in range(20):
                await alice.post(ops, f"text {n}").wait()
        forgetful = ClientId()
        forgetful.client = client_id.client
        async with session_of(server.address, "alice", forgetful) as (alice, ops):
            await alice.post(ops, "not taken for a repetition").wait()
        assert texts(await log_of(server.store))[-1] == "not taken for a repetition"

"""Durability: the server is killed (SIGKILL) repeatedly under load, and no message is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.client import backoff
from tchat.store.open import open_store
from tests.fault_proxy import fault_proxy
from tests.helpers import GUARD, approve, log_of, seqs, session_of, texts, until
from tests.processes import Launcher, Person, Server, launching

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.group.feature import Event

NAMES = ["alice", "bob", "carol"]


async def stored(home: Path) -> list[Event]:
    """Return the log on disk; no server may be running."""
    async with open_store(home / "data") as store:
        return await log_of(store)


def messages_of(name: str, lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(f"<{name}> ")]


async def kill_and_restart(launch: Launcher, server: Server) -> Server:
    """Kill the server and start it again on the same port and data."""
    await server.kill()
    return await launch.serve(port=server.address.port)


async def post_paced(person: Person, name: str, number: int) -> None:
    """Post messages, at most five ahead of what has come back."""
    for n in range(number):
        await person.type(f"text {n}")
        if n >= 5:
            await person.sees(f"<{name}> text {n - 5}")


async def start_members(launch: Launcher, server: Server) -> dict[str, Person]:
    """Start clients of three members, and of a fourth who then goes offline."""
    people = {name: await launch.join(server.address, name) for name in NAMES[:1]}
    alice = people["alice"]
    await alice.sees("in #ops; nobody else is here yet.")
    for name in [*NAMES[1:], "dave"]:
        people[name] = await launch.join(server.address, name)
        await alice.sees(f"{name} asks to join")
        await alice.type(f"/2 {name}")
        await people[name].sees("in #ops")
    assert await people.pop("dave").end() == 0
    return people


async def test_clients_lose_nothing_to_server_crashes(tmp_path: Path) -> None:
    number = 120
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        people = await start_members(launch, server)
        async with trio.open_nursery() as nursery:
            for name, person in people.items():
                nursery.start_soon(post_paced, person, name, number)
            for milestone in (20, 50, 80):
                await people["bob"].sees(f"<carol> text {milestone}")
                server = await kill_and_restart(launch, server)
        for person in people.values():
            for name in NAMES:
                await person.sees(f"<{name}> text {number - 1}")
        dave = await launch.join(server.address, "dave")
        assert await dave.end() == 0
        for person in people.values():
            assert await person.end() == 0
        assert await server.stop() == 0
    log = [f"<{event.actor}> {text}" for event in await stored(tmp_path) for text in texts([event])]
    for name in NAMES:
        assert messages_of(name, log) == [f"<{name}> text {n}" for n in range(number)]
    for person in [*people.values(), dave]:
        assert person.heard == log


async def post_all(session: Session, replica: Replica, words: list[str]) -> None:
    """Post in batches of ten, each when the last is acknowledged."""
    for start in range(0, len(words), 10):
        receipts = [session.post(replica, text) for text in words[start : start + 10]]
        for receipt in receipts:
            await receipt.wait()


async def test_sessions_at_full_speed_survive_server_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "LONGEST_SECONDS", 0.1)
    words = {name: [f"{name} {n}" for n in range(600)] for name in NAMES}
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        async with (
            fault_proxy(server.address) as proxy,
            session_of(proxy.address, "alice") as (alice, ops),
            session_of(proxy.address, "bob") as (bob, at_bobs),
            session_of(proxy.address, "carol") as (carol, at_carols),
        ):
            for name, session in (("bob", bob), ("carol", carol)):
                await approve(alice, name)
                await until(session, lambda s=session: s.groups["ops"].caught_up)  # type: ignore[misc]
            with trio.fail_after(GUARD):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(post_all, alice, ops, words["alice"])
                    nursery.start_soon(post_all, bob, at_bobs, words["bob"])
                    nursery.start_soon(post_all, carol, at_carols, words["carol"])
                    for milestone in (50, 150, 300, 450):
                        await until(alice, lambda m=milestone: len(ops.log) > 3 * m)  # type: ignore[misc]
                        server = await kill_and_restart(launch, server)
            for session in (alice, bob, carol):
                replica = session.groups["ops"]
                await until(session, lambda r=replica: len(texts(r.log)) == 1800)  # type: ignore[misc]
        assert await server.stop() == 0
    log = await stored(tmp_path)
    assert ops.log == at_bobs.log == at_carols.log == log
    assert seqs(log) == list(range(1, len(log) + 1))
    for name in NAMES:
        assert [text for text in texts(log) if text.startswith(name)] == words[name]

"""`--keep-messages`: older messages are erased, and the rest of the log stays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tchat.core.group.messages import Delete, Edit, Pin
from tchat.server.limits import Limits
from tchat.server.operations import expiry
from tchat.server.operations.expiry import DAY_MS
from tchat.server.operations.verification import verify_server
from tchat.store.open import open_store
from tchat.store.words import terms_of
from tests.helpers import GROUP, log_of, members, running_server, texts
from tests.store.logs import files_with

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

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
        while b"4711" in (tmp_path / "tchat.db").read_bytes():
            await alice.before_pong()
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

"""Search in a person's own groups, and nowhere else."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import trio

from tchat.core.group.membership import Join, Kick, Leave
from tchat.core.group.messages import Delete, Edit
from tchat.core.group.state import Author
from tchat.core.pace import Rate
from tchat.core.protocol.frames import Search, SearchResults
from tchat.errors import Code
from tchat.machine_clocks import now_ms
from tchat.server.connections import history
from tchat.server.costs import UNITS_PER_CORE, cost_of_excerpt
from tchat.server.fair_queue import FairQueue
from tchat.server.ledger import Budget, LedgerAccount
from tchat.store.open import open_store
from tests.faulty_store import FaultyStore
from tests.helpers import (
    GROUP,
    members,
    raw_client,
    running_server,
)
from tests.memory_store import MemoryStore
from tests.server.requests import found, refusal, search

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.server.context import ServerContext
    from tchat.store.base import Store


@asynccontextmanager
async def _open_memory() -> AsyncIterator[Store]:
    yield MemoryStore()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = _open_memory() if request.param == "memory" else open_store(tmp_path / "data")
    async with opened as store:
        yield store


async def test_messages_are_found_by_their_words(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice", "bob") as (alice, bob):
        first = await alice.post("The numbers are in")
        second = await bob.post("which numbers?")
        got = await found(alice, "numb")
        assert [hit.group for hit in got.hits] == [GROUP, GROUP]
        assert [hit.seq for hit in got.hits] == [second, first]
        assert [hit.actor for hit in got.hits] == ["bob", "alice"]
        assert [hit.text for hit in got.hits] == ["which numbers?", "The numbers are in"]
        assert got.hits[0].at >= got.hits[1].at > 0
        assert not got.older


async def test_search_finds_the_edited_text(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        one, two = await alice.post("apples"), await alice.post("apples and pears")
        await alice.command(Edit, one, "plums")
        assert await search(alice, "plums") == [(GROUP, one, "plums")]
        assert await search(alice, "apples") == [(GROUP, two, "apples and pears")]
        await alice.command(Delete, two)
        assert await search(alice, "apples") == []


async def test_search_covers_all_groups_of_a_member(store: Store) -> None:
    async with (
        running_server(store) as server,
        members(server, "alice", "bob", group="One") as (alice, bob),
        members(server, "bob", "carol", group="two") as (_, carol),
    ):
        await alice.post("hello one", group="One")
        said_at = now_ms()
        while now_ms() == said_at:  # so that the second message is newer by its time
            await trio.lowlevel.checkpoint()
        await carol.post("hello two", group="two")
        assert [hit[0] for hit in await search(bob, "hello")] == ["two", "One"]
        assert [hit[0] for hit in await search(bob, "hello", "one")] == ["One"]
        assert [hit[0] for hit in await search(alice, "hello")] == ["One"]
        for group in ("two", "nowhere"):
            assert (
                await refusal(alice, lambda i, g=group: Search(i, "hello", g))  # type: ignore[misc]
                == Code.NOT_MEMBER
            )


async def test_former_member_finds_nothing(store: Store) -> None:
    async with (
        running_server(store) as server,
        members(server, "alice", "bob", "carol") as (alice, bob, carol),
        raw_client(server.address, "dave") as dave,
    ):
        await alice.post("hello")
        assert await search(bob, "hello")
        await alice.command(Kick, "bob")
        await carol.command(Leave)
        await dave.command(Join)
        for outsider in (bob, carol, dave):
            assert await search(outsider, "hello") == []


async def test_messages_before_a_refounding_are_not_found(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        await alice.post("hello from before")
        assert await search(alice, "hello")
        await alice.command(Leave)
        await alice.command(Join)
        assert await search(alice, "hello") == []
        await alice.post("hello now")
        assert [hit[2] for hit in await search(alice, "hello")] == ["hello now"]


async def test_results_come_in_pages_of_twenty(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        for n in range(45):
            await alice.post(f"hello {n}")
        pages = [await found(alice, "hello", skip=skip) for skip in (0, 20, 40, 60)]
        assert [(len(page.hits), page.older) for page in pages] == [
            (20, True),
            (20, True),
            (5, False),
            (0, False),
        ]
        texts = [hit.text for page in pages for hit in page.hits]
        assert texts == [f"hello {n}" for n in reversed(range(45))]


async def test_long_messages_are_excerpted_around_the_match(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        await alice.post(f"{'x ' * 4000} needle {'y ' * 3000}")
        ((_, _, text),) = await search(alice, "needle")
        assert "needle" in text
        assert len(text) <= 202


async def test_page_of_longest_messages_fits_a_frame(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        for _ in range(21):
            await alice.post("🎉" * 4000 + " needle")
        got = await found(alice, "needle")
        assert (len(got.hits), got.older) == (20, True)


async def test_search_needs_a_word_of_limited_length() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        assert await refusal(alice, lambda i: Search(i, "")) == Code.EMPTY_TEXT
        assert await refusal(alice, lambda i: Search(i, " … !")) == Code.EMPTY_TEXT
        assert await refusal(alice, lambda i: Search(i, "x" * 201)) == Code.TEXT_TOO_LONG
        assert await refusal(alice, lambda i: Search(i, "x", "a b")) == Code.BAD_NAME
        assert await search(alice, "x", skip=2**62) == []


async def test_search_is_charged_for_what_it_took() -> None:
    """Texts are looked through here, the rest is done by threads that only searches wait for."""
    store = FaultyStore(MemoryStore(search_seconds=0.1))
    async with running_server(store) as server, members(server, "alice") as (alice,):
        await alice.post(text := "nädle " * 2000)
        budget = Budget(Rate(1, 1_000_000))
        shared = Budget(Rate(1, 1_000_000))
        account = LedgerAccount(budget, (shared,))
        context = SimpleNamespace(
            store=store,
            search_queue=FairQueue("searches", 1, 1),
            registry=SimpleNamespace(erasures=lambda _: 0),
        )
        request = Search(1, "nädle")
        author = Author("alice", b"")
        got = await history.search(cast("ServerContext", context), author, request, account)
    assert len(got.hits) == 1
    assert round(shared.used) == round(cost_of_excerpt(text)) > 0
    assert round(budget.used - shared.used) == 0.1 * UNITS_PER_CORE


async def test_deletion_during_a_search_is_respected() -> None:
    store = FaultyStore()
    found = store.hold("search", after=True)
    async with (
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, bob),
        trio.open_nursery() as nursery,
    ):
        target = await alice.post("a slip")

        async def search_and_find_nothing() -> None:
            assert await search(bob, "slip") == []

        nursery.start_soon(search_and_find_nothing)
        await found.reached.wait()
        await alice.command(Delete, target)
        found.release()


async def test_search_ends_while_others_delete() -> None:
    store = FaultyStore()
    held = store.hold("search", after=True)
    async with running_server(store) as server, members(server, "alice", "bob") as (alice, bob):
        gone, kept = await alice.post("a slip"), await alice.post("another slip")
        await bob.events(2)
        await bob.send(Search(1, "slip"))
        await held.reached.wait()
        await alice.command(Delete, gone)
        held.release()
        await bob.events(1)
        assert [hit.seq for hit in (await bob.expect(SearchResults)).hits] == [kept]
        assert store.count("search") == 1


async def test_search_that_waits_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_WAIT_SECONDS", 0.01)
    store = FaultyStore()
    store.hold("search")
    async with running_server(store) as server, members(server, "alice") as (alice,):
        assert await refusal(alice, lambda i: Search(i, "hello")) == Code.TOO_SLOW


async def test_waiting_for_a_turn_counts_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def never(*_: object) -> AsyncIterator[None]:
        await trio.Event().wait()
        yield

    monkeypatch.setattr(history, "MAX_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(FairQueue, "admit", never)
    async with running_server() as server, members(server, "alice") as (alice,):
        assert await refusal(alice, lambda i: Search(i, "hello")) == Code.TOO_SLOW


async def test_person_has_one_search_on_all_connections() -> None:
    store = FaultyStore()
    held = store.hold("search")
    async with (
        running_server(store) as server,
        members(server, "alice", "bob", "carol") as (alice, bob, carol),
        raw_client(server.address, "alice") as elsewhere,
    ):
        await carol.post("hello")
        await alice.events(1)
        await bob.events(1)
        for client in (alice, elsewhere, bob):
            await client.send(Search(101, "hello"))
            for _ in range(10):  # so that it arrives before the next one
                await carol.before_pong()
        assert store.count("search") == 2
        held.release()
        for client in (alice, elsewhere, bob):
            assert len((await client.expect(SearchResults)).hits) == 1
        assert store.count("search") == 3

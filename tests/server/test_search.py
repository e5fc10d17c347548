"""Searching: in one's own groups and nowhere else."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.commands import Delete, Edit, Join, Kick, Leave
from tchat.core.pace import Rate
from tchat.core.protocol.frames import Search
from tchat.errors import Code
from tchat.server.clock import now_ms
from tchat.store.open import open_store
from tests.helpers import (
    GROUP,
    UNHURRIED,
    members,
    raw_client,
    running_server,
)
from tests.memory_store import MemoryStore
from tests.server.asking import found, refusal, search

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence
    from pathlib import Path

    from tchat.store.base import Hit, Store
    from tchat.store.words import Term


@asynccontextmanager
async def _open_memory() -> AsyncIterator[Store]:
    yield MemoryStore()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = _open_memory() if request.param == "memory" else open_store(tmp_path / "data")
    async with opened as store:
        yield store


async def test_what_was_said_is_found_by_its_words(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice", "bob") as (alice, bob):
        first = await alice.post("The numbers are in")
        second = await bob.post("which numbers?")
        got = await found(alice, "numb")
        assert got.groups == (GROUP, GROUP)
        assert got.seqs == (second, first)
        assert got.actors == ("bob", "alice")
        assert got.texts == ("which numbers?", "The numbers are in")
        assert got.ats[0] >= got.ats[1] > 0
        assert not got.older


async def test_it_is_found_by_what_it_says_now(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        one, two = await alice.post("apples"), await alice.post("apples and pears")
        await alice.command(Edit, one, "plums")
        assert await search(alice, "plums") == [(GROUP, one, "plums")]
        assert await search(alice, "apples") == [(GROUP, two, "apples and pears")]
        await alice.command(Delete, two)
        assert await search(alice, "apples") == []


async def test_all_groups_are_searched_of_which_one_is_a_member(store: Store) -> None:
    async with (
        running_server(store) as server,
        members(server, "alice", "bob", group="One") as (alice, bob),
        members(server, "bob", "carol", group="two") as (_, carol),
    ):
        await alice.post("hello one", group="One")
        said_at = now_ms()
        while now_ms() == said_at:  # or none of the two would be the newer one
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


async def test_whoever_is_out_finds_nothing_any_more(store: Store) -> None:
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


async def test_of_a_former_life_nothing_is_found(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        await alice.post("hello from before")
        assert await search(alice, "hello")
        await alice.command(Leave)
        await alice.command(Join)
        assert await search(alice, "hello") == []
        await alice.post("hello now")
        assert [hit[2] for hit in await search(alice, "hello")] == ["hello now"]


async def test_what_is_found_comes_in_pages_of_twenty(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        for n in range(45):
            await alice.post(f"hello {n}")
        pages = [await found(alice, "hello", skip=skip) for skip in (0, 20, 40, 60)]
        assert [(len(page.texts), page.older) for page in pages] == [
            (20, True),
            (20, True),
            (5, False),
            (0, False),
        ]
        texts = [text for page in pages for text in page.texts]
        assert texts == [f"hello {n}" for n in reversed(range(45))]


async def test_long_messages_are_cut_around_what_was_found(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        await alice.post(f"{'x ' * 4000} needle {'y ' * 3000}")
        ((_, _, text),) = await search(alice, "needle")
        assert "needle" in text
        assert len(text) <= 202


async def test_a_page_of_the_longest_messages_fits_a_frame(store: Store) -> None:
    async with running_server(store) as server, members(server, "alice") as (alice,):
        for _ in range(21):
            await alice.post("🎉" * 4000 + " needle")
        got = await found(alice, "needle")
        assert (len(got.texts), got.older) == (20, True)


async def test_a_search_needs_a_word_and_is_not_too_long() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        assert await refusal(alice, lambda i: Search(i, "")) == Code.EMPTY_TEXT
        assert await refusal(alice, lambda i: Search(i, " … !")) == Code.EMPTY_TEXT
        assert await refusal(alice, lambda i: Search(i, "x" * 201)) == Code.TEXT_TOO_LONG
        assert await refusal(alice, lambda i: Search(i, "x", "a b")) == Code.BAD_NAME
        assert await search(alice, "x", skip=2**62) == []


async def test_searching_counts_for_more_than_other_requests() -> None:
    limits = replace(UNHURRIED, requests=Rate(0.001, 25))
    async with running_server(limits=limits) as server, raw_client(server.address, "eve") as eve:
        assert await search(eve, "hello") == []
        assert await search(eve, "hello") == []
        assert await refusal(eve, lambda i: Search(i, "hello")) == Code.RATE_LIMITED


class HeldStore(MemoryStore):
    """Holds what was found until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.waiting = trio.Event(), trio.Event()

    async def search(
        self, groups: Collection[str], terms: Sequence[Term], skip: int, most: int
    ) -> list[Hit]:
        hits = await super().search(groups, terms, skip, most)
        self.waiting.set()
        await self.gate.wait()
        return hits


async def test_what_was_found_just_before_a_deletion_is_not_given_out_after_it() -> None:
    store = HeldStore()
    async with (
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, bob),
        trio.open_nursery() as nursery,
    ):
        target = await alice.post("a slip")

        async def search_and_find_nothing() -> None:
            assert await search(bob, "slip") == []

        nursery.start_soon(search_and_find_nothing)
        await store.waiting.wait()
        await alice.command(Delete, target)
        store.gate.set()

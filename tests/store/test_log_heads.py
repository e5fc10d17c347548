"""Identities and running digests of logs: the contract of every store, and older databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.feature import Event
from tchat.core.group.features import encode_event
from tchat.core.group.log_digest import EMPTY, extend
from tchat.core.group.messages import Deleted, Posted
from tchat.store.base import UNFOUNDED, UNKNOWN_HEAD, LogHead, SideEffects, Store
from tchat.store.sqlite.store import open_sqlite
from tests.store.batches import append

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY, OTHER = bytes(range(16)), bytes(range(16, 32))
EVENTS = [Event("ops", seq, seq, "alice", bytes(8), seq, Posted("hello")) for seq in range(1, 11)]
DIGESTS = {seq: extend(EMPTY, EVENTS[:seq]) for seq in range(11)}
BATCHES = [(0, 1), (1, 6), (6, 10)]


async def append_batches(store: Store) -> None:
    """Append ten events in three batches."""
    for start, end in BATCHES:
        frames = b"".join(map(encode_event, EVENTS[start:end]))
        head = LogHead(IDENTITY if start == 0 else OTHER, DIGESTS[end])
        await store.append("ops", start, end - start, frames, head=head)


async def test_log_keeps_its_first_identity(store: Store) -> None:
    assert (await store.load("ops")).head == UNFOUNDED
    await append_batches(store)
    assert (await store.load("ops")).head == LogHead(IDENTITY, DIGESTS[10])


async def test_digest_is_known_at_every_event(store: Store) -> None:
    await append_batches(store)
    assert await store.digests("ops", range(11)) == DIGESTS
    assert await store.digests("ops", [11, 1000]) == {}
    assert await store.digests("dev", [1]) == {}


@pytest.mark.parametrize("erased", [SideEffects(erased=(1, 4)), SideEffects(closed_after=10)])
async def test_erasing_changes_no_digest(store: Store, erased: SideEffects) -> None:
    await append_batches(store)
    event = replace(EVENTS[0], seq=11, body=Deleted(4))
    digest = extend(DIGESTS[10], [event])
    await store.append("ops", 10, 1, encode_event(event), erased, LogHead(IDENTITY, digest))
    await store.maintenance.settle()
    assert await store.digests("ops", range(11)) == DIGESTS
    assert (await store.load("ops")).head == LogHead(IDENTITY, digest)


async def test_unknown_digests_are_left_out(store: Store) -> None:
    await append(store, "ops", b"one", b"two")
    assert await store.digests("ops", [1, 2]) == {}
    assert (await store.load("ops")).head == UNKNOWN_HEAD


async def test_every_log_gets_a_new_identity(store: Store) -> None:
    await append_batches(store)
    await store.append("dev", 0, 1, encode_event(replace(EVENTS[0], group="dev")))
    await store.maintenance.renew_identities()
    heads = [(await store.load(group)).head for group in ("ops", "dev")]
    assert len({IDENTITY, b"", *(head.identity for head in heads)}) == 4
    assert heads[0].digest == DIGESTS[10]
    assert await store.digests("ops", range(11)) == DIGESTS


def make_older(directory: Path) -> None:
    """Make the database one from before the digests."""
    with closing(sqlite3.connect(directory / "tchat.db", isolation_level=None)) as connection:
        connection.execute("ALTER TABLE segments DROP COLUMN digest")
        connection.execute("ALTER TABLE groups DROP COLUMN identity")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {version - 1}")


async def test_older_logs_get_heads(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as store:
        await append_batches(store)
        await store.append("dev", 0, 1, encode_event(replace(EVENTS[0], group="dev")))
    make_older(tmp_path)
    async with open_sqlite(tmp_path) as store:
        assert await store.digests("ops", range(11)) == DIGESTS
        heads = [(await store.load(group)).head for group in ("ops", "dev")]
        assert [head.digest for head in heads] == [DIGESTS[10], DIGESTS[1]]
        assert len({b"", IDENTITY, *(head.identity for head in heads)}) == 4


async def test_damaged_older_log_has_no_digest(tmp_path: Path) -> None:
    """It must not keep the other groups from being served."""
    async with open_sqlite(tmp_path) as store:
        await append(store, "dev", b"damaged")
        await append_batches(store)
    make_older(tmp_path)
    async with open_sqlite(tmp_path) as store:
        assert await store.digests("dev", [1]) == {}
        assert await store.digests("ops", range(11)) == DIGESTS

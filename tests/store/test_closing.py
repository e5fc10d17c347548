"""Closing a group: its events, index and snapshot are erased; other groups are left alone."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import trio

from tchat.core.group.feature import Event
from tchat.core.group.features import encode_event
from tchat.core.group.messages import Erased, Posted
from tchat.store.base import SideEffects, StateSnapshot
from tchat.store.open import open_store
from tchat.store.sqlite import closing, erasing
from tests.core.script import NOON
from tests.helpers import GROUP, log_of, texts
from tests.store.batches import last_seq
from tests.store.logs import files_with, found, write

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tchat.store.base import Store

MARK = "marzipan4711"


async def _close(store: Store, group: str = GROUP) -> int:
    """Append an event as if it had closed the group."""
    last = await last_seq(store, group)
    return await write(store, group, Posted("closed"), closed_after=last)


async def test_a_snapshot_from_before_the_closing_is_refused(store: Store) -> None:
    """The state of a busy group is written in the background, perhaps after it was closed."""
    await write(store, GROUP, Posted("one"), Posted("two"))
    await store.save_snapshot(GROUP, StateSnapshot(1, "x", b"1"))
    await _close(store)
    assert (await store.load(GROUP)).snapshot is None
    await store.save_snapshot(GROUP, StateSnapshot(2, "x", b"2"))
    assert (await store.load(GROUP)).snapshot is None
    await store.save_snapshot(GROUP, StateSnapshot(3, "x", b"3"))
    assert (await store.load(GROUP)).snapshot == StateSnapshot(3, "x", b"3")


async def test_only_events_before_the_closing_are_erased(store: Store) -> None:
    await write(store, GROUP, Posted("one"), Posted("two"))
    await write(store, "dev", Posted("other"))
    await _close(store)
    await write(store, GROUP, Posted("later"))
    assert texts(await log_of(store)) == ["closed", "later"]
    assert texts(await log_of(store, "dev")) == ["other"]
    assert await found(store, "one") == []
    assert [event.body for event in await log_of(store)][:2] == [Erased(), Erased()]


async def test_an_interrupted_erasure_finishes_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    erasing_begins = trio.Event()

    async def stop(*_: object) -> None:
        erasing_begins.set()
        await trio.sleep_forever()

    with monkeypatch.context() as patch:
        patch.setattr(closing.Erasing, "run", stop)
        patch.setattr(erasing, "CLOSE_SECONDS", 0)
        async with open_store(tmp_path) as store:
            await write(store, GROUP, Posted(f"{MARK} one"), Posted(f"{MARK} two"))
            await found(store, MARK)
            frames = encode_event(Event(GROUP, 3, NOON, "alice", bytes(8), 3, Posted("closed")))
            await store.append(GROUP, 2, 1, frames, SideEffects(closed_after=2))
            await erasing_begins.wait()
            await write(store, GROUP, Posted("later"))
    assert files_with(MARK, tmp_path)
    async with open_store(tmp_path) as store:
        assert files_with(MARK, tmp_path) == []
        assert texts(await log_of(store)) == ["closed", "later"]
        assert await found(store, MARK) == []


async def test_a_full_disk_leaves_the_erasure_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group is closed, and the person is not told otherwise."""

    def full_disk(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    async with open_store(tmp_path) as store:
        await write(store, GROUP, Posted(MARK))
        with monkeypatch.context() as patch:
            patch.setattr(closing, "erase", full_disk)
            await _close(store)
        assert files_with(MARK, tmp_path)
        await write(store, "dev", Posted("x"))
        await _close(store, "dev")
        assert files_with(MARK, tmp_path) == []

"""Erasure: deleted messages are gone from the log, the search index and the disk."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.feature import Event
from tchat.core.group.features import decode_event, encode_event
from tchat.core.group.messages import Deleted, Erased, Posted
from tchat.core.protocol.framing import split_frames
from tchat.errors import Code, Refused
from tchat.store.base import Page, SideEffects, StorageFull
from tchat.store.open import open_store
from tchat.store.sqlite import database, erasing
from tchat.store.sqlite import search as search_module
from tchat.store.sqlite.store import open_sqlite
from tests.core.script import NOON
from tests.full_disk import KINDS, small_disk
from tests.helpers import GUARD, log_of, seqs, texts
from tests.store.busy import busy
from tests.store.logs import delete, edit, files_with, found, post, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tchat.store.base import Store
    from tests.full_disk import Kind

MARK = "marzipan4711"
DELETED = encode_event(Event("ops", 3, NOON, "alice", bytes(8), 3, Deleted(1)))


@contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Read the database in another connection while the block runs, as a backup does."""
    with closing(sqlite3.connect(directory / "tchat.db")) as connection:
        rows = connection.execute("SELECT frames FROM segments")
        assert rows.fetchone()
        yield
        rows.close()


async def test_an_erased_event_keeps_only_its_header(store: Store) -> None:
    await post(store, "before", MARK, "behind")
    original = (await log_of(store))[1]
    await delete(store, 2)
    log = await log_of(store)
    assert texts(log) == ["before", "behind"]
    assert seqs(log) == [1, 2, 3, 4]
    assert log[1].body == Erased()
    assert (log[1].at, log[1].actor, log[1].n) == (original.at, original.actor, original.n)


async def test_erasure_leaves_the_rest_of_a_batch(store: Store) -> None:
    await write(store, "ops", *(Posted(f"text {n}") for n in range(1, 6)))
    await delete(store, 3)
    assert texts(await log_of(store)) == ["text 1", "text 2", "text 4", "text 5"]
    page = await store.read("ops", 2)
    assert page is not None
    assert (page.first, page.last) == (3, 6)


async def test_a_message_is_erased_with_its_edits(store: Store) -> None:
    await post(store, "first", "other")
    await edit(store, 1, "second")
    await edit(store, 1, "third")
    await delete(store, 1, 3, 4)
    assert [e.seq for e in await log_of(store) if e.body == Erased()] == [1, 3, 4]


async def test_a_batch_can_erase_its_own_events(store: Store) -> None:
    await write(store, "ops", Posted("said"), Posted("and unsaid"), erased=(2,))
    assert texts(await log_of(store)) == ["said"]


async def test_erasure_leaves_other_groups_alone(store: Store) -> None:
    await post(store, "stays", group="dev")
    await post(store, "goes")
    await delete(store, 1)
    assert texts(await log_of(store, "dev")) == ["stays"]


async def test_every_kind_of_read_shows_the_erasure(store: Store) -> None:
    await post(store, MARK)
    last = await delete(store, 1)
    back = await store.read_before("ops", last)
    assert back is not None
    (body,) = split_frames(back.frames)
    assert decode_event(body).body == Erased()
    assert decode_event((await store.find("ops", [1]))[1]).body == Erased()


def test_a_page_without_erasures_is_unchanged() -> None:
    page = Page(5, 5, b"\0\0\0\1x")
    assert page.erase([1, 4, 6]) is page


# ------------------------------------------------------------------ traces on the disk


async def test_erased_text_is_gone_from_the_disk(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await post(store, "before", f"so {MARK} it is", "behind")
        assert files_with(MARK, tmp_path)
        await delete(store, 2)
        assert files_with(MARK, tmp_path) == []
    assert files_with(MARK, tmp_path) == []


async def test_erased_edits_are_gone_from_the_disk(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await post(store, f"{MARK}1")
        await edit(store, 1, f"{MARK}2")
        await edit(store, 1, f"{MARK}3")
        await delete(store, 1, 2, 3)
        assert files_with(MARK, tmp_path) == []


async def test_indexed_words_are_gone_from_the_disk(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await post(store, *(f"some words number{n}" for n in range(50)), f"{MARK} and words")
        await edit(store, 51, f"{MARK}s and words")
        assert len(await found(store, "words")) == 51
        assert await found(store, MARK) == [f"{MARK}s and words"]
        await delete(store, 51, 52)
        assert files_with(MARK, tmp_path) == []
        assert await found(store, MARK) == []
        assert len(await found(store, "words")) == 50


async def test_words_of_unindexed_edits_are_gone_too(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await post(store, f"{MARK} one")
        assert await found(store, MARK)
        await edit(store, 1, f"{MARK} two")
        await delete(store, 1, 2)
        assert files_with(MARK, tmp_path) == []


async def test_replaced_words_are_gone_from_the_disk(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await post(store, f"{MARK} one")
        await found(store, MARK)
        await edit(store, 1, "harmless")
        assert await found(store, MARK) == []
        await delete(store, 1, 2)
        assert files_with(MARK, tmp_path) == []


async def test_an_interrupted_purge_finishes_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    purging = trio.Event()

    async def stop(_: object) -> None:
        purging.set()
        await trio.sleep_forever()

    monkeypatch.setattr(search_module, "_ERASES", False)
    with monkeypatch.context() as patch:
        patch.setattr(search_module.SearchIndex, "purge", stop)
        patch.setattr(erasing, "CLOSE_SECONDS", 0)
        async with open_store(tmp_path) as store:
            await post(store, "some words", f"{MARK} and words")
            await found(store, MARK)
            await store.append("ops", 2, 1, DELETED, SideEffects(erased=(2,)))
            await purging.wait()
    if not search_module._MADE_WITH.endswith("erasing"):
        assert files_with(MARK, tmp_path) == ["tchat.db"]
    async with open_store(tmp_path) as store:
        assert files_with(MARK, tmp_path) == []
        assert await found(store, "words") == ["some words"]


async def test_words_removed_during_a_purge_need_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "_ERASES", False)
    async with open_store(tmp_path) as store:
        await post(store, f"{MARK}a words", f"{MARK}b words")
        await found(store, MARK)
        merge, merged = search_module._merge_some, trio.Event()

        def signal(connection: sqlite3.Connection, removals: int) -> bool:
            trio.from_thread.run_sync(merged.set, trio_token=token)
            return merge(connection, removals)

        token = trio.lowlevel.current_trio_token()
        monkeypatch.setattr(search_module, "_merge_some", signal)
        await store.append("ops", 2, 1, DELETED, SideEffects(erased=(1,)))
        await merged.wait()
        await delete(store, 2)
        assert files_with(MARK, tmp_path) == []


async def test_many_erasures_of_all_sizes_leave_nothing(tmp_path: Path) -> None:
    r = random.Random(5)
    secrets = [f"{MARK}x{n}x" for n in range(120)]
    gone: list[str] = []
    async with open_store(tmp_path) as store:
        for number, secret in enumerate(secrets):
            await post(store, f"{secret} {'y' * r.choice([0, 40, 400, 9000])}", group="a")
            if number % 7 == 0:
                await found(store, "y", "a")
        for number in r.sample(range(len(secrets)), 60):
            await delete(store, number + 1, group="a")
            gone.append(secrets[number])
        kept = [secret for secret in secrets if secret not in gone]
        assert [secret for secret in gone if files_with(secret, tmp_path)] == []
        assert len(await found(store, MARK, "a")) == len(kept)


async def test_a_foreign_reader_delays_scrubs_but_no_messages(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await post(store, MARK, "else", "more")
        with reading(tmp_path):
            await delete(store, 1)
            assert texts(await log_of(store)) == ["else", "more"]
            assert not await store.maintenance.settle()
            assert files_with(MARK, tmp_path)
        assert await store.maintenance.settle()
        assert files_with(MARK, tmp_path) == []


async def test_a_scrub_is_repeated_without_another_deletion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "SCRUB_AGAIN_SECONDS", 0.01)
    async with open_store(tmp_path) as store:
        await post(store, MARK, "else")
        with reading(tmp_path):
            await delete(store, 1)
            assert files_with(MARK, tmp_path)
        with trio.fail_after(GUARD):
            while files_with(MARK, tmp_path):
                await store.groups_of("alice")


async def test_a_deletion_waits_for_no_search(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as store:
        await post(store, MARK, "else")
        async with busy(store.database.read_slowly):
            await store.append("ops", 2, 1, DELETED, SideEffects(erased=(1,)))
            await post(store, "later")
        assert await store.maintenance.settle()
        assert files_with(MARK, tmp_path) == []


async def test_many_deletions_share_few_scrubs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scrubs: list[bool] = []
    scrub = database.Database.scrub

    async def count(self: database.Database) -> bool:
        scrubs.append(True)
        return await scrub(self)

    monkeypatch.setattr(database.Database, "scrub", count)
    monkeypatch.setattr(erasing, "SCRUB_AGAIN_SECONDS", 1000)
    async with open_store(tmp_path) as store:
        last = await post(store, *(f"{MARK}x{n}x" for n in range(50)))
        for number in range(50):
            await store.append("ops", last + number, 1, DELETED, SideEffects(erased=(number + 1,)))
        assert await store.maintenance.settle()
        assert len(scrubs) <= 4
        assert files_with(MARK, tmp_path) == []


async def test_compacting_reports_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "SCRUB_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(database, "COMPACT_SECONDS", 0.05)
    async with open_store(tmp_path) as store:
        await post(store, MARK, "else")
        with reading(tmp_path):
            await delete(store, 1)
            with pytest.raises(Refused) as caught:
                await store.maintenance.compact()
            assert caught.value.code == Code.BUSY
        await store.maintenance.compact()
        assert files_with(MARK, tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_compacting_reports_a_full_disk(tmp_path: Path, kind: Kind) -> None:
    with small_disk(kind, tmp_path / "disk") as disk:
        async with open_store(disk.path / "data") as store:
            await post(store, *(f"some long text {n}" * 100 for n in range(100)))
            disk.fill()
            with pytest.raises(StorageFull):
                await store.maintenance.compact()
            disk.free()
            await store.maintenance.compact()
            assert len(texts(await log_of(store))) == 100


async def test_the_write_ahead_log_is_truncated_at_start(
    tmp_path: Path,
) -> None:
    async with open_store(tmp_path) as store:
        await post(store, "something")
        left = {name: (tmp_path / name).read_bytes() for name in ("tchat.db", "tchat.db-wal")}
    for name, data in left.items():
        (tmp_path / name).write_bytes(data)
    assert left["tchat.db-wal"]
    async with open_store(tmp_path) as store:
        assert (tmp_path / "tchat.db-wal").read_bytes() == b""
        assert texts(await log_of(store)) == ["something"]

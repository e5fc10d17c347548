"""The file index, in every store: access, leases, quotas and garbage collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.store.base import Conflict, FileEntry, SideEffects, StorageFull
from tchat.store.open import open_store
from tests.store.batches import packed
from tests.store.files import (
    BOOK,
    FILM,
    HEAD,
    NOON,
    NUMBERS_END,
    OTHER_HEAD,
    SONG,
    admit,
    file,
    note,
    numbers_on,
    remove,
    send,
    share,
    swept,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.core.protocol.frames import Standing
    from tchat.store.base import FileIndex, Store
    from tchat.store.sqlite.store import SqliteStore


@pytest.fixture
def shelves(store: Store) -> FileIndex:
    return store.files


# ------------------------------------------------------------------ known files


async def test_an_unknown_file_is_not_found(shelves: FileIndex) -> None:
    assert await shelves.size_of(SONG) is None
    assert await shelves.lease("alice", SONG, NOON) is None
    assert not await shelves.has_similar("alice", 30, HEAD)
    assert await shelves.usage("alice") == 0
    assert await shelves.digests() == set()
    assert await swept(shelves, NOON, NOON) == []
    assert await shelves.page("ops", NUMBERS_END, 10, 10) == []
    assert await shelves.find("ops", 1) is None


async def test_an_added_file_is_found(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG)
    await send(store, "bob", FILM)
    assert (await shelves.size_of(SONG), await shelves.size_of(FILM)) == (30, 7000)
    assert await shelves.digests() == {SONG, FILM}


async def test_an_uploader_has_a_lease(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG)
    assert await shelves.lease("alice", SONG, NOON) == 30


async def test_an_empty_file_is_a_file(shelves: FileIndex) -> None:
    await shelves.add("alice", SONG, 0, HEAD, NOON)
    assert await shelves.size_of(SONG) == 0
    assert await shelves.lease("alice", SONG, NOON) == 0
    assert await shelves.has_similar("alice", 0, HEAD)
    assert await shelves.usage("alice") == 0


# ------------------------------------------------------------------ access


async def test_members_have_access_to_group_files(store: Store, shelves: FileIndex) -> None:
    await admit(store, "ops", alice="member", bob="member")
    await send(store, "alice", SONG)
    await share(store, "ops", file(1, SONG))
    assert await shelves.has_similar("bob", 30, HEAD)
    assert await shelves.lease("bob", SONG, NOON) == 30


@pytest.mark.parametrize("standings", [[], ["waiting"], ["member", "outsider"]])
async def test_non_members_learn_nothing_about_files(
    store: Store, shelves: FileIndex, standings: list[Standing]
) -> None:
    await admit(store, "ops", alice="member")
    for standing in standings:
        await admit(store, "ops", mallory=standing)
    await admit(store, "dev", mallory="member")
    await send(store, "alice", SONG)
    assert not await shelves.has_similar("mallory", 30, HEAD), "while alice holds it"
    assert await shelves.lease("mallory", SONG, NOON) is None
    await share(store, "ops", file(1, SONG))
    assert not await shelves.has_similar("mallory", 30, HEAD)
    assert await shelves.lease("mallory", SONG, NOON) is None
    assert await shelves.usage("mallory") == 0


async def test_a_refused_lease_keeps_no_file(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG, at=NOON)
    assert await shelves.lease("mallory", SONG, NOON + 500) is None
    assert await swept(shelves, NOON + 1, 0) == [SONG]


async def test_removal_from_a_group_ends_access(store: Store, shelves: FileIndex) -> None:
    await admit(store, "ops", alice="member", bob="member")
    await send(store, "alice", SONG)
    await share(store, "ops", file(1, SONG))
    await remove(store, "ops", 1)
    for person in ("alice", "bob"):
        assert not await shelves.has_similar(person, 30, HEAD)
        assert await shelves.lease(person, SONG, NOON) is None


async def test_similar_files_share_size_and_head(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG)
    assert await shelves.has_similar("alice", 30, HEAD)
    assert not await shelves.has_similar("alice", 31, HEAD)
    assert not await shelves.has_similar("alice", 30, OTHER_HEAD)


async def test_one_accessible_similar_file_is_enough(shelves: FileIndex) -> None:
    for person, sha256 in (("bob", SONG), ("alice", FILM), ("carol", BOOK)):
        await shelves.add(person, sha256, 30, HEAD, NOON)
    assert await shelves.has_similar("alice", 30, HEAD)
    assert not await shelves.has_similar("dave", 30, HEAD)


# ------------------------------------------------------------------ files of groups


async def test_group_files_are_listed_newest_first(store: Store, shelves: FileIndex) -> None:
    for sha256 in (SONG, FILM, BOOK):
        await send(store, "alice", sha256)
    await share(store, "ops", file(1, SONG, at=NOON + 1))
    await share(store, "ops", file(2, FILM, "bob", NOON + 2), file(10, BOOK, "carol", NOON + 3))
    everything = [
        FileEntry(10, BOOK, 500, "carol", NOON + 3),
        FileEntry(2, FILM, 7000, "bob", NOON + 2),
        FileEntry(1, SONG, 30, "alice", NOON + 1),
    ]
    assert await shelves.page("ops", NUMBERS_END, 10, 10) == everything
    assert await shelves.page("ops", NUMBERS_END, 2, 10) == everything[:2]
    assert await shelves.page("ops", 10, 2, 10) == everything[1:]
    assert await shelves.page("ops", 1, 10, 10) == []
    assert [await shelves.find("ops", number) for number in (10, 2, 1)] == everything


async def test_groups_have_separate_files(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG)
    await send(store, "alice", FILM)
    await share(store, "ops", file(1, SONG))
    await share(store, "dev", file(1, FILM), file(2, SONG))
    assert await shelves.find("ops", 1) == file(1, SONG)
    assert await shelves.find("dev", 1) == file(1, FILM)
    assert await shelves.find("ops", 2) is None
    await remove(store, "dev", 1, 2)
    assert (await numbers_on(store, "ops"), await numbers_on(store, "dev")) == ([1], [])


async def test_any_file_number_can_be_requested(shelves: FileIndex) -> None:
    assert await shelves.find("ops", NUMBERS_END) is None
    await shelves.record_fetch("ops", NUMBERS_END, "alice", NOON)


async def test_one_append_can_replace_a_file(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG)
    await send(store, "alice", FILM)
    await share(store, "ops", file(1, SONG))
    await shelves.record_fetch("ops", 1, "bob", NOON)
    await note(store, "ops", SideEffects(added_files=(file(1, FILM),), removed_files=(1,)))
    assert await shelves.page("ops", NUMBERS_END, 10, 10) == [file(1, FILM)]


async def test_a_conflicting_append_changes_no_files(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG)
    await send(store, "alice", FILM)
    await share(store, "ops", file(1, SONG))
    effects = SideEffects({"bob": "member"}, (file(2, FILM),), (1,))
    for group, expected in (("ops", 0), ("new", 7)):
        with pytest.raises(Conflict):
            await store.append(group, expected, 1, packed(b"x"), effects)
    assert (await numbers_on(store, "ops"), await numbers_on(store, "new")) == ([1], [])
    assert await shelves.lease("alice", FILM, NOON) == 7000, "she holds it as before"
    assert await shelves.lease("bob", SONG, NOON) is None


async def test_a_full_disk_changes_no_files(sqlite: SqliteStore) -> None:
    await send(sqlite, "alice", SONG)
    await send(sqlite, "alice", FILM)
    await share(sqlite, "ops", file(1, SONG))
    await sqlite.database.write(lambda c: c.execute("PRAGMA max_page_count = 1"))
    effects = SideEffects({}, (file(2, FILM),), (1,))
    with pytest.raises(StorageFull):
        await sqlite.append("ops", 1, 1, packed(bytes(1 << 20)), effects)
    assert await numbers_on(sqlite, "ops") == [1]
    assert await sqlite.files.lease("alice", FILM, NOON) == 7000


# ------------------------------------------------------------------ downloads


async def test_downloads_count_once_per_person(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG)
    await share(store, "ops", file(1, SONG), file(2, SONG))
    for person, at in (("dave", 3), ("carol", 1), ("bob", 3), ("erin", 2), ("carol", 9)):
        await shelves.record_fetch("ops", 1, person, NOON + at)
    for most, by in ((10, ("carol", "erin", "bob", "dave")), (2, ("carol", "erin")), (0, ())):
        newer, older = await shelves.page("ops", NUMBERS_END, 10, most)
        assert (older.fetch_count, older.fetched_by) == (4, by)
        assert (newer.fetch_count, newer.fetched_by) == (0, ())
    found = await shelves.find("ops", 1)
    assert found is not None
    assert found.fetch_count == 4


async def test_removed_files_have_no_downloads(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG)
    await share(store, "ops", file(1, SONG))
    await remove(store, "ops", 1)
    await shelves.record_fetch("ops", 1, "bob", NOON)
    await shelves.record_fetch("dev", 1, "bob", NOON)
    await send(store, "alice", SONG)
    await share(store, "ops", file(1, SONG))
    await share(store, "dev", file(1, SONG))
    assert await shelves.find("ops", 1) == await shelves.find("dev", 1) == file(1, SONG)


# ------------------------------------------------------------------ quotas


async def test_a_file_counts_once_per_person(store: Store, shelves: FileIndex) -> None:
    await admit(store, "ops", alice="member", bob="member")
    await send(store, "alice", SONG)
    assert await shelves.usage("alice") == 30, "held"
    await share(store, "ops", file(1, SONG), file(2, SONG))
    await share(store, "dev", file(1, SONG))
    assert await shelves.usage("alice") == 30, "shared three times"
    await shelves.lease("alice", SONG, NOON)
    assert await shelves.usage("alice") == 30, "shared and held"
    await send(store, "alice", FILM)
    assert await shelves.usage("alice") == 7030
    assert await shelves.usage("bob") == 0
    await shelves.lease("bob", SONG, NOON)
    assert await shelves.usage("bob") == 30


async def test_unreferenced_files_count_for_nobody(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG)
    await share(store, "ops", file(1, SONG))
    await share(store, "dev", file(1, SONG))
    await remove(store, "ops", 1)
    assert await shelves.usage("alice") == 30
    await remove(store, "dev", 1)
    assert await shelves.usage("alice") == 0


async def test_usage_is_exact_for_any_size(shelves: FileIndex) -> None:
    await shelves.add("alice", SONG, (1 << 60) + 1, HEAD, NOON)
    await shelves.add("alice", FILM, 2, HEAD, NOON)
    assert await shelves.usage("alice") == (1 << 60) + 3


# ------------------------------------------------------------------ retention


async def test_sharing_ends_the_lease(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG)
    await send(store, "bob", SONG)
    await share(store, "ops", file(1, SONG, "alice"))
    await remove(store, "ops", 1)
    assert await shelves.usage("alice") == 0, "sharing ended her hold"
    assert await shelves.usage("bob") == 30, "and nobody else's"
    assert await swept(shelves, NOON, NOON) == []
    assert await swept(shelves, NOON + 1, NOON) == [SONG]


async def test_file_is_removed_with_its_last_reference(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG)
    await send(store, "bob", SONG)
    await share(store, "ops", file(1, SONG, "alice"))
    await share(store, "dev", file(1, SONG, "bob"))
    await remove(store, "ops", 1)
    assert await swept(shelves, NOON + 1, 0) == []
    assert await shelves.find("dev", 1) == file(1, SONG, "bob")
    await shelves.add("carol", SONG, 30, HEAD, NOON + 5)
    await remove(store, "dev", 1)
    assert await swept(shelves, NOON + 5, 0) == []
    assert await shelves.size_of(SONG) == 30
    assert await swept(shelves, NOON + 6, 0) == [SONG]
    assert await shelves.size_of(SONG) is None
    assert await shelves.digests() == set()
    assert await swept(shelves, NOON + 6, 0) == []


async def test_a_lease_expires_unless_renewed(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG, at=NOON)
    await send(store, "alice", FILM, at=NOON)
    await send(store, "alice", BOOK, at=NOON)
    assert await swept(shelves, NOON, NOON) == []
    assert await shelves.lease("alice", FILM, NOON + 100) == 7000
    await send(store, "alice", BOOK, at=NOON + 200)
    assert await swept(shelves, NOON + 1, NOON) == [SONG]
    assert await swept(shelves, NOON + 101, NOON) == [FILM]
    assert await shelves.usage("alice") == 500


async def test_old_shares_expire(store: Store, shelves: FileIndex) -> None:
    await send(store, "alice", SONG)
    await send(store, "alice", FILM)
    await share(store, "ops", file(1, SONG, at=NOON), file(2, FILM, at=NOON + 1))
    await share(store, "dev", file(1, FILM, at=NOON))
    await shelves.record_fetch("ops", 1, "bob", NOON)
    assert await swept(shelves, NOON, NOON) == []
    assert await swept(shelves, NOON, NOON + 1) == [SONG]
    assert (await numbers_on(store, "ops"), await numbers_on(store, "dev")) == ([2], [])
    assert await shelves.usage("alice") == 7000
    await send(store, "alice", SONG)
    await share(store, "ops", file(1, SONG))
    assert await shelves.find("ops", 1) == file(1, SONG), "fetched by nobody yet"


# ------------------------------------------------------------------ damaged files


async def test_a_new_upload_restores_group_entries(store: Store, shelves: FileIndex) -> None:
    await admit(store, "ops", alice="member", bob="member")
    await send(store, "alice", SONG)
    await send(store, "alice", FILM)
    await share(store, "ops", file(1, SONG), file(2, FILM))
    await share(store, "dev", file(1, SONG, "bob"))
    await shelves.record_fetch("ops", 1, "bob", NOON)
    await shelves.lease("bob", SONG, NOON)
    await shelves.forget(SONG)
    assert (await numbers_on(store, "ops"), await numbers_on(store, "dev")) == ([2], [])
    assert await shelves.find("ops", 1) is None
    assert await shelves.size_of(SONG) is None
    assert await shelves.lease("bob", SONG, NOON) is None
    assert not await shelves.has_similar("bob", 30, HEAD)
    assert (await shelves.usage("alice"), await shelves.usage("bob")) == (7000, 0)
    assert await shelves.digests() == {FILM}
    assert await swept(shelves, NOON, 0) == []
    await send(store, "carol", SONG)
    assert (await numbers_on(store, "ops"), await numbers_on(store, "dev")) == ([2, 1], [1])
    found = await shelves.find("ops", 1)
    assert found is not None
    assert (found.person, found.fetch_count) == ("alice", 1)
    assert await shelves.usage("alice") == 7030


async def test_a_damaged_file_has_no_lease(store: Store, shelves: FileIndex) -> None:
    await send(store, "bob", SONG)
    await shelves.forget(SONG)
    await send(store, "carol", SONG)
    assert await shelves.usage("bob") == 0


# ------------------------------------------------------------------ durability


async def test_the_file_index_survives_a_restart(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await admit(store, "ops", bob="member")
        await send(store, "alice", SONG)
        await send(store, "carol", FILM)
        await share(store, "ops", file(1, SONG))
        await store.files.record_fetch("ops", 1, "bob", NOON)
    async with open_store(tmp_path) as store:
        shown = FileEntry(1, SONG, 30, "alice", NOON, 1, ("bob",))
        assert await store.files.page("ops", NUMBERS_END, 10, 10) == [shown]
        assert await store.files.lease("bob", SONG, NOON) == 30
        assert await store.files.usage("carol") == 7000


async def test_a_file_counts_once_per_group(store: Store, shelves: FileIndex) -> None:
    for sha256 in (SONG, FILM):
        await send(store, "alice", sha256)
    await share(store, "ops", file(1, SONG), file(2, SONG), file(3, FILM))
    await share(store, "dev", file(1, BOOK))
    assert await shelves.group_usage("ops") == 7030
    assert await shelves.group_usage("ops", SONG) == 7000
    assert await shelves.group_usage("dev") == 500
    assert await shelves.group_usage("nowhere") == 0
    assert await shelves.total() == 7030, "the book was never stored"


async def test_unshared_files_are_counted(store: Store, shelves: FileIndex) -> None:
    for sha256 in (SONG, FILM, SONG):
        await send(store, "alice", sha256)
    assert (await shelves.lease_count("alice"), await shelves.lease_count("bob")) == (2, 0)
    await share(store, "ops", file(1, SONG))
    assert await shelves.lease_count("alice") == 1

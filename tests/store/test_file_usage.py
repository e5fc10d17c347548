"""The bytes that count towards the quotas of people and groups, counted with every change."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from random import Random
from typing import TYPE_CHECKING

import pytest

from tchat.store.sqlite.schema import GROUP_USAGE, PERSON_USAGE
from tchat.store.sqlite.store import open_sqlite
from tests.memory_store import MemoryStore
from tests.store.files import BOOK, FILM, NOON, SIZES, SONG, file, remove, send, share
from tests.store.older import remove_tables_since

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.store.base import Store

PEOPLE = ("alice", "bob")
GROUPS = ("ops", "dev")
FILES = (SONG, FILM, BOOK)


async def change(store: Store, rng: Random) -> None:
    """Change the files of a store in any way."""
    person, group = rng.choice(PEOPLE), rng.choice(GROUPS)
    sha256, number, at = rng.choice(FILES), rng.randint(1, 5), rng.randint(NOON, NOON + 50)
    match rng.randrange(7):
        case 0 | 1:
            await send(store, person, sha256, at)
        case 2 | 3:  # the number may be taken
            await share(store, group, file(number, sha256, person, at))
        case 4:
            await remove(store, group, number, number + 1)
        case 5:
            await store.files.forget(sha256)
        case 6:
            await store.files.sweep()
            await store.files.expire(*rng.choices(range(NOON, NOON + 50), k=2))


async def usage_in(store: Store) -> list[int]:
    """Return all usage: of people and groups, with all files and without one."""
    files = store.files
    excluded = (None, *FILES)
    return [
        *[await files.usage(person, sha256) for person in PEOPLE for sha256 in excluded],
        *[await files.group_usage(group, sha256) for group in GROUPS for sha256 in excluded],
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_usage_equals_the_sum_of_files(tmp_path: Path, seed: int) -> None:
    reference, rng, same = MemoryStore(), Random(seed), Random(seed)
    async with open_sqlite(tmp_path) as store:
        for _ in range(120):
            await change(store, rng)
            await change(reference, same)
            assert await usage_in(store) == await usage_in(reference)
        await send(store, "alice", SONG)
        await store.maintenance.forget("alice", ())
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection:
        for table, sums in (("person_usage", PERSON_USAGE), ("group_usage", GROUP_USAGE)):
            counted = connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
            assert sorted(counted) == sorted(connection.execute(sums).fetchall())


async def test_usage_is_computed_for_older_databases(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path) as store:
        await send(store, "alice", SONG)
        await send(store, "bob", FILM)
        await share(store, "ops", file(1, SONG), file(2, SONG), file(3, BOOK))
        before = await usage_in(store)
    with closing(sqlite3.connect(tmp_path / "tchat.db")) as connection:
        triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        for (name,) in connection.execute(triggers).fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        remove_tables_since(connection, "person_usage")
        connection.commit()
    async with open_sqlite(tmp_path) as store:
        assert await usage_in(store) == before
        await remove(store, "ops", 1, 2)
        assert await store.files.group_usage("ops") == SIZES[BOOK]
        assert await store.files.usage("alice") == 0

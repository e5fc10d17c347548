"""The database on a file system that is really full: nothing is lost, and it goes on afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.core.group.messages import Posted
from tchat.errors import Code, Refused
from tchat.store.open import open_store
from tests.full_disk import KINDS, small_disk
from tests.helpers import log_of, texts
from tests.store.logs import write

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.store.base import Store
    from tests.full_disk import Kind

LONG = "x" * 10_000


async def write_until_refused(store: Store) -> None:
    """Write messages; the write-ahead log may have a little room left."""
    while True:
        await write(store, "ops", Posted(LONG))


@pytest.mark.parametrize("kind", KINDS)
async def test_full_disk_rejects_and_recovers(tmp_path: Path, kind: Kind) -> None:
    with small_disk(kind, tmp_path / "disk") as disk:
        async with open_store(disk.path / "data") as store:
            await write(store, "ops", Posted("before"))
            disk.fill()
            for _ in range(3):
                with pytest.raises(Refused) as refusal:
                    await write_until_refused(store)
                assert refusal.value.code == Code.STORAGE_FULL
            kept = texts(await log_of(store))
            disk.free()
            await write(store, "ops", Posted("after"))
            assert texts(await log_of(store)) == [*kept, "after"]
        async with open_store(disk.path / "data") as store:
            assert texts(await log_of(store)) == [*kept, "after"]
            assert kept[0] == "before"

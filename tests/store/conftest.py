"""The stores under test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tchat.store.sqlite.store import SqliteStore, open_sqlite
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tchat.store.base import Store


@asynccontextmanager
async def _open_memory(_: Path) -> AsyncIterator[MemoryStore]:
    yield MemoryStore()


OPENERS = {"memory": _open_memory, "sqlite": open_sqlite}


@pytest.fixture(params=OPENERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Open each kind of store in turn, empty."""
    opened: AbstractAsyncContextManager[Store] = OPENERS[request.param](tmp_path / "data")
    async with opened as store:
        yield store


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """Open an SQLite store, empty, in the directory `data`."""
    async with open_sqlite(tmp_path / "data") as store:
        yield store

"""The engine of a store is chosen by its URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.errors import StartupError
from tchat.store.open import ENGINES, open_store
from tests.store.batches import append, last_seq

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("scheme", ["", "sqlite://"])
async def test_a_directory_and_its_url_are_one_store(tmp_path: Path, scheme: str) -> None:
    async with open_store(tmp_path) as store:
        await append(store, "ops", b"one")
    async with open_store(f"{scheme}{tmp_path}") as store:
        assert await last_seq(store, "ops") == 1


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"^oracle:// is not a known kind of store; use sqlite"):
        open_store(f"oracle://{tmp_path}")


async def test_a_further_engine_is_found_by_its_scheme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "elsewhere", lambda rest: open_store(tmp_path / rest))
    async with open_store("elsewhere://data") as store:
        await append(store, "ops", b"one")
    assert (tmp_path / "data" / "tchat.db").exists()

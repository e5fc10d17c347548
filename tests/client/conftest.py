"""Sessions and transfers under test try again at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.client import session as session_module
from tchat.client.client_id import ClientId, take_slot
from tchat.client.files import transfer as files_module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "FIRST_RETRY_SECONDS", 0.002)
    monkeypatch.setattr(session_module, "LONGEST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(files_module, "_FIRST_RETRY_SECONDS", 0.001)


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[ClientId]:
    """Hold a slot whose state directory is `tmp_path`."""
    with take_slot(tmp_path) as slot:
        yield slot

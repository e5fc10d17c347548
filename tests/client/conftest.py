"""Fixtures for tests of the client: retries without delay, a client id on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.client import backoff
from tchat.client.client_id import ClientId, acquire_client_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.002)
    monkeypatch.setattr(backoff, "LONGEST_SECONDS", 0.01)


@pytest.fixture
def client_id(tmp_path: Path) -> Iterator[ClientId]:
    """Hold a client id under `tmp_path`."""
    with acquire_client_id(tmp_path) as client_id:
        yield client_id

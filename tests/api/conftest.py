"""Fixtures for tests of the public API: retries without delay."""

from __future__ import annotations

import pytest

from tchat.client import backoff


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.002)
    monkeypatch.setattr(backoff, "LONGEST_SECONDS", 0.01)

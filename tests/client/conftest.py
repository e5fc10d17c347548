"""Sessions and transfers under test try again at once."""

from __future__ import annotations

import pytest

from tchat.client import files as files_module
from tchat.client import session as session_module


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "FIRST_RETRY_SECONDS", 0.002)
    monkeypatch.setattr(session_module, "LONGEST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(files_module, "_FIRST_RETRY_SECONDS", 0.001)

"""Groups to tell stories about."""

from __future__ import annotations

import pytest

from tests.core.script import Script


@pytest.fixture
def ops() -> Script:
    """Return a group that nobody has founded."""
    return Script("ops")


@pytest.fixture
def crew() -> Script:
    """Return a group of alice, its admin, then bob, then carol."""
    crew = Script("crew")
    crew.joined("alice", "bob", "carol")
    return crew

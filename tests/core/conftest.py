"""Fixtures: a group that does not exist yet, and a group of three."""

from __future__ import annotations

import pytest

from tests.core.script import Script


@pytest.fixture
def ops() -> Script:
    """Return a group that nobody has founded yet."""
    return Script("ops")


@pytest.fixture
def crew() -> Script:
    """Return a group of alice (its admin), bob and carol, in this order."""
    crew = Script("crew")
    crew.joined("alice", "bob", "carol")
    return crew

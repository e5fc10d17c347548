"""What holds for every test: the protocol is watched, and hypothesis is as thorough as asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

# No deadlines: a busy machine is not a bug.
settings.register_profile("default", max_examples=60, deadline=None)
settings.register_profile("thorough", max_examples=3000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session", autouse=True)
def _protocol_watched() -> Iterator[None]:
    with protocol.watched():
        yield


@pytest.fixture(autouse=True)
def _protocol_kept() -> Iterator[None]:
    protocol.violations.clear()
    yield
    assert not protocol.violations, "frames that protocol.cddl does not allow were sent"

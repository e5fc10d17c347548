"""Fixtures and settings of every test: CDDL validation of all frames, hypothesis profiles.

The default profile, `quick`, tries the same examples in each run, so that a new failure is due to
a change. `HYPOTHESIS_PROFILE=thorough pytest` tries many more, different ones each time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests import cddl

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENT: dict[str, Any] = {
    "deadline": None,  # slowness on a busy machine is not a failure
    "suppress_health_check": [HealthCheck.too_slow],
    "print_blob": True,
}
settings.register_profile("quick", max_examples=60, derandomize=True, **_PATIENT)
settings.register_profile("thorough", max_examples=1000, **_PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session", autouse=True)
def _protocol_watched() -> Iterator[None]:
    with cddl.watched():
        yield


@pytest.fixture(autouse=True)
def _protocol_kept() -> Iterator[None]:
    cddl.violations.clear()
    yield
    assert not cddl.violations, "a frame was sent that protocol.cddl does not allow"

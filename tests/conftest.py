"""What holds for every test: the protocol is watched, and hypothesis is as thorough as asked.

A run of the suite tries the same examples each time, so that what fails was broken by a change.
`HYPOTHESIS_PROFILE=thorough pytest` tries many more, and others each time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENT: dict[str, Any] = {
    "deadline": None,  # a busy machine is not a bug
    "suppress_health_check": [HealthCheck.too_slow],
    "print_blob": True,
}
settings.register_profile("quick", max_examples=60, derandomize=True, **_PATIENT)
settings.register_profile("thorough", max_examples=1000, **_PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session", autouse=True)
def _protocol_watched() -> Iterator[None]:
    with protocol.watched():
        yield


@pytest.fixture(autouse=True)
def _protocol_kept() -> Iterator[None]:
    protocol.violations.clear()
    yield
    assert not protocol.violations, "frames that protocol.cddl does not allow were sent"

"""Fixtures and settings of every test: CDDL validation, hypothesis profiles, parallel runs.

The default profile, `quick`, tries the same examples in each run, so that a new failure is due to
a change. `HYPOTHESIS_PROFILE=thorough pytest` tries many more, different ones each time.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests import cddl
from tests.prepared import prepared

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_PATIENT: dict[str, Any] = {
    "deadline": None,  # slowness on a busy machine is not a failure
    "suppress_health_check": [HealthCheck.too_slow],
    "print_blob": True,
}
settings.register_profile("quick", max_examples=60, derandomize=True, **_PATIENT)
settings.register_profile("thorough", max_examples=1000, **_PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled modules where none may be written beside the sources.

    With `PYTHONDONTWRITEBYTECODE`, each of the programs that the tests start would compile all of
    tchat. The workers inherit the variables.
    """
    cache = getattr(config, "cache", None)  # None with `-p no:cacheprovider`
    if sys.dont_write_bytecode and cache is not None:
        sys.dont_write_bytecode = False
        sys.pycache_prefix = str(cache.mkdir("bytecode"))
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Run twice as many workers as there are processors, with `-n auto`.

    Half of the time, tests of processes and terminals wait: for a start, an answer, a timeout.
    """
    number = yield
    return number if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else 2 * number


@pytest.fixture(scope="session", autouse=True)
def _protocol_watched() -> Iterator[None]:
    with cddl.watched():
        yield


@pytest.fixture(scope="session", autouse=True)
def _programs_start_fast() -> Iterator[None]:
    if os.environ.get("HYPOTHESIS_PROFILE") == "thorough":
        yield
        return
    with prepared():
        yield


@pytest.fixture(autouse=True)
def _protocol_kept() -> Iterator[None]:
    cddl.violations.clear()
    yield
    assert not cddl.violations, "a frame was sent that protocol.cddl does not allow"

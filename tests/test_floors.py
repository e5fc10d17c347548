"""The second environment of CI is made from the lower bounds in pyproject.toml, all of them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.floors import PYPROJECT, constraints


def project(*dependencies: str) -> dict[str, object]:
    extras = {"fast": ["c>=3"], "test": ["it[fast]", "d>=0.4.1"]}
    return {"name": "it", "dependencies": list(dependencies), "optional-dependencies": extras}


def test_every_lower_bound_becomes_a_pin() -> None:
    assert constraints(project("a>=1", "b-b>=2.0")) == ["a==1", "b-b==2.0", "c==3", "d==0.4.1"]


@pytest.mark.parametrize("requirement", ["a", "a<2", "a==1", "a>=1,<2", "a>=1; python_version>'3'"])
def test_library_without_a_plain_bound_is_refused(requirement: str) -> None:
    with pytest.raises(ValueError, match="has no lower bound"):
        constraints(project(requirement))


def test_program_prints_the_pins_of_this_project() -> None:
    """It runs before anything is installed: with the standard library alone."""
    command = [sys.executable, "-I", "-S", str(Path(PYPROJECT.parent, "tests", "floors.py"))]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    named = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    assert printed.splitlines() == constraints(named)
    assert any(line.startswith("trio==") for line in printed.splitlines())

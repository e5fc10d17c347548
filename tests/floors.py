"""The lowest releases that pyproject.toml allows, as constraints for pip.

`python -m tests.floors` prints them. `.ci/run` installs them into a second environment, so that
the lower bounds stay true. It needs the standard library only.
"""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)>=(?P<version>[0-9.]+)")


def constraints(project: dict[str, object]) -> list[str]:
    """Return a pin for each library of a `project` table. Raises ValueError for one without."""
    match project:
        case {"name": name, "dependencies": [*always], "optional-dependencies": dict() as extras}:
            listed = chain(always, *extras.values())
            return [_pin(each) for each in listed if not each.startswith(f"{name}[")]
    raise ValueError("the project has no name or no dependencies")


def _pin(requirement: str) -> str:
    found = _REQUIREMENT.fullmatch(requirement)
    if found is None:
        raise ValueError(f"{requirement} has no lower bound, or more than that")
    return f"{found['name']}=={found['version']}"


def main() -> None:
    """Print the pins."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    print(*constraints(project), sep="\n")


if __name__ == "__main__":
    main()

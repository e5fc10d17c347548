"""Naming rules of the tests: short test names, and no test file imports another.

`python -m tests.test_names` prints every offender.
"""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
FILES = sorted(TESTS.rglob("test_*.py"))
MOST_WORDS = 8
"""Words that a test's name may have after `test_`."""


def label(path: Path) -> str:
    """Return the path of a test file relative to the tests."""
    return path.relative_to(TESTS).as_posix()


def long_names(source: str) -> list[str]:
    """Return the names of the test functions with too many words."""
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and len(node.name.removeprefix("test_").split("_")) > MOST_WORDS
    ]


def imported_tests(source: str) -> list[str]:
    """Return the dotted names of the test modules that a source imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [
        name
        for name in names
        if name.startswith("tests.") and any(part.startswith("test_") for part in _modules(name))
    ]


def _modules(name: str) -> list[str]:
    """Return the parts of a dotted name that are files or folders of the tests."""
    found, place = [], TESTS.parent
    for part in name.split("."):
        place /= part
        if not place.is_dir() and not place.with_suffix(".py").is_file():
            break
        found.append(part)
    return found


def test_test_names_have_at_most_eight_words() -> None:
    assert [
        f"{label(path)}: {name}" for path in FILES for name in long_names(path.read_text())
    ] == []


def test_no_test_file_imports_another() -> None:
    found = [
        f"{label(path)}: {name}" for path in FILES for name in imported_tests(path.read_text())
    ]
    assert found == []


def test_the_checks_find_planted_offenders() -> None:
    nine, eight = "test_a_b_c_d_e_f_g_h_i", "test_a_b_c_d_e_f_g_h"
    assert long_names(f"async def {nine}(): ...\ndef {eight}(): ...") == [nine]
    planted = (
        "from tests.test_names import FILES\nimport tests.test_names\nfrom tests import helpers"
    )
    assert imported_tests(planted) == ["tests.test_names.FILES", "tests.test_names"]


def main() -> None:
    """Print every offender, one a line."""
    for path in FILES:
        source = path.read_text()
        for name in long_names(source):
            print(f"{label(path)}: {len(name.split('_')) - 1} words: {name}")
        for name in imported_tests(source):
            print(f"{label(path)}: imports {name}")


if __name__ == "__main__":
    main()

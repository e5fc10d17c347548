"""The arrows between the packages run one way, and no file grows beyond a sitting's reading."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "tchat"
MODULES = sorted(ROOT.rglob("*.py"))
MOST_LINES = 400

MAY_USE = {
    "errors": set[str](),
    "core": {"errors"},
    "net": {"errors", "core"},
    "files": {"errors", "core", "net"},
    "store": {"errors", "core", "files"},
    "server": {"errors", "core", "net", "files", "store"},
    "client": {"errors", "core", "net", "files"},
    "ui": {"errors", "core", "client"},
    "demo": {"errors", "core", "store", "net", "server", "client", "ui"},
    "cli": {"errors", "core", "store", "net", "server", "client", "ui", "demo"},
    "__main__": {"cli"},
    "__init__": set[str](),
}
"""What each part of tchat may import, besides itself and the package's own name and version."""

OUTSIDERS = {
    "errors": set[str](),
    "core": {"cbor2"},
    "store": {"trio", "filelock"},
    "net": {"trio", "cryptography"},
    "files": {"trio"},
    "server": {"trio"},
    "client": {"trio", "filelock", "platformdirs"},
    "ui": {"trio", "wcwidth", "curses"},
    "demo": {"trio"},
    "cli": {"trio", "platformdirs"},
    "__main__": set[str](),
    "__init__": set[str](),
}
"""What each part may use that is not of the standard library. Curses counts as such."""

every_module = pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))


def part_of(path: Path) -> str:
    """Return the package below tchat that a file belongs to, or the module that it is."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports_of(path: Path) -> set[str]:
    """Return the full names of all modules that a file imports, for typing only or not."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            names |= _modules_in(node.module, node.names)
    return names


def _modules_in(module: str, aliases: list[ast.alias]) -> set[str]:
    """Return what `from module import aliases` imports: parts of tchat, or the module."""
    if module != "tchat":
        return {module}
    return {f"tchat.{alias.name}" for alias in aliases if not alias.name.startswith("__")}


def test_there_are_modules_to_look_at() -> None:
    assert {part_of(path) for path in MODULES} == MAY_USE.keys() == OUTSIDERS.keys()


@every_module
def test_imports_follow_the_arrows(path: Path) -> None:
    used = {name.split(".")[1] for name in imports_of(path) if name.startswith("tchat.")}
    assert used <= MAY_USE[part_of(path)] | {part_of(path)}


@every_module
def test_nothing_is_used_that_the_part_does_not_stand_on(path: Path) -> None:
    outside = {name.split(".")[0] for name in imports_of(path)} - {"tchat"}
    assert outside - (sys.stdlib_module_names - {"curses"}) <= OUTSIDERS[part_of(path)]


def test_curses_is_only_where_the_screen_is() -> None:
    users = {path.relative_to(ROOT).as_posix() for path in MODULES if "curses" in imports_of(path)}
    assert users <= {"ui/screen.py"}


@every_module
def test_a_file_has_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@every_module
def test_a_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))

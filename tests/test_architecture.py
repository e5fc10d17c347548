"""The import graph of tchat: one way between packages, one way inside them, and no circle of files.

tests/architecture.py has the rules. Imports for type checking count like all others, because a
reader follows them too.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.architecture import LAYERS, MAY_USE, OUTSIDERS

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1] / "tchat"
MODULES = sorted(ROOT.rglob("*.py"))


def parts_of(path: Path) -> tuple[str, ...]:
    """Return a file's place below tchat: the packages, and the module unless it is a package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts


def module_of(path: Path) -> str:
    """Return the full name of the module that a file is."""
    parts = parts_of(path)
    return "tchat" if parts == ("__init__",) else ".".join(("tchat", *parts))


@cache  # most tests look at all modules
def tree_of(source: str) -> ast.Module:
    """Return the syntax tree of a source."""
    return ast.parse(source)


@cache
def import_nodes(source: str) -> list[ast.Import | ast.ImportFrom]:
    """Return the import statements of a source, also those inside functions."""
    nodes = ast.walk(tree_of(source))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def imports_of(source: str, known: set[str]) -> set[str]:
    """Return the full names of all modules that a source imports, for typing only or not."""
    names: set[str] = set()
    for node in import_nodes(source):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, "relative imports hide where something comes from"
            assert node.module is not None
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (below & known) or {node.module}
    return names


def graph_of(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return which of these modules each of them imports, by their full names."""
    known = set(sources)
    return {name: imports_of(source, known) & known for name, source in sources.items()}


def circles_in(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            circle = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(circle) > 1 or node in graph[node]:
                found.append(circle)

    for node in graph:
        if node not in index:
            visit(node)
    return found


def against_layers(graph: Mapping[str, set[str]], layers: Mapping[str, list[set[str]]]) -> set[str]:
    """Return the imports inside packages that go to a higher layer, as "importer → imported"."""
    found: set[str] = set()
    for package, inside in layers.items():
        height = {part: h for h, layer in enumerate(inside) for part in layer}
        for name, used in graph.items():
            here = part_in(package, name)
            for other in used:
                there = part_in(package, other)
                if here and there and height[there] > height[here]:
                    found.add(f"{name} → {other}")
    return found


def part_in(package: str, module: str) -> str:
    """Return which module or package directly below a package a module belongs to, if any."""
    prefix = f"tchat.{package}."
    return module.removeprefix(prefix).split(".")[0] if module.startswith(prefix) else ""


@cache
def _sources() -> Mapping[str, str]:
    return {module_of(path): path.read_text(encoding="utf-8") for path in MODULES}


def sources() -> dict[str, str]:
    """Return the source of every module of tchat, by its full name; the caller may change them."""
    return dict(_sources())


def test_every_part_has_its_arrows() -> None:
    assert {parts_of(path)[0] for path in MODULES} == MAY_USE.keys() == OUTSIDERS.keys()


def test_every_package_has_layers() -> None:
    packages = {".".join(parts_of(p)) for p in MODULES if p.name == "__init__.py"}
    assert packages - {"__init__"} == LAYERS.keys()


# Each test looks at all packages or modules: with one for each of them, every process that runs
# tests would parse all of tchat.


def test_every_module_is_in_one_layer() -> None:
    listed = {
        package: sorted(part for layer in layers for part in layer)
        for package, layers in LAYERS.items()
    }
    found = {
        package: sorted({part_in(package, module_of(path)) for path in MODULES} - {""})
        for package in LAYERS
    }
    assert listed == found


def against_arrows(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the parts of tchat that a module uses and may not, by its full name."""
    wrong: dict[str, set[str]] = {}
    for path in MODULES:
        here, name = parts_of(path)[0], module_of(path)
        used = imports_of(sources[name], set(sources))
        tops = {name.split(".")[1] for name in used if name.startswith("tchat.")}
        if others := tops - MAY_USE[here] - {here}:
            wrong[name] = others
    return wrong


def test_imports_follow_the_arrows() -> None:
    assert against_arrows(sources()) == {}


def test_an_arrow_between_packages_is_found() -> None:
    planted = sources() | {"tchat.core.pace": "from tchat.server import app"}
    assert against_arrows(planted) == {"tchat.core.pace": {"server"}}


def test_arrows_go_one_way_inside_packages() -> None:
    assert against_layers(graph_of(sources()), LAYERS) == set()


def test_an_arrow_against_the_layers_is_found() -> None:
    for package in (name for name in LAYERS if len(LAYERS[name]) > 1):
        low, high = (f"tchat.{package}.{min(LAYERS[package][at])}" for at in (0, -1))
        planted = {**sources(), low: f"import {high}"}
        assert against_layers(graph_of(planted), LAYERS) == {f"{low} → {high}"}


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles_in(graph_of(sources())) == []


def test_a_planted_circle_is_found() -> None:
    """Even an import for type checking only closes a circle."""
    planted = sources()
    planted["tchat.server.log"] += (
        "\nif TYPE_CHECKING:\n    from tchat.server.context import ServerContext\n"
    )
    circles = circles_in(graph_of(planted))
    assert len(circles) == 1
    assert {"tchat.server.log", "tchat.server.context"} <= circles[0]


def unknown_libraries(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the libraries that a module uses and may not, by its full name."""
    wrong: dict[str, set[str]] = {}
    for path in MODULES:
        used = imports_of(sources[module_of(path)], set())
        outside = {name.split(".")[0] for name in used} - {"tchat"}
        outside -= sys.stdlib_module_names - {"curses"}
        if others := outside - OUTSIDERS[parts_of(path)[0]]:
            wrong[module_of(path)] = others
    return wrong


def test_only_known_libraries_are_used() -> None:
    assert unknown_libraries(sources()) == {}


def test_a_planted_unknown_library_is_found() -> None:
    planted = sources() | {"tchat.core.pace": "import requests"}
    assert unknown_libraries(planted) == {"tchat.core.pace": {"requests"}}


def users_of(library: str, sources: Mapping[str, str]) -> set[str]:
    """Return which of these modules import a library, or a module of it."""
    return {
        name
        for name, source in sources.items()
        if library in {used.split(".")[0] for used in imports_of(source, set())}
    }


def test_curses_is_used_by_the_screen_only() -> None:
    assert users_of("curses", sources()) == {"tchat.ui.tui.screen"}


@pytest.mark.parametrize(
    "line", ["import curses", "from curses import A_BOLD", "import sys, curses.ascii as c"]
)
def test_a_planted_use_of_curses_is_found(line: str) -> None:
    planted = {"tchat.core.text": line, "tchat.core.pace": "# import curses"}
    assert users_of("curses", planted) == {"tchat.core.text"}


def test_every_module_has_a_docstring() -> None:
    bare = [name for name, source in sources().items() if not ast.get_docstring(tree_of(source))]
    assert bare == []

"""Sentences fit the front end in which they are shown: no keys where there are none."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import tchat
from tchat.ui.commands.table import TOPICS
from tests.ui.typist import two_typing

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(tchat.__file__).parent
SHARED = ("core", "client", "ui/chat", "ui/commands", "ui/plain")
KEY_NAMES = re.compile(r"\b(Page(Up|Down)|Ctrl|Alt|Shift|Esc(ape)?|Tab|Enter|F[1-9]|Up shows)\b")


async def test_plain_mode_mentions_no_keys() -> None:
    async with two_typing(rewrites=False) as (alice, bob):
        said = [line for topic in ("", *TOPICS) for line in await bob.types(f"/help {topic}")]
        assert not [line for line in said if KEY_NAMES.search(line) or "keys lists" in line]
        assert await bob.types("/help clear") == ["notice: /clear: empties this window"]
        assert await alice.types("/help clear") == [
            "notice: /clear: empties this window; PageUp brings the lines back"
        ]


def test_only_screen_modules_mention_keys() -> None:
    """What both front ends show is written in modules that know no keys."""
    files = sorted(path for folder in SHARED for path in (PACKAGE / folder).rglob("*.py"))
    found = [
        (path.name, text)
        for path in files
        for text in _constants(path)
        if KEY_NAMES.search(text)
        and not path.match("client/config/*")  # may bind them
        and not path.match("ui/plain/frontend.py")  # a terminal's own: Enter, Ctrl-C, Ctrl-D
    ]
    assert found == [("windows.py", "; PageUp brings the lines back")]  # a `screen_help`


def _constants(path: Path) -> Iterator[str]:
    """Yield the string constants of a module, without its docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield from [node.value] if isinstance(node.value, str) else []

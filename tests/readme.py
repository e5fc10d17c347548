"""Generator for the tables in the documents: README.md and the README of each package.

`python -m tests.readme` rewrites every generated part between its markers, `<!-- NAME -->` and
`<!-- end NAME -->`; tests/test_readme.py fails while a part differs from the code.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import tchat
from tchat.cli.command_line import SUBCOMMANDS
from tchat.client.config.settings import EXAMPLE
from tchat.errors import Code
from tchat.server.limits import add_limits
from tchat.server.log import LEVELS, LINES
from tchat.ui.chat.lines import Line
from tchat.ui.commands.table import COMMANDS
from tchat.ui.tui.keymap import key_rows
from tchat.ui.tui.model import Model, Person, Tab
from tests import manual
from tests.architecture import LAYERS, MAY_USE
from tests.attacks.figures import read as attack_figures
from tests.attacks.figures import table as attacks_table
from tests.bench.speed import WRITTEN
from tests.bench.speed_table import table
from tests.faults import report
from tests.statuses import status_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Unpack

    from tchat.ui.chat.commands import CommandSpec
    from tests.ui.pictures import More

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SERVE_SETTINGS = ROOT / "examples" / "deploy" / "tchat.toml"
BOT = ROOT / "examples" / "echo.py"

FIRST_COMMANDS = (
    *("help", "join", "invite", "approve", "msg", "reply", "send", "get", "search", "quit"),
)
"""The words of the commands in the root README, in this order."""

FIRST_KEYS = (
    *("Enter", "Alt-Enter", "Tab", "Up", "PageUp", "Alt-U", "Alt-A", "Alt-1", "F9", "Ctrl-C"),
)
"""The first key of each row of the key table in the root README, in this order."""

_SUNDAY = 1_795_341_720_000  # 2026-11-22 10:02:00 UTC
_MINUTE = 60_000


def conversation() -> Model:
    """Return the model of the screen that the README's picture shows."""

    def line(minute: int, text: str, who: str = "", **more: Unpack[More]) -> Line:
        return Line(_SUNDAY + minute * _MINUTE, "message" if who else "notice", text, who, **more)

    lines = [
        line(0, "hello everyone", "alice", seq=1),
        line(1, "the numbers are in", "bob", seq=2),
        line(1, "bob shared report.pdf (1.2 MB), file 3", seq=3),
        line(3, "thanks, alice! 数字看起来不错 👍", "carol", seq=4, mention=True),
        line(
            4,
            "who restarts the build server? It has been red since Friday evening, and I "
            "would rather not find out on Monday: https://ci.example.org/main/1482",
            "erin",
            seq=5,
        ),
        line(5, "I can, after lunch", "bob", seq=6, reply="erin: who restarts the build server?"),
        line(5, "carol made alice the admin: that is you", seq=7),
        line(
            6, "dave asks to join (key 3f2a-91c4-77de-0b12, new here): /approve dave or /deny dave"
        ),
    ]
    model = Model("alice", "#ops", "release 2.4 goes out on Friday", lines=lines, new_from=4)
    model.connection, model.standing, model.requests = "", "member", ["dave"]
    model.pending = [line(7, "I will, too", "alice", fate="pending")]
    model.people = [
        Person("alice", admin=True, online=True),
        Person("bob", admin=False, online=True),
        Person("carol", admin=False, online=True, away="lunch"),
        Person("erin", admin=False, online=True),
        Person("frank", admin=False, online=False),
    ]
    model.tabs = [
        Tab(1, "#ops", current=True),
        Tab(2, "#dev"),
        Tab(3, "#lab", unread=3),
        Tab(4, "@erin", unread=1, mentions=1),
    ]
    model.edit.insert("I will, give me five min")
    return model


def commands_table() -> str:
    """Return the table of all commands."""
    return _commands(COMMANDS.commands)


def first_commands_table() -> str:
    """Return the table of `FIRST_COMMANDS`."""
    by_word = {command.word: command for command in COMMANDS.commands}
    return _commands(by_word[word] for word in FIRST_COMMANDS)


def _commands(commands: Iterable[CommandSpec[Any]]) -> str:
    rows = []
    for command in commands:
        number = f"`/{command.number}`" if command.number else ""
        usage = command.usage.replace("|", "\\|")  # a bare | ends the table cell, even in code
        meaning = f"{command.help}{command.screen_help}{', admin' * command.admin}"
        rows.append((number, f"`{usage}`", meaning))
    return _table(("number", "word", "what it does"), rows)


def keys_table() -> str:
    """Return the table of all keys."""
    return _table(("keys", "what they do"), key_rows())


def first_keys_table() -> str:
    """Return the table of `FIRST_KEYS`."""
    by_key = {re.split(r", | … ", keys)[0]: (keys, text) for keys, text in key_rows()}
    return _table(("keys", "what they do"), (by_key[key] for key in FIRST_KEYS))


def codes_table() -> str:
    """Return the table of error codes."""
    return _table(("code", "meaning"), ((f"`{code}`", code.meaning) for code in Code))


def subcommands_table() -> str:
    """Return the table of the commands of the command line."""
    return _table(
        ("command", "what it does"), ((f"`{row.name}`", row.summary) for row in SUBCOMMANDS)
    )


def statuses_table() -> str:
    """Return the table of exit statuses for scripts."""
    rows = [(status, text.replace("|", "\\|"), codes) for status, text, codes in status_rows()]
    return _table(("status", "meaning", "error codes"), rows)


def limits_table() -> str:
    """Return the table of the server's limits."""
    serve = argparse.ArgumentParser()
    add_limits(serve.add_argument_group("limits"))
    rows = []
    for action in serve._actions[1:]:
        (option,) = action.option_strings
        text = str(action.help).partition(" (default")[0]
        rows.append((f"`{option}`", str(action.default), text.replace("%%", "%")))
    return _table(("option", "default", "meaning"), rows)


def log_table() -> str:
    """Return the table of the server's log lines."""
    return _table(
        ("event", "level", "line"),
        ((f"`{kind}`", LEVELS.get(kind, "info"), f"`{line}`") for kind, line in LINES.items()),
    )


def packages_table() -> str:
    """Return the table of packages and top-level modules: the first line of each docstring."""
    tops = [path for path in sorted((ROOT / "tchat").glob("*.py")) if not _is_dunder(path)]
    packages = sorted((ROOT / "tchat").glob("*/**/__init__.py"))
    rows = [(f"`{_name_in_tchat(path)}`", _first_line(path)) for path in (*packages, *tops)]
    return _table(("package or module", "purpose"), rows)


def public_names_table() -> str:
    """Return the table of the public names: the first line of each docstring."""
    rows = []
    for name in tchat.__all__:
        value = getattr(tchat, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            first = (inspect.getdoc(value) or "").partition("\n")[0]
            rows.append((f"`{name}`", first))
    return _table(("name", "what it is"), rows)


def arrows_diagram() -> str:
    """Return which packages each package may import, and the layers inside them."""
    order = list(MAY_USE)
    parts = [name for name in order if not name.startswith("__")]
    lines = ["Which package may import which:", ""]
    for name in parts:
        used = ", ".join(sorted(MAY_USE[name], key=order.index)) or "(nothing)"
        lines.append(f"  {name:<9} → {used}")
    lines += ["", "Layers inside the packages; each may import those before it:", ""]
    width = max(map(len, LAYERS))
    for name, inside in LAYERS.items():
        text = " ← ".join(", ".join(sorted(layer)) for layer in inside)
        label = f"  {name:<{width}} "
        lines += wrap(text, 96, initial_indent=label, subsequent_indent=" " * len(label))
    return "```\n" + "\n".join(lines) + "\n```"


def documents() -> dict[str, dict[str, Callable[[], str]]]:
    """Return the generated parts of each document, by the document's path below the root."""
    return {
        "README.md": {
            "commands": first_commands_table,
            "keys": first_keys_table,
            "faults": lambda: report.figures(report.read()),
            "bot": lambda: f"```python\n{BOT.read_text().strip()}\n```",
        },
        "tchat/cli/README.md": {"subcommands": subcommands_table, "statuses": statuses_table},
        "tchat/README.md": {"packages": packages_table, "arrows": arrows_diagram},
        "tchat/api/README.md": {"names": public_names_table},
        "tchat/client/config/README.md": {"config": lambda: f"```toml\n{EXAMPLE.strip()}\n```"},
        "tchat/core/README.md": {"codes": codes_table},
        "tchat/server/README.md": {
            "settings": lambda: f"```toml\n{SERVE_SETTINGS.read_text().strip()}\n```",
            "limits": limits_table,
            "log": log_table,
        },
        "tchat/ui/README.md": {"commands": commands_table, "keys": keys_table},
        "tests/faults/README.md": {"faults": lambda: report.document(report.read())},
        ".github/SECURITY.md": {"attacks": lambda: attacks_table(attack_figures())},
        "tests/bench/README.md": {"speed": lambda: table(json.loads(WRITTEN.read_text()))},
    }


def marked(text: str, name: str) -> str:
    """Return the text between the markers of a part. Raises LookupError."""
    found = _between(name).search(text)
    if found is None:
        raise LookupError(f"no part is marked {name!r}")
    return found[2].strip("\n")


def write() -> None:
    """Write all generated parts into the documents."""
    for path, parts in documents().items():
        text = (ROOT / path).read_text(encoding="utf-8")
        for name, make in parts.items():
            part = make()
            text = _between(name).sub(lambda m, part=part: f"{m[1]}{part}\n{m[3]}", text)  # type: ignore[misc]
        (ROOT / path).write_text(text, encoding="utf-8")


def _between(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(<!-- end {name} -->)", re.DOTALL)


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [titles, ("---",) * len(titles), *rows]
    marks = [f"| {' | '.join(line)} |" for line in lines]
    marks[1] = marks[1].replace(" ", "")
    return "\n".join(marks)


def _first_line(path: Path) -> str:
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return (doc or "").partition("\n")[0]


def _name_in_tchat(path: Path) -> str:
    inside = path.relative_to(ROOT / "tchat")
    return f"{inside.parent.as_posix()}/" if path.name == "__init__.py" else inside.as_posix()


def _is_dunder(path: Path) -> bool:
    return path.stem.startswith("__")


if __name__ == "__main__":
    write()
    manual.write()

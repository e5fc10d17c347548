"""The parts of the README that are made from the code, so that they cannot rot.

`python -m tests.readme` writes them into README.md; a test compares them.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tchat.client.config.settings import EXAMPLE
from tchat.errors import Code
from tchat.server.limits import add_limits
from tchat.server.log import LINES
from tchat.ui.chat.lines import Line
from tchat.ui.commands.table import COMMANDS
from tchat.ui.tui.keymap import key_rows
from tchat.ui.tui.model import Model, Person, Tab
from tests.bench.speed import WRITTEN
from tests.bench.speed_table import table

if TYPE_CHECKING:
    from typing import Unpack

    from tests.ui.pictures import More

README = Path(__file__).parent.parent / "README.md"
BOT = README.parent / "examples" / "echo_bot.py"
_SUNDAY = 1_795_341_720_000  # 2026-11-22 10:02:00 UTC
_MINUTE = 60_000


def conversation() -> Model:
    """Return the conversation that the picture shows, and all that can be seen around it."""

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
    model.connection, model.standing, model.requests = "", "member", 1
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
    """Return the table of commands."""
    rows = ["| number | word | what it does |", "|---|---|---|"]
    for command in COMMANDS.commands:
        number = f"`/{command.number}`" if command.number else ""
        usage = command.usage.replace("|", "\\|")  # it would end the cell, in code too
        rows.append(f"| {number} | `{usage}` | {command.help}{', admin' * command.admin} |")
    return "\n".join(rows)


def keys_table() -> str:
    """Return the table of keys."""
    rows = ["| keys | what they do |", "|---|---|"]
    return "\n".join([*rows, *(f"| {keys} | {text} |" for keys, text in key_rows())])


def codes_table() -> str:
    """Return the table of error codes."""
    rows = ["| code | meaning |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{code}` | {code.meaning} |" for code in Code)])


def limits_table() -> str:
    """Return the table of the server's limits."""
    serve = argparse.ArgumentParser()
    add_limits(serve.add_argument_group("limits"))
    rows = ["| option | default | what |", "|---|---|---|"]
    for action in serve._actions[1:]:
        (option,) = action.option_strings
        text = str(action.help).partition(" (default")[0]
        rows.append(f"| `{option}` | {action.default} | {text} |")
    return "\n".join(rows)


def log_table() -> str:
    """Return the table of the server's log lines."""
    rows = ["| event | line |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{kind}` | `{line}` |" for kind, line in LINES.items())])


def parts() -> dict[str, str]:
    """Return every generated part of the README, by the name in its markers."""
    return {
        "commands": commands_table(),
        "keys": keys_table(),
        "config": f"```toml\n{EXAMPLE.strip()}\n```",
        "codes": codes_table(),
        "log": log_table(),
        "limits": limits_table(),
        "speed": table(json.loads(WRITTEN.read_text())),
        "bot": f"```python\n{BOT.read_text().strip()}\n```",
    }


def marked(text: str, name: str) -> str:
    """Return what stands between the markers of a part."""
    found = _between(name).search(text)
    if found is None:
        raise LookupError(f"the README has no part {name!r}")
    return found[2].strip("\n")


def write() -> None:
    """Bring the README up to date."""
    text = README.read_text()
    for name, part in parts().items():
        text = _between(name).sub(lambda m, part=part: f"{m[1]}{part}\n{m[3]}", text)  # type: ignore[misc]
    README.write_text(text)


def _between(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(<!-- end {name} -->)", re.DOTALL)


if __name__ == "__main__":
    write()

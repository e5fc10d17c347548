"""The parts of the README that are made from the code, so that they cannot rot.

`python -m tests.readme` writes them into README.md; a test compares them.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from pathlib import Path

from tchat.errors import Code
from tchat.server.log import LINES
from tchat.server.options import add_limits
from tchat.ui.commands import COMMANDS
from tchat.ui.lineedit import LineEdit
from tchat.ui.lines import Line
from tchat.ui.model import Model, Person
from tchat.ui.view import draw

README = Path(__file__).parent.parent / "README.md"
BOT = README.parent / "examples" / "echo_bot.py"
_SUNDAY = 1_795_341_720_000  # 2026-11-22 10:02:00 UTC
_MINUTE = 60_000


def picture() -> str:
    """Return the screen of a conversation, as the client draws it at 80 by 16."""
    os.environ["TZ"] = "UTC"
    time.tzset()

    def line(minute: int, text: str, who: str = "", **flags: bool) -> Line:
        at = _SUNDAY + minute * _MINUTE
        return Line(at, "message" if who else "notice", text, who, **flags)

    model = Model("alice", "ops", connection="", standing="member", waiting=1)
    model.lines = [
        line(0, "hello everyone", "alice", history=True),
        line(1, "the numbers are in", "bob", history=True),
        line(1, "bob shared report.pdf (1.2 MB), file 3", history=True),
        line(3, "thanks! 数字看起来不错 👍", "carol", missed=True),
        line(
            4,
            "who restarts the build server? It has been red since Friday evening, and I "
            "would rather not find out on Monday.",
            "erin",
        ),
        line(5, "carol made alice the admin: that is you"),
        line(
            6, "dave asks to join (key 3f2a-91c4-77de-0b12, new here): /approve dave or /deny dave"
        ),
    ]
    model.people = [
        Person("alice", admin=True, online=True),
        Person("bob", admin=False, online=True),
        Person("carol", admin=False, online=True),
        Person("erin", admin=False, online=False),
        Person("frank", admin=False, online=False),
    ]
    model.edit = LineEdit()
    model.edit.insert("I will, give me five min")
    rows = draw(model, 80, 16).rows
    return "\n".join("".join(text for text, _ in row).rstrip() for row in rows)


def commands_table() -> str:
    """Return the table of commands."""
    rows = ["| number | word | what it does |", "|---|---|---|"]
    for command in COMMANDS:
        number = f"`/{command.number}`" if command.number else ""
        rows.append(f"| {number} | `{command.usage}` | {command.help}{', admin' * command.admin} |")
    return "\n".join(rows)


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
        "picture": f"```\n{picture()}\n```",
        "commands": commands_table(),
        "codes": codes_table(),
        "log": log_table(),
        "limits": limits_table(),
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

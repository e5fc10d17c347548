"""Generator for the files of the package that are made from the parser: manual page, completion.

`python -m tests.readme` writes them into tchat/data/, from where a wheel installs them.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tchat import __version__
from tchat.cli import parser
from tchat.cli.completion import script
from tests.statuses import status_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = Path(__file__).parents[1] / "tchat" / "data"
_DATA = "~/.local/share/tchat/server"  # wherever it is for whoever runs this


def files() -> dict[str, Callable[[], str]]:
    """Return the generator of each file in `DATA`."""
    return {
        "tchat.1": page,
        "tchat.bash": partial(_script, "bash"),
        "_tchat": partial(_script, "zsh"),
        "tchat.fish": partial(_script, "fish"),
    }


def write() -> None:
    """Write all files."""
    DATA.mkdir(exist_ok=True)
    for name, make in files().items():
        (DATA / name).write_text(make(), encoding="utf-8")


def _script(shell: str) -> str:
    return script(shell, parser())


def page() -> str:
    """Return the manual page, in the macros of man(7)."""
    lines = [f'.TH TCHAT 1 "" "tchat {__version__}"']
    lines += [".SH NAME", "tchat \\- group chat for the terminal"]
    lines += [".SH SYNOPSIS", ".B tchat", r"\fICOMMAND\fR [\fIOPTION\fR]... [\fIARGUMENT\fR]..."]
    lines += [".SH DESCRIPTION", "A server that starts with one command, a full-screen client, and"]
    lines += ["commands for scripts. These are the commands."]
    top = parser()
    lines += [*_commands(top, "tchat"), ".SH OPTIONS", *_options(top)]
    lines += [".SH EXIT STATUS", "Of the commands for scripts: say, tail, ask, export, send, get."]
    for status, meaning, _ in status_rows():
        lines += [f'.IP "{status}"', _text(meaning)]
    lines += [".SH FILES", _text("config.toml, in the configuration directory or $TCHAT_HOME: ")]
    lines += [_text("default user and groups, servers with nicknames, colours, keys.")]
    return "\n".join(lines) + "\n"


def _commands(inside: argparse.ArgumentParser, name: str) -> Iterator[str]:
    for action in inside._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, deeper in action.choices.items():
                yield f'.SS "{name} {word}"'
                yield from _command(deeper)
                yield from _commands(deeper, f"{name} {word}")


def _command(command: argparse.ArgumentParser) -> Iterator[str]:
    yield from _paragraphs(command.description or "")
    yield from _options(command)
    yield ".PP"
    yield ".nf"
    yield from map(_text, str(command.epilog or "").splitlines())
    yield ".fi"


def _options(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            continue
        yield ".TP"
        yield _label(action)
        default = _DATA if isinstance(action.default, Path) else action.default
        values = {"default": default, "prog": command.prog}
        yield _text(str(action.help or "") % values)


def _paragraphs(text: str) -> Iterator[str]:
    for line in text.strip().splitlines():
        yield _text(line) if line else ".PP"


def _label(action: argparse.Action) -> str:
    value = str(action.metavar or (action.choices and "|".join(action.choices)) or action.dest)
    if not action.option_strings:
        return f"\\fI{_text(value)}\\fR"
    names = ", ".join(f"\\fB{_text(name)}\\fR" for name in action.option_strings)
    return names if action.nargs == 0 else f"{names} \\fI{_text(value)}\\fR"


def _text(text: str) -> str:
    """Return a line of text."""
    line = text.replace("\\", "\\e").replace("-", "\\-")
    line = line.replace("…", "...")
    return f"\\&{line}" if line.startswith((".", "'")) else line


if __name__ == "__main__":
    write()

"""`tchat demo`: chat with two bots on a temporary server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tchat.cli.arguments import RECENT, explain
from tchat.cli.full_screen import is_plain
from tchat.errors import Code, StartupError

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
Try tchat on this machine: starts a temporary server and two bots, and lets you
chat with them. Everything is deleted when you quit.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat demo`."""
    explain(
        parser,
        _DESCRIPTION,
        ("tchat demo", "chat with two bots"),
        ("tchat demo --user alice", "choose your name"),
    )
    parser.add_argument(
        "--user", default="guest", metavar="NAME", help="your name (default: guest)"
    )
    parser.add_argument("--plain", action="store_true", help="lines of text instead of full screen")
    parser.set_defaults(run=_demo)


def _demo(given: argparse.Namespace) -> int:
    import trio

    from tchat.core.text import check_name, fold
    from tchat.demo import run_demo

    user = check_name(given.user, "username")
    if fold(user) in ("ada", "bob"):
        raise StartupError(
            Code.CANNOT_START, f"{user} is one of the demo's bots; choose another --user."
        )
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise StartupError(Code.CANNOT_START, "The demo needs a terminal.")
    if is_plain(given.plain):
        from tchat.ui.plain.frontend import PlainOptions, run_plain
        from tchat.ui.plain.typed import TypedLines

        typed, options = TypedLines(), PlainOptions(terminal=True)
        return trio.run(run_demo, user, RECENT, lambda start: run_plain(start, typed, options))
    from tchat.ui.tui.app import run_curses  # here, since curses is not available everywhere

    return trio.run(run_demo, user, RECENT, run_curses)

"""Command line: the subcommands, their options and --help, and the wiring of all packages."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from tchat.cli.command_line import BY_NAME, parser
from tchat.exits import exit_status
from tchat.streams import complain, open_standard_streams, plain_status, run_reporting

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "parser"]

_OBJECTS_BETWEEN_COLLECTIONS = 20_000
_WELCOME = """\
tchat: group chat for the terminal

Start a server on this machine:
  tchat serve localhost 7777

Join a group on it, or found the group:
  tchat join localhost 7777 --user alice --group ops

Look around first, with two bots:
  tchat demo

tchat --help lists the commands; tchat COMMAND --help explains one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run tchat with the given command line and return its exit status."""
    open_standard_streams()  # before anything else is opened
    # Everything that is imported stays: looking through it for garbage would only take time.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 20)
    words = sys.argv[1:] if arguments is None else arguments
    if not words:
        complain(_WELCOME)
        return 2
    command = BY_NAME.get(words[0])
    status = 0

    def run() -> None:
        nonlocal status
        given = parser(words[:1]).parse_args(words)
        given.typed = words
        status = given.run(given)

    status_of = exit_status if command and command.for_scripts else plain_status
    return run_reporting(run, status_of) or status

"""Command line: the subcommands, their options and --help, and the wiring of all packages."""

from __future__ import annotations

import gc
import sys
import traceback
from typing import TYPE_CHECKING

from tchat.cli.command_line import BY_NAME, parser
from tchat.exits import SOFTWARE, exit_status
from tchat.invocation import command_line
from tchat.streams import complain, open_standard_streams, plain_status, run_reporting

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "parser"]

_OBJECTS_BETWEEN_COLLECTIONS = 20_000
_WELCOME = """\
tchat: group chat for the terminal

Start a server on this machine:
  {program} serve localhost 7777

Join a group on it, or found the group:
  {program} join localhost 7777 --user alice --group ops

Look around first, with two bots:
  {program} demo

List the commands (COMMAND --help explains one):
  {program} --help"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run tchat with the given command line and return its exit status."""
    open_standard_streams()  # before anything else is opened
    # Everything that is imported stays: looking through it for garbage would only take time.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 20)
    words = sys.argv[1:] if arguments is None else arguments
    if not words:
        complain(_WELCOME.format(program=command_line()))
        return 2
    command = BY_NAME.get(words[0])
    status = 0

    def run() -> None:
        nonlocal status
        given = parser(words[:1]).parse_args(words)
        given.typed = words
        status = given.run(given)

    if command is None or not command.for_scripts:
        return run_reporting(run, plain_status) or status
    try:
        return run_reporting(run, exit_status) or status
    except Exception:  # noqa: BLE001  # the interpreter's status is 1, which has a meaning in `ask`
        traceback.print_exc()
        return SOFTWARE

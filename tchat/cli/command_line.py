"""The table of subcommands, and the parser that is made from it.

A subcommand is a module with a function that describes its arguments (`describe`), and sets `run`,
the function that does the work and returns the exit status. Both modules and functions are imported
only if the command line names the subcommand; so `tchat --help` is quick, and each subcommand waits
only for what it needs. A module imports at its top only what describing needs.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from tchat import __version__
from tchat.cli.arguments import examples
from tchat.client.config.options import AddressParser
from tchat.exits import USAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class Subcommand(NamedTuple):
    """A row of the table: `place` is the module in `tchat.cli`, and the function that describes it.

    With `for_scripts`, the exit statuses are those of `tchat.exits`; otherwise 1, or 2 for a wrong
    command line.
    """

    name: str
    place: str
    summary: str
    for_scripts: bool = False


SUBCOMMANDS = (
    Subcommand("demo", "demo:describe", "try tchat: a temporary server, two bots and you"),
    Subcommand("serve", "serve:describe", "start a server"),
    Subcommand("join", "join:describe", "join a group and chat; founds the group if it is new"),
    Subcommand("say", "say:describe", "post a message", for_scripts=True),
    Subcommand("tail", "tail:describe", "print the latest messages, or follow", for_scripts=True),
    Subcommand("ask", "ask:describe", "ask a question and wait for the answer", for_scripts=True),
    Subcommand("export", "export:describe", "print everything that was said", for_scripts=True),
    Subcommand("send", "files:describe_send", "send files to a group", for_scripts=True),
    Subcommand("get", "files:describe_get", "download files of a group", for_scripts=True),
    Subcommand(
        "irc", "irc:describe", "use the chat from an IRC client on this machine", for_scripts=True
    ),
    Subcommand("ping", "ping:describe", "check that a server is well", for_scripts=True),
    Subcommand(
        "admin", "admin:describe", "maintenance for the operator of a server", for_scripts=True
    ),
    Subcommand("completion", "completion:describe", "print a shell's completion script"),
)

BY_NAME = {command.name: command for command in SUBCOMMANDS}


def parser(words: Collection[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    It knows the arguments of the subcommands in `words`, or of all; of the others only the names.
    """
    top = AddressParser(
        prog="tchat",
        description="Group chat for the terminal.",
        epilog=examples(
            ("tchat demo", "try everything on this machine"),
            ("tchat serve localhost 7777", "start a server"),
            ("tchat join localhost 7777 --user alice --group ops", "join a group on it"),
            ("tchat say localhost:7777 --user ci --group ops deployed", "post from a script"),
        )
        + "\n\ntchat COMMAND --help shows the options and examples of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"tchat {__version__}")
    actions = top.add_subparsers(required=True, parser_class=AddressParser, metavar="COMMAND")
    for command in SUBCOMMANDS:
        made = actions.add_parser(
            command.name,
            help=command.summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=not command.for_scripts,  # a script should survive a new option
        )
        if command.for_scripts:
            made.usage_status = USAGE
        if words is None or command.name in words:
            describe_function(command)(made)
    return top


def describe_function(command: Subcommand) -> Callable[[argparse.ArgumentParser], None]:
    """Import and return the function that describes the arguments of a subcommand."""
    module, _, function = command.place.partition(":")
    found: Callable[[argparse.ArgumentParser], None]
    found = getattr(import_module(f"tchat.cli.{module}"), function)
    return found

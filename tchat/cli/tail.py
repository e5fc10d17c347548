"""`tchat tail`: print the latest messages of a group, and those that follow."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from tchat.cli.arguments import add_place, count, duration, explain
from tchat.cli.since import HELP, seq_before, seq_before_latest, since
from tchat.errors import Code, UsageError
from tchat.exits import TEMPORARY
from tchat.streams import complain, print_line

if TYPE_CHECKING:
    import argparse

    from tchat.api.client import Client
    from tchat.api.groups import Event, Group
    from tchat.api.stream import Events
    from tchat.cli.rendering import JsonRenderer, TextRenderer

LATEST = 10
"""The number of messages that are printed without -n and --since."""

_DESCRIPTION = """\
Print the latest messages of a group, and with -f those that follow, until
Ctrl-C. Files, edits and deletions are printed, too; --events adds who joined
and left, topics and the like.

You have to be a member of the group, or to have an invite. What is printed
still counts as unread in your other clients, unless --seen is given. If you
are no longer a member, it ends with status 77.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat tail`."""
    explain(
        parser,
        _DESCRIPTION,
        ("tchat tail localhost:7777 --user ci --group ops -n 20", "the 20 latest messages"),
        ("tchat tail work -f --json | jq -r .text", "for programs, as it comes"),
        ("tchat tail work --since seen --seen", "what you have not read; now you have"),
        ("tchat tail work --wait 60", "the next message; status 75 if there is none in 60 s"),
    )
    add_place(parser, "PORT", "the port, if SERVER is a host")
    parser.add_argument(
        "-n", dest="latest", type=count, metavar="N", help=f"the N latest messages ({LATEST})"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with those that follow")
    parser.add_argument("--since", type=since, metavar="WHEN", help=HELP)
    parser.add_argument(
        "--wait",
        type=duration,
        metavar="TIME",
        help="wait for a message of somebody else, at most this long (10, 5m); begins with the next"
        " one, unless -n or --since is given; the status is 75 if there is none",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, an object for each line")
    parser.add_argument(
        "--events", action="store_true", help="print everything that happened in the group"
    )
    parser.add_argument("--seen", action="store_true", help="what is printed counts as read")
    parser.set_defaults(run=_tail)


def _tail(given: argparse.Namespace) -> int:
    from tchat.cli.place import PATIENCE, resolve, run_in_group

    resolve(given)
    if given.words:
        raise UsageError(Code.MISSING_ARGUMENT, f"{given.words[0]} is one argument too many.")
    patience = math.inf if given.follow else PATIENCE
    return run_in_group(given, partial(_print, given), patience)


async def _print(given: argparse.Namespace, client: Client, group: Group) -> int:
    import trio

    begin = await _begin(given, group)
    async with client.events(group, since=begin, own=True, while_member=True) as events:
        printer = _Printer(given, group, events)
        if given.wait is not None:
            with trio.move_on_after(given.wait) as scope:
                await printer.print_until_heard()
            if scope.cancelled_caught and not printer.heard:
                complain("tchat: No message came in time.")
                return TEMPORARY
        await printer.print_ready()
        while given.follow:
            await printer.print(await events.receive())
    return 0


async def _begin(given: argparse.Namespace, group: Group) -> int:
    """Return the seq after which to print."""
    begin = given.since
    if begin is None and given.latest is None and given.wait is not None:
        begin = "now"
    least = 0 if begin is None else await seq_before(group, begin)
    if begin is not None and given.latest is None:
        return least
    return await seq_before_latest(group, LATEST if given.latest is None else given.latest, least)


class _Printer:
    """Prints events; `heard` is whether a message of somebody else was among them."""

    def __init__(self, given: argparse.Namespace, group: Group, events: Events) -> None:
        from tchat.cli.rendering import SAID, JsonRenderer, TextRenderer

        self.heard = False
        self._events = events
        self._given = given
        self._said = SAID
        self._renderer: JsonRenderer | TextRenderer
        self._renderer = JsonRenderer(group.seen) if given.json else TextRenderer(group.now)

    async def print_ready(self) -> None:
        """Print everything that was said until now."""
        while (event := await self._events.receive_ready()) is not None:
            await self.print(event)

    async def print_until_heard(self) -> None:
        """Print until a message of somebody else was among it."""
        while not self.heard:
            await self.print(await self._events.receive())

    async def print(self, event: Event) -> None:
        """Print an event, unless it is not wanted."""
        from tchat.api.groups import Message

        if self._given.events or isinstance(event, self._said):
            for line in self._renderer.lines(event):
                print_line(line)
            self.heard = self.heard or (isinstance(event, Message) and not event.mine)
        if self._given.seen:
            await self._events.ack(event)

"""`tchat export`: print a group's history as Markdown or JSON Lines."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tchat.cli.arguments import add_place, explain
from tchat.cli.since import HELP, seq_before, since
from tchat.errors import Code, Unavailable, UsageError
from tchat.streams import print_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from tchat.api.client import Client
    from tchat.api.groups import Event, Group
    from tchat.cli.rendering import JsonRenderer, MarkdownRenderer

_IN_MEMORY = 16 * 1024 * 1024
"""How many bytes of edited texts are kept in memory; more are in a temporary file."""

_DESCRIPTION = """\
Print everything in a group that you may read, until now: as Markdown, for
people, with edited messages as they are now; or as JSON Lines, for programs,
with an object for each event, as `tchat join --json` prints them.

You have to be a member of the group, or to have an invite. What is printed
still counts as unread in your other clients.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat export`."""
    explain(
        parser,
        _DESCRIPTION,
        ("tchat export localhost:7777 --user alice --group ops > ops.md", "everything"),
        ("tchat export work --format jsonl --since 7d", "the events of the last seven days"),
    )
    add_place(parser, "PORT", "the port, if SERVER is a host")
    parser.add_argument(
        "--format",
        choices=["markdown", "jsonl"],
        default="markdown",
        help="the format (default: markdown)",
    )
    parser.add_argument("--since", type=since, default="start", metavar="WHEN", help=HELP)
    parser.set_defaults(run=_export)


def _export(given: argparse.Namespace) -> int:
    from tchat.cli.place import resolve, run_in_group

    resolve(given)
    if given.words:
        raise UsageError(Code.MISSING_ARGUMENT, f"{given.words[0]} is one argument too many.")
    return run_in_group(given, partial(_print, given))


async def _print(given: argparse.Namespace, client: Client, group: Group) -> int:
    from tempfile import SpooledTemporaryFile

    from tchat.api.groups import Edited
    from tchat.cli.rendering import JsonRenderer, LatestTexts, MarkdownRenderer

    begin, end = await seq_before(group, given.since), group.last
    renderer: JsonRenderer | MarkdownRenderer
    with SpooledTemporaryFile(_IN_MEMORY) as file:
        if given.format == "jsonl":
            renderer = JsonRenderer(group.seen)
        else:
            # The log is read twice, so that not all of it has to be in memory.
            edits = LatestTexts(file)
            async for event in _events(client, group, begin, end):
                if isinstance(event, Edited):
                    edits.add(event.message, event.text)
            renderer = MarkdownRenderer(edits)
            print_line(renderer.title(group.name))
        async for event in _events(client, group, begin, end):
            for line in renderer.lines(event):
                print_line(line)
    return 0


async def _events(client: Client, group: Group, begin: int, end: int) -> AsyncIterator[Event]:
    """Yield the events after `begin` up to `end`.

    Raises `Unavailable` if the server has announced events that it does not send.
    """
    async with client.events(group, since=begin, own=True, while_member=True) as events:
        while (event := await events.receive_ready()) is not None and event.seq <= end:
            yield event
        if event is None and not events.has_read(group, end):
            raise Unavailable(
                Code.INTERNAL,
                f"{client.server} did not send all events up to {end}, the last that it announced;"
                " what was printed is not complete.",
            )

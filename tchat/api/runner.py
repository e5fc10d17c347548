"""Run a program of this API from the command line: options, logging, signals, exit status.

    async def main(client: tchat.Client, groups: list[tchat.Group]) -> None:
        await groups[0].say("hello")

    tchat.run(main)

The command line is that of the other programs: `HOST PORT` or the nickname of a server, `--group`,
`--user`, `--pin`, `--invite` and so on. A program adds options of its own with `add_options`, and
finds them in `Client.options`. Log lines and errors go to standard error. The exit status is 0 when
`main` returns, 130 or 143 after SIGINT or SIGTERM, and otherwise one of `tchat.exits`.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import trio

from tchat.api.client import client_on
from tchat.api.groups import Message
from tchat.client.config.options import (
    CREATE_HINT,
    ScriptParser,
    add_create,
    add_server_options,
    apply_settings,
    invite_token,
    session_for,
)
from tchat.client.config.settings import config_file, load_config
from tchat.errors import Code, Refused, UsageError
from tchat.exits import exit_status
from tchat.streams import open_standard_streams, run_reporting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tchat.api.client import Client
    from tchat.api.groups import Event, Group
    from tchat.api.stream import Since

    AddOptions = Callable[[argparse.ArgumentParser], object]


def run(
    main: Callable[[Client, list[Group]], Awaitable[object]],
    arguments: Sequence[str] | None = None,
    *,
    user: str | None = None,
    add_options: AddOptions | None = None,
) -> NoReturn:
    """Connect, join the groups on the command line, run `main` with them, and exit.

    `main` begins once the user is a member of all these groups; without any, they are those of the
    server in config.toml. `user` is the user name if neither the command line nor config.toml has
    one. `add_options` adds options to the parser; `Client.options` has their values.
    """
    parser = _parser(main.__doc__, add_options)

    async def start(client: Client, groups: Sequence[str]) -> None:
        await main(client, [await _join(client, group) for group in _chosen(client, groups)])

    _run(parser, arguments, start, user)


def run_bot(
    handler: Callable[[Any], Awaitable[object]],
    arguments: Sequence[str] | None = None,
    *,
    of: type[Event] | tuple[type[Event], ...] = Message,
    since: Since = "seen",
    user: str | None = None,
    add_options: AddOptions | None = None,
) -> NoReturn:
    """Join groups, and call `handler` for each new event, until the program is interrupted.

    The groups are those on the command line, or else those of the server in config.toml. See
    `Client.for_each` for `of` and `since`, and `run` for the rest. Conversations of two with the
    bot count, too. What is said while the bot does not run is handled by its next run, unless
    `since` is "now". `user` is by default the name of the handler. The program ends if the bot is
    denied, or banned, from a group when it starts.
    """
    parser = _parser(handler.__doc__, add_options)

    async def start(client: Client, groups: Sequence[str]) -> None:
        async with trio.open_nursery() as nursery:
            for group in _chosen(client, groups):  # not one by one: an admin may be away
                nursery.start_soon(_join, client, group)
            await client.for_each(handler, of=of, since=since, cursor=handler.__name__)

    _run(parser, arguments, start, user or handler.__name__)


def _chosen(client: Client, groups: Sequence[str]) -> Sequence[str]:
    """Return the groups on the command line, or else those in config.toml. Raises `UsageError`."""
    given: Sequence[str] = (client.options and client.options.group) or groups
    if not given:
        raise UsageError(Code.MISSING_ARGUMENT, "The group is missing: add --group NAME.")
    return given


async def _join(client: Client, group: str) -> Group:
    try:
        return await client.join(group, create=bool(client.options and client.options.create))
    except Refused as refusal:
        if refusal.code == Code.NO_SUCH_GROUP:
            raise Refused(refusal.code, f"{refusal} {CREATE_HINT}") from refusal
        raise


def _parser(description: str | None, add_options: AddOptions | None) -> argparse.ArgumentParser:
    parser = ScriptParser(description=description)
    add_server_options(parser, nicknames=True)
    parser.add_argument("--user", metavar="NAME", help="the user name")
    parser.add_argument(
        "--group",
        metavar="NAME",
        action="append",
        help="a group to join; may be given several times (default: those in config.toml)",
    )
    add_create(parser)
    if add_options is not None:
        add_options(parser)
    return parser


def _run(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    main: Callable[[Client, Sequence[str]], Awaitable[object]],
    user: str | None,
) -> NoReturn:
    """Run `main` with a client and the groups in config.toml; see `run`."""
    open_standard_streams()
    logging.basicConfig(level=logging.INFO, format=f"{parser.prog}: %(message)s")
    given = argparse.Namespace()
    status = 0

    def start() -> None:
        parser.parse_args(arguments, given)  # here, since --help may be unable to print
        trio.run(run_main)

    async def run_main() -> None:
        nonlocal status
        groups = apply_settings(given, load_config(config_file()))
        name = given.user or user
        if name is None:
            raise UsageError(Code.MISSING_ARGUMENT, "The user name is missing: add --user NAME.")
        with trio.open_signal_receiver(signal.SIGTERM) as signals, trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end_on_signal, signals, scope)
                session = session_for(given, name, recent=0, unread=False)
                async with client_on(session, invite_token(given)) as client:
                    client.options = given
                    await main(client, groups)
                nursery.cancel_scope.cancel()

    async def end_on_signal(signals: Any, scope: trio.CancelScope) -> None:  # noqa: ANN401  # trio's
        nonlocal status
        async for number in signals:
            status = 128 + number
            scope.cancel()

    failed = run_reporting(start, exit_status)
    sys.exit(failed or status)

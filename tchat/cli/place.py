"""Where a script's command goes: the server, the user and the group; connect and open it.

A lost connection is a delay, but not for ever: see `patient_session`.
"""

from __future__ import annotations

import logging
import math
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.api.client import client_on
from tchat.cli.names import ask_name
from tchat.client.config.options import invite_token, join_hint, session_for
from tchat.client.config.paths import last_names_file
from tchat.client.config.settings import Server, config_file, load_config
from tchat.client.last_names import read_last_names
from tchat.core.text import check_name
from tchat.errors import Code, Refused, Unavailable, UsageError
from tchat.exits import TEMPORARY
from tchat.net.address import Address, split_address
from tchat.signals import ending_signals
from tchat.streams import complain
from tchat.ui.plain.typed import TypedLines

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tchat.api.client import Client
    from tchat.api.groups import Group
    from tchat.client.session import Session

PATIENCE = 60.0
"""Seconds without a connection or an answer after which a command gives up.

`--patience` changes it.
"""

LEAST_PATIENCE = 10.0
"""The fewest seconds that a server has for an answer: it may be slow."""

_LAST_PORT = 65535
_LOOK_SECONDS = 1.0  # until the next look at whether the server has answered


def resolve(given: argparse.Namespace) -> None:
    """Complete server, group and user from the configuration file, and check their names.

    A port is the first of the words, unless the server has one or is a nickname. The username is
    asked for on a terminal. Raises `UsageError`, `Refused` (bad_name) or `StartupError`.
    """
    settings = load_config(config_file())
    server = settings.servers.get(given.server) or server_of(given)
    given.host, given.port = server.host, server.port
    given.pin = given.pin or server.pin
    given.no_tls = given.no_tls or server.no_tls
    groups = (given.group, *server.groups, settings.group)
    group = next(filter(None, groups), None)
    if group is None:
        raise UsageError(Code.MISSING_ARGUMENT, "The group is missing: add --group NAME.")
    given.group = group
    check_name(group.removeprefix("@"), "group name")
    user = given.user or server.user or settings.user
    last = read_last_names(last_names_file(), Address(given.host, given.port))
    given.user = ask_name(user, "username", "--user", TypedLines(), last.user)
    if given.user is None:
        raise UsageError(Code.MISSING_ARGUMENT, "The username is missing: add --user NAME.")


def server_of(given: argparse.Namespace) -> Server:
    """Return the server of the command line: HOST:PORT, HOST and the first word, or a nickname.

    Raises `UsageError`, or `StartupError` if it is a nickname, and the file is not valid.
    """
    host, port = split_address(given.server)
    if port is None and given.words and given.words[0].isascii() and given.words[0].isdigit():
        port = int(given.words.pop(0)[:6])
    if port is None:
        found = load_config(config_file()).servers.get(given.server)
        if found is not None:
            return found
        raise UsageError(
            Code.MISSING_ARGUMENT,
            f"Port missing: {given.server}:PORT ({given.server} is not a server in"
            f" {config_file()}).",
        )
    if port > _LAST_PORT:
        raise UsageError(Code.MISSING_ARGUMENT, f"{port} is not a port number from 0 to 65535.")
    return Server(host, port)


def run_in_group(
    given: argparse.Namespace,
    work: Callable[[Client, Group], Awaitable[int]],
    patience: float = PATIENCE,
) -> int:
    """Connect, open the group, and return the status of `work`; see `resolve` for the options.

    Notices go to standard error: if that is a terminal, all; otherwise those that matter. For
    `patience`, see `patient_session`.
    """
    logging.raiseExceptions = False  # a full or closed stderr does not stop the work
    level = logging.INFO if sys.stderr.isatty() else logging.WARNING
    logging.basicConfig(level=level, format="tchat: %(message)s")

    async def run() -> int:
        session = patient_session(given, patience, recent=0, unread=False)
        async with client_on(session, invite_token(given)) as client:
            return await work(client, await _open(client, given))
        raise AssertionError("unreachable")

    return status_with_unsent(given, trio.run(partial(run_interruptible, run)))


@asynccontextmanager
async def patient_session(
    given: argparse.Namespace,
    patience: float = PATIENCE,
    recent: int | None = None,
    *,
    unread: bool = True,
) -> AsyncIterator[Session]:
    """Run a session while the block runs; see `session_for`.

    At its end, what earlier runs have left is sent, and what still waits is told. Raises
    `Unavailable` once there was no connection, or no answer on one, for `--patience`, or `patience`
    seconds.
    """
    seconds = patience if given.patience is None else given.patience
    given.unsent = False
    async with (
        session_for(given, given.user, recent, unread=unread) as session,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_give_up, session, seconds)
        if seconds < math.inf:
            nursery.start_soon(_give_up_waiting, session, max(seconds, LEAST_PATIENCE))
        try:
            yield session
            await session.wait_until_sent()
        finally:
            given.unsent = bool(session.waiting())
            if unsent := session.unsent():
                complain(f"tchat: {unsent}")
        nursery.cancel_scope.cancel()


def status_with_unsent(given: argparse.Namespace, status: int) -> int:
    """Return the exit status after `patient_session`: 75 if messages still wait to be sent."""
    return status or (TEMPORARY if given.unsent else 0)


async def _give_up(session: Session, seconds: float) -> None:
    """Raise `Unavailable` once there was no connection for some seconds."""
    while True:
        with trio.move_on_after(seconds) as scope:
            await session.wait_for_connection()
        if scope.cancelled_caught:
            raise Unavailable(
                Code.CANNOT_START,
                f"There was no connection to {session.connector.address} for {seconds:g} s.",
            )
        await session.wait_for_connection(present=False)


async def _give_up_waiting(session: Session, seconds: float) -> None:
    """Raise `Unavailable` once the server has not answered for some seconds.

    It may be stuck: then it still answers pings, and the connection lasts. Or it may accept one
    connection after another, and end each. Without a connection, it has twice as long: `_give_up`
    comes first if there was none all the time.
    """
    before, since = None, trio.current_time()
    while True:
        await trio.sleep(_LOOK_SECONDS)
        awaited = session.awaited
        if awaited is None or awaited != before:
            before, since = awaited, trio.current_time()
        elif trio.current_time() - since >= seconds * (1 if session.connected else 2):
            raise Unavailable(
                Code.CANNOT_START,
                f"{session.connector.address} did not answer for {seconds:g} s.",
            )


async def run_interruptible(run: Callable[[], Awaitable[int]], notice: str = "") -> int:
    """Return the status of `run`; on an ending signal, cancel it and return 128 plus its number.

    `notice` is printed to standard error if it was interrupted.
    """
    status = 0
    interrupted = False

    async def end_on_signal() -> None:
        nonlocal status, interrupted
        async for number in signals:
            status, interrupted = 128 + number, True
            nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(*ending_signals()) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_on_signal)
            status = await run()
            nursery.cancel_scope.cancel()
    if interrupted and notice:
        complain(notice)
    return status


async def _open(client: Client, given: argparse.Namespace) -> Group:
    if given.group.startswith("@"):
        return await client.talk_to(given.group[1:])
    try:
        return await (client.join if given.invite else client.open)(given.group)
    except Refused as refusal:
        if refusal.code == Code.NOT_MEMBER and not given.invite:
            hint = join_hint(Address(given.host, given.port), given.user, given.group)
            raise Refused(refusal.code, f"{refusal} {hint}") from refusal
        raise

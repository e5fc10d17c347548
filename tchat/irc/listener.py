"""Listen on loopback for IRC clients, and serve each of them with a session."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from tchat.api.groups import Connected
from tchat.errors import Code, Refused, UsageError
from tchat.irc.commands import handle, welcome
from tchat.irc.connection import CLOSING_SECONDS, open_connection
from tchat.irc.registration import register
from tchat.irc.session import REPLAY, Door, Session
from tchat.net.address import Address, is_local, split_address
from tchat.net.tcp import accept_connections

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.api.client import Client
    from tchat.irc.connection import Connection

logger = logging.getLogger("tchat")

MOST_CLIENTS = 16
"""The most registered IRC clients at a time."""

MOST_STRANGERS = 32
"""The most connections that have not registered: one more ends the oldest of them.

Any user of the machine can connect, but must not keep out the owner, who registers at once.
"""

DEFAULT_PORT = 6667
_PORTS = 65536


def loopback_address(text: str) -> Address:
    """Return an address to listen on. Raises `UsageError` unless it is of this machine only."""
    host, port = split_address(text)
    if not is_local(host):
        raise UsageError(
            Code.CANNOT_START,
            f"{host} is not a loopback address. IRC is not encrypted here, so only clients on this"
            " machine may connect: --listen 127.0.0.1:6667",
        )
    if port is not None and port >= _PORTS:
        raise UsageError(Code.CANNOT_START, f"{port} is not a port number from 0 to 65535.")
    return Address(host, DEFAULT_PORT if port is None else port)


async def serve_irc(
    client: Client,
    listeners: list[trio.SocketListener],
    password: str,
    downloads: Path,
    replay: int = REPLAY,
) -> None:
    """Serve IRC clients until cancelled. See `Door` for `downloads` and `replay`."""
    async with trio.open_nursery() as nursery:
        door = Door(client, nursery, downloads, replay)
        nursery.start_soon(_follow_groups, client)
        serve = _Handler(door, password).serve
        await accept_connections(listeners, serve, nursery, _log_shortage)


def _log_shortage(error: OSError) -> None:
    logger.warning("IRC: no further connection can be accepted now: %s", error.strerror)


async def _follow_groups(client: Client) -> None:
    """Follow all groups of the user, also those that they join on another device meanwhile."""
    async with client.notices() as notices:
        await _open_groups(client)
        async for notice in notices:
            if isinstance(notice, Connected) and notice.again:
                await _open_groups(client)


async def _open_groups(client: Client) -> None:
    try:
        for name in await client.my_groups():
            with suppress(Refused):  # left meanwhile
                await client.open(name)
    except Refused as refusal:
        logger.warning("IRC: the list of groups is not available: %s", refusal)


class _Handler:
    """Serves the streams of a listener; a fault of one session does not end the others."""

    def __init__(self, door: Door, password: str) -> None:
        self._door = door
        self._password = password
        self._clients = 0
        self._strangers: dict[Connection, trio.CancelScope] = {}

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            async with open_connection(stream) as connection:
                try:
                    await self._serve(connection)
                finally:
                    if trio.current_effective_deadline() == -math.inf:  # we are cancelled
                        with trio.move_on_after(CLOSING_SECONDS, shield=True):
                            await connection.say_error("tchat irc is stopping.")
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client is gone
        except* Exception:
            logger.exception("IRC: a session failed")

    async def _serve(self, connection: Connection) -> None:
        if not await self._register(connection):
            return
        if self._clients >= MOST_CLIENTS:
            await connection.say_error("Too many IRC clients.")
            return
        self._clients += 1
        try:
            session = Session(self._door, connection)
            await welcome(session)
            await session.run(handle)
        finally:
            self._clients -= 1

    async def _register(self, connection: Connection) -> bool:
        if len(self._strangers) >= MOST_STRANGERS:
            oldest = next(iter(self._strangers))
            self._strangers.pop(oldest).cancel()
        with trio.CancelScope() as scope:
            self._strangers[connection] = scope
            try:
                return await register(connection, self._password)
            finally:
                self._strangers.pop(connection, None)
        await connection.say_error("Too many connections that have not registered.")
        return False

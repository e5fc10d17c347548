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
from tchat.irc.connection import Connection
from tchat.irc.registration import register
from tchat.irc.session import Door, Session
from tchat.net.address import Address, is_local, split_address
from tchat.net.tcp import listen, port_of

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.api.client import Client

logger = logging.getLogger("tchat")

MOST_CLIENTS = 16
"""The most IRC clients at a time, with those that have not registered."""

DEFAULT_PORT = 6667
_PORTS = 65536
_GOODBYE_SECONDS = 1.0


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
    address: Address,
    password: str,
    server: str,
    downloads: Path,
    *,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve IRC clients until cancelled; the address is told when the port is open.

    Raises `StartupError`. See `Door` for `server` and `downloads`.
    """
    listeners = await listen(address)
    async with trio.open_nursery() as nursery:
        door = Door(client, nursery, server, downloads)
        nursery.start_soon(_follow_groups, client)
        handler = _Handler(door, password)
        await nursery.start(trio.serve_listeners, handler.serve, listeners)
        task_status.started(Address(address.host, port_of(listeners[0])))


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

    async def serve(self, stream: trio.SocketStream) -> None:
        self._clients += 1
        try:
            async with stream:
                connection = Connection(stream)
                try:
                    await self._serve(connection)
                finally:
                    if trio.current_effective_deadline() == -math.inf:  # we are cancelled
                        with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
                            await connection.say_error("tchat irc is stopping.")
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client is gone
        except* Exception:
            logger.exception("IRC: a session failed")
        finally:
            self._clients -= 1

    async def _serve(self, connection: Connection) -> None:
        if self._clients > MOST_CLIENTS:
            await connection.say_error("Too many IRC clients.")
        elif await register(connection, self._password):
            session = Session(self._door, connection)
            await welcome(session)
            await session.run(handle)

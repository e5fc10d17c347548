"""The options by which every client program, bots included, is told its server and its person."""

from __future__ import annotations

import argparse
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from tchat.client.authenticate import Account
from tchat.client.client_id import acquire_client_id
from tchat.client.config.paths import identity_file, known_servers_file, state_directory
from tchat.client.config.settings import config_file
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.session import open_session
from tchat.core.fingerprints import read_invite, read_pin
from tchat.errors import Code, StartupError
from tchat.net.address import Address, is_local
from tchat.net.identity import load_identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tchat.client.config.settings import Settings
    from tchat.client.session import Session

T = TypeVar("T")


def add_address(parser: argparse.ArgumentParser, host: str, port: str) -> None:
    """Let a program be told a host and a port."""
    parser.add_argument("host", metavar="HOST", help=host)
    parser.add_argument("port", metavar="PORT", type=_port, help=port)


def add_server_options(parser: argparse.ArgumentParser, *, nicknames: bool = False) -> None:
    """Let a program be told its server, and how to trust it.

    With `nicknames`, a word without a port may be one of a configuration file's servers: `settle`
    finds out which.
    """
    if nicknames:
        parser.add_argument(
            "host", metavar="HOST", help="the server's name or address, or nickname"
        )
        parser.add_argument("port", metavar="PORT", type=_port, nargs="?", help="its TCP port")
    else:
        add_address(parser, "the server's name or address", "its TCP port")
    parser.add_argument(
        "--pin",
        type=_argument(read_pin),
        metavar="PIN",
        help="what the server's key has to be: sha256:...",
    )
    parser.add_argument(
        "--invite",
        type=_argument(read_invite),
        metavar="INVITE",
        help="what /invite printed; lets you in at once",
    )
    parser.add_argument(
        "--link", metavar="CODE", help="what /link printed on another device of yours"
    )
    parser.add_argument(
        "--no-tls", action="store_true", help="for a server on this machine started with --no-tls"
    )
    parser.add_argument("--insecure", action="store_true", help="--no-tls for any server")


def settle(given: argparse.Namespace, config: Settings) -> tuple[str, ...]:
    """Complete what was given on the command line by what the configuration says of the server.

    Returns the groups that it names. Raises `StartupError` for a nickname that is none.
    """
    if given.port is not None:
        given.user = given.user or config.user
        return (config.group,) if config.group else ()
    server = config.servers.get(given.host)
    if server is None:
        raise StartupError(
            Code.CANNOT_START,
            f"{given.host} is no server of {config_file()}; otherwise a port has to follow it.",
        )
    given.host, given.port = server.host, server.port
    given.user = given.user or server.user or config.user
    given.pin = given.pin or server.pin
    given.no_tls = given.no_tls or server.no_tls
    return server.groups or ((config.group,) if config.group else ())


@asynccontextmanager
async def session_for(
    given: argparse.Namespace, user: str, recent: int | None = None
) -> AsyncIterator[Session]:
    """Run a session of `user` for the length of the block, as the options say.

    With `recent`, groups come with so many of their latest events, see `open_session`. Raises
    `Refused` (bad_name) or `StartupError`.
    """
    address = Address(given.host, given.port)
    if given.no_tls and not given.insecure and not is_local(given.host):
        raise StartupError(
            Code.CANNOT_START,
            f"Without TLS everybody on the way to {given.host} could read and change what is said."
            " If that is what you want, add --insecure.",
        )
    pin = _pin_meant(given)
    connector = Connector(address, KnownServers(known_servers_file()), pin, plain=given.no_tls)
    with acquire_client_id(state_directory(), user, connector.names()) as client_id:
        identity = load_identity(identity_file())
        account = Account(user, identity, client_id, given.link)
        async with open_session(connector, account, recent) as session:
            yield session


def _pin_meant(given: argparse.Namespace) -> bytes | None:
    """Return the pin that the options name. Raises `StartupError` if they contradict each other."""
    invited = given.invite[1] if given.invite else b""
    pins = {pin for pin in (given.pin, invited) if pin}
    if len(pins) > 1:
        raise StartupError(Code.CANNOT_START, "The pin and the invite are of different servers.")
    if pins and given.no_tls:
        raise StartupError(
            Code.CANNOT_START, "A server has no key to show with --no-tls, and a pin was given."
        )
    return next(iter(pins), None)


def invite_token(given: argparse.Namespace) -> bytes | None:
    """Return the token of the invite, if one was given."""
    token: bytes | None = given.invite[0] if given.invite else None
    return token


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 0 to 65535")
    return port


def _argument(read: Callable[[str], T]) -> Callable[[str], T]:
    """Return `read` so that what it says of a wrong text is said on the command line."""

    def argument(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return argument

"""Open a session as this person, with the identity and the client ids in their directory."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from tchat.client.adoption import send_left_messages
from tchat.client.authenticate import Account, Busy
from tchat.client.client_id import acquire_client_id
from tchat.client.config.paths import identity_file, known_servers_file, state_directory
from tchat.client.config.settings import Server, config_file, load_config
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.server_directory import read_records
from tchat.client.server_keys import ServerKeys
from tchat.client.session import CONNECT_ERRORS, CONNECT_SECONDS, open_session, unavailable
from tchat.errors import Code, StartupError, UsageError
from tchat.net.address import Address, is_local, split_address
from tchat.net.identity import load_identity
from tchat.net.tcp import explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.client.session import Session
    from tchat.net.identity import Identity


def find_server(text: str, home: Path | None = None) -> Server:
    """Return the server with this address (HOST:PORT) or nickname in the settings file.

    Its `user` and `groups` are completed from the file. Raises `UsageError` if it is neither, and
    `StartupError` if the file is not valid.
    """
    path = config_file(home)
    settings = load_config(path)
    host, port = split_address(text)
    if port is not None:
        return settings.complete(Server(host, port))
    if text in settings.servers:
        return settings.complete(settings.servers[text])
    raise UsageError(
        Code.MISSING_ARGUMENT,
        f"{text} is neither HOST:PORT nor the nickname of a server in {path}.",
    )


def expected_pin(pin: bytes | None, invited: bytes | None, *, no_tls: bool) -> bytes | None:
    """Return the pin that was given, alone or in an invite.

    Raises `StartupError` if the two are of different servers, or cannot be checked without TLS.
    """
    pins = {one for one in (pin, invited) if one}
    if len(pins) > 1:
        raise StartupError(Code.CANNOT_START, "The pin and the invite are of different servers.")
    if pins and no_tls:
        raise StartupError(
            Code.CANNOT_START, "A pin cannot be checked without TLS: leave out the pin, or use TLS."
        )
    return next(iter(pins), None)


async def try_server(server: Server, *, insecure: bool = False, home: Path | None = None) -> str:
    """Connect to a server without logging in. Raises `StartupError` or `Refused` if that fails.

    So a person learns of a wrong address before they have typed anything else. A server that this
    client knows may be unavailable: then this returns a sentence that says so, and "" otherwise.
    """
    connector = _connector_for(server, insecure=insecure, home=home)
    try:
        with trio.fail_after(CONNECT_SECONDS):
            link = await connector.open()
    except Busy:
        return ""  # the address is right
    except CONNECT_ERRORS as error:
        failure = unavailable(connector.address, explain(error))
        if connector.is_known:
            return failure.sentence
        raise failure from error
    await link.abort()
    return ""


def _connector_for(server: Server, *, insecure: bool, home: Path | None) -> Connector:
    """Return a connector. Raises `StartupError` if TLS is off for a server on another machine."""
    if server.no_tls and not insecure and not is_local(server.host):
        raise StartupError(
            Code.CANNOT_START,
            f"Without TLS, anybody between you and {server.host} could read and change your"
            " messages. If that is what you want, add --insecure.",
        )
    known = KnownServers(known_servers_file(home))
    return Connector(Address(server.host, server.port), known, server.pin, plain=server.no_tls)


def _identity_of(state: Path, path: Path) -> Identity:
    """Load the identity; create it if none was used before. Raises `StartupError`."""
    if not path.exists() and read_records(state):
        raise StartupError(
            Code.CANNOT_START,
            f"The identity {path} is missing, but servers were used with it before. Restore it from"
            f" a backup; or, to begin with a new one, which has none of your names, run: mv {state}"
            f" {state}.old",
        )
    return load_identity(path)


@asynccontextmanager
async def open_user_session(
    server: Server,
    user: str,
    *,
    link: str | None = None,
    insecure: bool = False,
    home: Path | None = None,
    recent: int | None = None,
    unread: bool = True,
    persistent: bool = False,
) -> AsyncIterator[Session]:
    """Run a session of `user` with a server while the block runs.

    `link` is a code from /link. With `insecure`, TLS may be off for a server on another machine.
    For `home`, see `paths`; for `recent` and `unread`, `open_session`. If `persistent`, a server
    that this client knows may be unavailable at first. Raises `Refused` (bad_name) or
    `StartupError`.
    """
    connector = _connector_for(server, insecure=insecure, home=home)
    state = state_directory(home)
    async with connector.identified(CONNECT_SECONDS):
        with acquire_client_id(state, user, connector.names()) as client_id:
            identity = _identity_of(state, identity_file(home))
            account = Account(user, identity, client_id, link, ServerKeys(identity, state))
            waits = persistent and connector.is_known
            opening = open_session(connector, account, recent, unread=unread, persistent=waits)
            async with opening as session, trio.open_nursery() as nursery:
                nursery.start_soon(send_left_messages, session, account, state)
                yield session
                nursery.cancel_scope.cancel()

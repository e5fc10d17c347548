"""For tests of bots: a real server on this machine, and people who talk to the bot.

    async def test_echo() -> None:
        async with tchat.testing.open_server() as server:
            async with server.connect("alice") as alice, server.connect("echo") as bot:
                ...

The server has TLS, a log on disk and no rate limits; all of it is deleted at the end of the block.
"""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tchat.api.bare import raising_bare
from tchat.api.client import Client, connect
from tchat.core.fingerprints import pin_text
from tchat.net.address import Address
from tchat.net.tls import make_credentials
from tchat.server.app import ServerConfig, serve
from tchat.server.limits import Limits
from tchat.server.log import Log
from tchat.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager


@dataclass(frozen=True, slots=True)
class TestServer:
    """A running server: `address` is HOST:PORT, `pin` what its key has to match.

    `directory` holds its data, and a home for each user of `connect`.
    """

    __test__ = False  # for pytest: no test class

    address: str
    pin: str
    directory: Path

    @asynccontextmanager
    async def connect(self, user: str) -> AsyncIterator[Client]:
        """Be connected as `user` while the block runs; see `tchat.connect`.

        A user keeps their identity from one call to the next.
        """
        home = self.home(user)
        async with connect(self.address, user=user, home=home, pin=self.pin) as client:
            yield client

    def home(self, user: str) -> Path:
        """Return the directory of a user's identity, for the `TCHAT_HOME` of a program."""
        return self.directory / "homes" / user


def open_server(directory: Path | None = None) -> AbstractAsyncContextManager[TestServer]:
    """Run a server on a free port of 127.0.0.1 while the block runs.

    Its data are in `directory`, or in a temporary one, which is deleted. What the block raises,
    such as a failed assertion, is in no `ExceptionGroup`.
    """
    return raising_bare(_open_server(directory))


@asynccontextmanager
async def _open_server(directory: Path | None) -> AsyncIterator[TestServer]:
    with tempfile.TemporaryDirectory(prefix="tchat-") as temporary:
        place = directory or Path(temporary)
        log, stop = Log(stream=StringIO()), trio.Event()
        async with open_store(place / "server") as store, trio.open_nursery() as nursery:
            credentials = make_credentials(place / "server")
            address = Address("127.0.0.1", 0)
            config = ServerConfig(address, place / "server", Limits().without_rates())
            port: int = await nursery.start(serve, config, credentials, store, log, stop)
            yield TestServer(str(Address("127.0.0.1", port)), pin_text(credentials.pin), place)
            stop.set()
        log.close()

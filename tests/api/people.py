"""People in a group, as clients of the public API: the vocabulary of its tests."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import trio

import tchat
from tests.fault_proxy import fault_proxy
from tests.helpers import GROUP, GUARD, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tchat.net.address import Address
    from tchat.testing import TestServer
    from tests.fault_proxy import FaultProxy

E = TypeVar("E", bound=tchat.Event)


@asynccontextmanager
async def group_of(
    server: TestServer, *names: str, group: str = GROUP
) -> AsyncIterator[list[tchat.Group]]:
    """Connect these people, and give each one's view of an open group that the first founds."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.connect(name)) for name in names]
        founder, *others = clients
        views = [await founder.join(group, create=True)]
        await views[0].set_policy("open")
        views += [await client.join(group) for client in others]
        yield views


async def next_of(events: tchat.Events, kind: type[E]) -> E:
    """Return the next event of a class; skip others."""
    with trio.fail_after(GUARD):
        while True:
            event = await events.receive()
            if isinstance(event, kind):
                return event


async def texts(events: tchat.Events, number: int) -> list[str]:
    """Return the texts of the next messages."""
    return [(await next_of(events, tchat.Message)).text for _ in range(number)]


def connected(
    address: Address, homes: Path, user: str
) -> AbstractAsyncContextManager[tchat.Client]:
    """Connect a user to a server without TLS, such as one behind a proxy."""
    return tchat.connect(str(address), user=user, home=homes / user, tls=False)


@asynccontextmanager
async def behind_proxy(homes: Path, user: str) -> AsyncIterator[tuple[FaultProxy, tchat.Client]]:
    """Connect a user to a new server through a proxy that can cut connections."""
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        connected(proxy.address, homes, user) as client,
    ):
        yield proxy, client

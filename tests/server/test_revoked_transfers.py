"""Tickets and running transfers end with the key, and with the membership, in every way."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tchat.core.fingerprints import fingerprint
from tchat.core.group.membership import Ban, Kick, Leave
from tchat.core.protocol.frames import Unlink
from tchat.core.protocol.handshake import VERSION, TransferHello
from tchat.errors import Code
from tchat.server.control import perform
from tchat.store.open import open_store
from tests.helpers import GROUP, identity_of, members, raw_client, running_server
from tests.server.devices import device_of, link_code
from tests.server.file_transfers import (
    DATA,
    TransferConnection,
    refusal_code,
    share,
    ticket_to_fetch,
    ticket_to_send,
    transfer,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.helpers import RawClient, RunningServer


class Scene(NamedTuple):
    """Alice is the admin; bob has two devices, and transfers files with the second one."""

    data: Path
    server: RunningServer
    alice: RawClient
    bob: RawClient


async def everybody_leaves(scene: Scene) -> None:
    """Close the group."""
    await scene.alice.command(Leave)
    await scene.bob.command(Leave)


async def take_name_back(scene: Scene) -> None:
    """Use the code with which the operator gives a name to a new device."""
    code = (await perform(scene.data, "link", name="bob"))["code"]
    async with device_of(scene.server, "bob", "new", str(code)):
        pass


PHONE = identity_of("bob", "phone").public

WAYS: dict[str, Callable[[Scene], Awaitable[object]]] = {
    "kicked": lambda scene: scene.alice.command(Kick, "bob"),
    "banned from the group": lambda scene: scene.alice.command(Ban, "bob"),
    "left": lambda scene: scene.bob.command(Leave),
    "all left": everybody_leaves,
    "group removed": lambda scene: perform(scene.data, "remove-group", group=GROUP),
    "key unlinked": lambda scene: scene.bob.ask(lambda i: Unlink(i, PHONE)),
    "name banned": lambda scene: perform(scene.data, "ban", kind="name", value="bob"),
    "key banned": lambda scene: perform(scene.data, "ban", kind="key", value=fingerprint(PHONE)),
    "name taken back": take_name_back,
    "erased": lambda scene: perform(scene.data, "erase", name="bob"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_tickets_and_transfers_end(tmp_path: Path, way: str) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store, data=tmp_path) as server,
        members(server, "alice", "bob") as (alice, bob),
        device_of(server, "bob", "phone", await link_code(bob)) as phone,
        AsyncExitStack() as stack,
    ):
        await share(server, alice, DATA)
        running = [
            await stack.enter_async_context(transfer(server, ticket, len(data)))
            for ticket, data in (
                (await ticket_to_send(phone, DATA[1:]), DATA[1:]),
                (await ticket_to_fetch(phone, 1), DATA),
            )
        ]
        tickets = [await ticket_to_send(phone, DATA[2:]), await ticket_to_fetch(phone, 1)]
        await WAYS[way](Scene(tmp_path, server, alice, bob))
        for connection in running:
            await connection.rest()  # up to the end: nothing more is transferred
        assert [await use(server, ticket) for ticket in tickets] == [Code.BAD_TICKET] * 2


async def use(server: RunningServer, ticket: bytes) -> str:
    async with raw_client(server.address) as raw:
        connection = TransferConnection(raw.stream)
        await connection.send(TransferHello(VERSION, ticket))
        (refusal,) = await connection.until_end()
        return refusal_code(refusal)

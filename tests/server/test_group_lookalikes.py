"""Founding a group whose name looks like that of another one, or like the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.membership import Join, Leave
from tchat.core.protocol.frames import Failed, Ok
from tchat.errors import Code
from tests.helpers import raw_client, running_server

if TYPE_CHECKING:
    from tests.helpers import RawClient

CYRILLIC = "g\u0435neral"


async def join(client: RawClient, name: str, *, create: bool = True) -> Ok | str:
    answer = await client.ask(lambda i: Join(i, 100 + i, name, create=create))
    if isinstance(answer, Failed):
        return answer.code
    assert isinstance(answer, Ok)
    return answer


async def test_group_like_another_is_refused() -> None:
    async with (
        running_server() as server,
        raw_client(server.address, "alice") as alice,
        raw_client(server.address, "mallory") as mallory,
    ):
        await alice.command(Join, group="general")
        answer = await mallory.ask(lambda i: Join(i, 10, CYRILLIC))
        assert isinstance(answer, Failed)
        assert answer.code == Code.LOOKALIKE
        assert f"The name {CYRILLIC} looks like that of another group" in answer.text
        assert await server.store.groups_of("mallory") == {}
        assert await join(mallory, CYRILLIC, create=False) == Code.NO_SUCH_GROUP
        await mallory.command(Join, group="general")  # asks to join, as before
        await alice.command(Leave, group="general")
        await mallory.command(Join, group=CYRILLIC)


async def test_one_of_two_at_once_is_founded() -> None:
    results: list[Ok | str] = []

    async def found(client: RawClient, name: str) -> None:
        results.append(await join(client, name))

    async with (
        running_server() as server,
        raw_client(server.address, "alice") as alice,
        raw_client(server.address, "bob") as bob,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(found, alice, "general")
        nursery.start_soon(found, bob, CYRILLIC)
    assert results.count(Code.LOOKALIKE) == 1


@pytest.mark.parametrize("name", ["server", "TCHAT", "\u0430dmin"])
async def test_new_groups_cannot_have_reserved_names(name: str) -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        assert await join(alice, name) == Code.LOOKALIKE
        for ordinary in ("everyone", "all", "admins", "server-room"):
            assert isinstance(await join(alice, ordinary), Ok)

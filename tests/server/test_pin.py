"""Pin: it survives restarts, is in the snapshot of new members, and is logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.membership import Approve, Join
from tchat.core.group.messages import Delete, Pin, Unpin
from tchat.core.protocol.frames import MembershipChange
from tests.helpers import members, raw_client, running_server
from tests.processes import launching
from tests.server.requests import attach_recent, state

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers import RawClient


async def pinned_for(client: RawClient) -> int | None:
    """Attach as a newcomer; return `pinned` of the snapshot."""
    await attach_recent(client, 1)
    return (await state(client)).pinned


async def test_server_logs_pins() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        message = await bob.post("read this")
        await alice.command(Pin, message)
        assert await server.logged(f"alice pinned message {message} of ops")
        await alice.command(Unpin)
        assert await server.logged("alice unpinned the pinned message of ops")


async def test_pin_survives_a_crash(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        async with raw_client(server.address, "alice", tls=launch.tls) as alice:
            await alice.command(Join)
            message = await alice.post("read this")
            await alice.command(Pin, message)
            await server.kill()
        server = await launch.serve()
        async with raw_client(server.address, "alice", tls=launch.tls) as alice:
            assert await pinned_for(alice) == message
            await alice.command(Delete, message)
            await server.kill()
        server = await launch.serve()
        async with raw_client(server.address, "alice", tls=launch.tls) as alice:
            assert await pinned_for(alice) is None
        assert await server.stop() == 0


async def test_new_member_gets_the_pin() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        message = await alice.post("read this")
        await alice.command(Pin, message)
        async with raw_client(server.address, "carol") as carol:
            await carol.command(Join)
            await alice.command(Approve, "carol")
            await carol.expect(MembershipChange)
            assert await pinned_for(carol) == message

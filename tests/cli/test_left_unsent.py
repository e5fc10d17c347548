"""What earlier runs have left unsent: sent by the next command, or told with a count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.client.client_id import acquire_client_id
from tchat.exits import TEMPORARY
from tests.client.unsent import left_in
from tests.helpers import GROUP
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import Launcher, Server


def leave(state: Path, server: object, *messages: str, user: str = "alice") -> None:
    """Leave messages in an outbox, as a program does that is killed."""
    with acquire_client_id(state, user, [f"{server} without TLS"]) as client_id:
        for text in messages:
            place = user, f"{server} without TLS", GROUP
            client_id.journal.add(*place, text, None, 1, floor=client_id.upcoming)


async def founded(launch: Launcher) -> Server:
    """Start a server with a group of alice."""
    server = await launch.serve()
    alice = await launch.join(server.address, "alice")
    await alice.sees("alice created ops")
    assert await alice.end() == 0
    return server


async def say(
    launch: Launcher, server: Server, text: str, host: str = "127.0.0.1"
) -> tuple[int, list[str]]:
    """Say something; return the exit status and the lines of standard error."""
    where = host, server.address.port, "--no-tls", "--user", "alice", "--group", GROUP
    process = await launch.tchat("say", *where, text, user="alice")
    return await process.exit(), process.err.all


async def test_say_sends_what_was_left(tmp_path: Path) -> None:
    async with launching(tmp_path) as launch:
        server = await founded(launch)
        leave(tmp_path / "alice", server.address, "one", "two")
        status, told = await say(launch, server, "three")
        assert (status, told) == (0, [])
        assert not left_in(tmp_path / "alice", server.address)


async def test_refused_messages_are_told_by_every_command(tmp_path: Path) -> None:
    """They stay until the person decides."""
    state = tmp_path / "alice"
    async with launching(tmp_path) as launch:
        server = await founded(launch)
        with acquire_client_id(state, "alice", [f"{server.address} without TLS"]) as client_id:
            place = "alice", f"{server.address} without TLS", "lab"
            client_id.journal.add(*place, "nobody is there", None, 1)
        for _ in range(2):
            status, told = await say(launch, server, "one")
            assert status == 0
            (line,) = told
            assert "1 message to #lab" in line
            assert "Refused" in line


async def test_messages_under_another_address_are_told(tmp_path: Path) -> None:
    """Without TLS, nobody knows that it is the same server."""
    state = tmp_path / "alice"
    async with launching(tmp_path) as launch:
        server = await founded(launch)
        leave(state, server.address, "one", "two")
        leave(state, server.address, "three", user="bob")
        status, told = await say(launch, server, "four", host="localhost")
        assert status == 0
        mine = f"2 messages of alice to {server.address}"
        assert any(mine in line for line in told)
        assert any("A message of bob" in line for line in told)
        assert left_in(state, server.address) == ["one", "two"]
        reader = await launch.join(server.address, "alice", "--history", 9)
        await reader.sees("A message of bob", "<alice> four", "<alice> one", "<alice> two")
        assert await reader.end() == 0
        assert not left_in(state, server.address)


async def test_held_messages_are_counted_at_the_end(tmp_path: Path) -> None:
    """A command for scripts does not enter other groups."""
    state = tmp_path / "alice"
    async with launching(tmp_path) as launch:
        server = await founded(launch)
        with acquire_client_id(state, "alice", [f"{server.address} without TLS"]) as client_id:
            place = "alice", f"{server.address} without TLS", "lab"
            client_id.journal.add(*place, "later", None, 1, held=True)
        status, told = await say(launch, server, "one")
        assert status == TEMPORARY
        assert "Not sent yet, but kept and sent the next time: 1 message to #lab" in str(told)
        assert left_in(state, server.address) == ["later"]

"""Run an example as a process against a real server, and talk to it."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import tchat
import tchat.testing
from tests.helpers import GUARD

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator

    from tchat.testing import TestServer

EXAMPLES = Path(__file__).parents[2] / "examples"
GROUP = "ops"


@asynccontextmanager
async def admin_of_open_group() -> AsyncIterator[tuple[TestServer, tchat.Group, tchat.Client]]:
    """Run a server with the open group `GROUP`, and a client of its admin alice."""
    with trio.fail_after(GUARD):
        async with tchat.testing.open_server() as server, server.connect("alice") as alice:
            group = await alice.join(GROUP, create=True)
            await group.set_policy("open")
            yield server, group, alice


def command(server: TestServer, name: str, *options: str) -> list[str]:
    """Return the command line of an example in `GROUP`."""
    place = [server.address, "--pin", server.pin, "--group", GROUP]
    return [sys.executable, str(EXAMPLES / f"{name}.py"), *place, *options]


def environment(server: TestServer, name: str, **more: str) -> dict[str, str]:
    """Return the environment of an example: its user's own home."""
    return {**os.environ, "TCHAT_HOME": str(server.home(name)), **more}


@asynccontextmanager
async def running(
    server: TestServer, name: str, *options: str, cwd: Path, **variables: str
) -> AsyncIterator[trio.Process]:
    """Run an example until the end of the block, where it is killed with -9."""
    process = await trio.lowlevel.open_process(
        command(server, name, *options), cwd=cwd, env=environment(server, name, **variables)
    )
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def output_of(
    server: TestServer, name: str, given: bytes, *, cwd: Path, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run an example to its end with this standard input."""
    return await trio.run_process(
        command(server, name),
        stdin=given,
        capture_stderr=True,
        check=False,
        cwd=cwd,
        env=environment(server, name, **variables),
    )


async def said_by(events: tchat.Events, who: str) -> tchat.Message:
    """Return the next message of a person."""
    async for event in events:
        if isinstance(event, tchat.Message) and event.who == who:
            return event
    raise AssertionError


async def joined(events: tchat.Events, who: str) -> None:
    """Wait until a person is a member."""
    async for event in events:
        if isinstance(event, tchat.Joined) and event.name == who:
            return

"""Run commands of tchat as processes, in a group whose admin is a client of the test."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import trio

import tchat
import tchat.testing
from tests.helpers import GUARD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.testing import TestServer

GROUP = "ops"


class Outcome(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A server, alice, who is the admin of `GROUP`, and the home directory of ci, a member."""

    server: TestServer
    alice: tchat.Client
    group: tchat.Group

    @property
    def home(self) -> Path:
        return self.server.home("ci")

    @property
    def place(self) -> list[str]:
        """Return the arguments that select the server, the user ci, and the group."""
        return [self.server.address, "--user", "ci", "--group", GROUP]

    async def run(self, verb: str, *words: object, given: bytes = b"", status: int = 0) -> Outcome:
        """Run a command as ci in the group with this input, and check its exit status."""
        return await self._ends(self.command(verb, *words), given, status)

    async def run_bare(self, *words: object, status: int = 0) -> Outcome:
        """Run a command as ci, without the arguments that select server, user and group."""
        return await self._ends([sys.executable, "-m", "tchat", *map(str, words)], b"", status)

    async def shell(self, verb: str, *words: object, end: str) -> Outcome:
        """Run a command as ci in the group, with `end` behind it in the shell's language."""
        line = f"{shlex.join(self.command(verb, *words))} {end}"
        return await self._ends(["bash", "-o", "pipefail", "-c", line], b"", None)

    async def _ends(self, command: list[str], given: bytes, status: int | None) -> Outcome:
        done = await trio.run_process(
            command,
            stdin=given,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=self.environment,
        )
        outcome = Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in outcome.err, outcome.err
        assert status in (None, outcome.status), outcome
        return outcome

    def command(self, verb: str, *words: object, server: str | None = None) -> list[str]:
        """Return the command line of a command as ci, in the group, on this server."""
        place = [server or self.server.address, *self.place[1:]]
        return [sys.executable, "-m", "tchat", verb, *place, *map(str, words)]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "TCHAT_HOME": str(self.home), "PYTHONWARNINGS": "error"}

    @asynccontextmanager
    async def started(
        self, verb: str, *words: object, server: str | None = None
    ) -> AsyncIterator[trio.Process]:
        """Run a command as ci until the end of the block, where it is killed."""
        async with self.program(self.command(verb, *words, server=server)) as process:
            yield process

    @asynccontextmanager
    async def program(self, command: list[str]) -> AsyncIterator[trio.Process]:
        """Run a program as ci until the end of the block, where it is killed."""
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )
        try:
            yield process
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()

    async def said(self, number: int) -> list[str]:
        """Return the latest messages of the group."""
        events = await self.group.history(limit=10_000)
        return [event.text for event in events if isinstance(event, tchat.Message)][-number:]


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """Run a server with `GROUP`, its admin alice, and its member ci."""
    with trio.fail_after(GUARD):
        async with tchat.testing.open_server() as server, server.connect("alice") as alice:
            group = await alice.join(GROUP, create=True)
            await group.set_policy("open")
            async with server.connect("ci") as ci:
                await ci.join(GROUP)
            yield Scene(server, alice, group)


async def output_of(process: trio.Process) -> tuple[int, str, str]:
    """Return the status and what was printed, when the process has ended."""
    assert process.stdout is not None
    assert process.stderr is not None
    out = b"".join([bytes(data) async for data in process.stdout])
    err = b"".join([bytes(data) async for data in process.stderr])
    return await process.wait(), out.decode(), err.decode()


async def message_of(events: tchat.Events, who: str = "ci") -> tchat.Message:
    """Return the next message of a person."""
    async for event in events:
        if isinstance(event, tchat.Message) and event.who == who:
            return event
    raise AssertionError

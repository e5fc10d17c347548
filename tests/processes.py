"""Subprocess launcher: real servers, plain clients and scripts, driven over pipes."""

from __future__ import annotations

import codecs
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import trio
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tchat.net.address import Address
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.helpers import GROUP, GUARD, Lines, identity_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path


DRIVEN = ("--commands", "--create")
"""Options for a client that is driven through a pipe as by a person at a terminal."""

P = TypeVar("P", bound="Process")


@dataclass(slots=True)
class Process:
    """A running program and its output lines so far."""

    running: trio.Process
    out: Lines = field(default_factory=Lines)
    err: Lines = field(default_factory=Lines)

    async def type(self, *lines: str) -> None:
        """Write lines to the program's standard input."""
        assert self.running.stdin is not None
        await self.running.stdin.send_all("".join(f"{line}\n" for line in lines).encode())

    async def sees(self, *parts: str) -> None:
        """Wait for one further output line per part, containing it."""
        for text in parts:
            await self.out.containing(text)

    async def fails(self, status: int = 1) -> str:
        """Wait for this exit status with one error line and no output; return that line."""
        ended = await self.exit()
        seen = (ended, self.lines, len(self.err.all))
        assert seen == (status, [], 1), (seen, self.out, self.err)
        assert self.err.all[0].startswith("tchat: ")
        return self.err.all[0]

    @property
    def lines(self) -> list[str]:
        """Return the lines of standard output so far."""
        return self.out.all

    async def exit(self) -> int:
        """Wait for the program to end and its output to be read; return the exit status."""
        with trio.fail_after(GUARD):
            status = await self.running.wait()
            for lines in (self.out, self.err):
                await lines.ended()
        assert "Traceback" not in str(self.err), str(self.err)
        return status

    async def end(self) -> int:
        """Close the program's standard input; return its exit status."""
        assert self.running.stdin is not None
        await self.running.stdin.aclose()
        return await self.exit()


@dataclass(slots=True)
class Person(Process):
    """A client in plain mode; received files are saved in `downloads`."""

    downloads: Path = field(init=False)

    @property
    def heard(self) -> list[str]:
        """Return the messages without their times: "<alice> hello"."""
        return [line.partition(" ")[2] for line in self.lines if "] <" in line]


@dataclass(slots=True)
class Server(Process):
    """A server process."""

    address: Address = field(init=False)

    async def kill(self) -> None:
        """Kill the server with SIGKILL."""
        self.running.kill()
        await self.running.wait()

    async def stop(self) -> int:
        """Stop the server with SIGTERM; return its exit status."""
        self.running.terminate()
        return await self.exit()


class Launcher:
    """Starts programs on pipes; each person has a home directory of their own."""

    def __init__(self, nursery: trio.Nursery, home: Path, *, tls: bool) -> None:
        self.home = home
        self.tls = tls
        self.started: list[trio.Process] = []
        self._nursery = nursery

    async def tchat(self, *arguments: object, user: str = "nobody") -> Process:
        """Start `python -m tchat` with these arguments."""
        return await self._start(Process, user, "-m", "tchat", *arguments)

    async def script(self, path: Path, *arguments: object, user: str) -> Process:
        """Start a Python script."""
        return await self._start(Process, user, path, *arguments)

    async def program(self, *command: object, user: str) -> Process:
        """Start any program."""
        return await self._open(Process, user, command)

    async def serve(self, *options: object, port: int = 0, host: str = "127.0.0.1") -> Server:
        """Start a server, always on the same data directory, and wait until it listens.

        Without TLS unless the launcher was made with `tls`, so that a proxy can read the traffic.
        """
        where = (host, port, "--data", self.home / "data", "--rate-limit", "off")
        secrecy = () if self.tls else ("--no-tls",)
        server = await self._start(
            Server, "server", "-m", "tchat", "serve", *where, *secrecy, *options
        )
        line = await server.out.containing("listening on ")
        port_text = line.rpartition(":")[2].rstrip('"}')
        server.address = Address(host, int(port_text))
        return server

    async def join(
        self, address: Address, user: str, *options: object, group: str = GROUP, yes: bool = True
    ) -> Person:
        """Start a client in plain mode that takes commands and founds groups.

        With `yes`, it asks nothing before it destroys.
        """
        confirmed = ["--yes"] if yes else []
        return await self.pipe(address, user, *DRIVEN, *confirmed, *options, group=group)

    async def pipe(
        self, address: Address, user: str, *options: object, group: str = GROUP
    ) -> Person:
        """Start a client in plain mode as a pipe has it, without commands."""
        downloads = self.home / user / "received"
        where = [address.host, address.port, "--user", user, "--group", group]
        where += [] if self.tls else ["--no-tls", "--insecure"]
        person = await self._start(
            Person,
            user,
            "-m",
            "tchat",
            "join",
            *where,
            "--plain",
            "--downloads",
            downloads,
            *options,
        )
        person.downloads = downloads
        return person

    def install_identity(self, user: str) -> None:
        """Store the identity that `identity_of` gives this person in their home directory."""
        pem = identity_of(user)._private.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        path = self.home / user / "identity"
        path.parent.mkdir(parents=True)
        path.touch(mode=0o600)
        path.write_bytes(pem)

    def environment(self, user: str) -> dict[str, str]:
        """Return the environment variables of this person's programs."""
        return {**os.environ, "TCHAT_HOME": str(self.home / user), "PYTHONWARNINGS": "error"}

    async def _start(self, kind: type[P], user: str, *arguments: object) -> P:
        return await self._open(kind, user, [sys.executable, *arguments])

    async def _open(self, kind: type[P], user: str, command: Sequence[object]) -> P:
        running: trio.Process = await trio.lowlevel.open_process(
            [*map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(user),
        )
        self.started.append(running)
        process = kind(running)
        self._nursery.start_soon(_read, running.stdout, process.out)
        self._nursery.start_soon(_read, running.stderr, process.err)
        return process


async def _read(stream: trio.abc.ReceiveStream | None, lines: Lines) -> None:
    assert stream is not None
    decode_text = codecs.getincrementaldecoder("utf-8")().decode
    try:
        async for data in stream:
            lines.feed(decode_text(bytes(data)))
    except trio.ClosedResourceError:
        pass  # the test has closed the pipe
    lines.end()


@asynccontextmanager
async def launching(home: Path, *, tls: bool = False) -> AsyncIterator[Launcher]:
    """Give a launcher for the length of the block; kill what still runs at its end."""
    async with trio.open_nursery() as nursery:
        launcher = Launcher(nursery, home, tls=tls)
        try:
            yield launcher
        finally:
            for process in launcher.started:
                process.kill()
            with trio.CancelScope(shield=True):
                for process in launcher.started:
                    await process.wait()


@asynccontextmanager
async def proxied_server(home: Path) -> AsyncIterator[tuple[Launcher, Server, FaultProxy]]:
    """Start a server behind a proxy that validates every frame."""
    async with launching(home) as launch:
        server = await launch.serve()
        async with fault_proxy(server.address) as proxy:
            yield launch, server, proxy


@asynccontextmanager
async def two_people(home: Path) -> AsyncIterator[tuple[Person, Person]]:
    """Start clients of Alice, the admin, and Bob, a member, behind a validating proxy."""
    async with proxied_server(home) as (launch, _, proxy):
        alice = await launch.join(proxy.address, "alice")
        await alice.sees("alice created ops")
        bob = await launch.join(proxy.address, "bob")
        await alice.sees("bob asks to join")
        await alice.type("/2 bob")
        await alice.sees("bob joined")
        await bob.sees("in #ops with 1 other member")
        yield alice, bob


async def all_see(people: list[Person], *parts: str) -> None:
    """Wait until each of `people` has seen a line for each part."""
    for person in people:
        await person.sees(*parts)

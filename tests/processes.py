"""Real processes: servers, people and scripts, with pipes and homes of their own."""

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
from tests.helpers import GROUP, GUARD, Lines, identity_of
from tests.tap import Tap, tapped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


P = TypeVar("P", bound="Process")


@dataclass(slots=True)
class Process:
    """A program that runs, and its lines so far."""

    running: trio.Process
    out: Lines = field(default_factory=Lines)
    err: Lines = field(default_factory=Lines)

    async def type(self, *lines: str) -> None:
        """Give the program lines to read."""
        assert self.running.stdin is not None
        await self.running.stdin.send_all("".join(f"{line}\n" for line in lines).encode())

    async def sees(self, *parts: str) -> None:
        """Wait until a further line with each of `parts` has come."""
        for text in parts:
            await self.out.containing(text)

    async def fails(self) -> str:
        """Wait until it has ended for want of something; return the line that says what."""
        status = await self.exit()
        assert (status, self.lines, len(self.err.all)) == (1, [], 1), (status, self.out, self.err)
        assert self.err.all[0].startswith("tchat: ")
        return self.err.all[0]

    @property
    def lines(self) -> list[str]:
        """All lines of standard output so far."""
        return self.out.all

    async def exit(self) -> int:
        """Return the exit status once the program has ended and all its lines are here."""
        with trio.fail_after(GUARD):
            status = await self.running.wait()
            for lines in (self.out, self.err):
                await lines.ended()
        assert "Traceback" not in str(self.err), str(self.err)
        return status

    async def end(self) -> int:
        """End the program's input; return its exit status."""
        assert self.running.stdin is not None
        await self.running.stdin.aclose()
        return await self.exit()


@dataclass(slots=True)
class Person(Process):
    """A plain client; what the person receives is saved in `downloads`."""

    downloads: Path = field(init=False)

    @property
    def heard(self) -> list[str]:
        """What was said, line by line, without the time: "<alice> hello"."""
        return [line.partition(" ")[2] for line in self.lines if "] <" in line]


@dataclass(slots=True)
class Server(Process):
    """A server process."""

    address: Address = field(init=False)

    async def kill(self) -> None:
        """End it as a power cut would."""
        self.running.kill()
        await self.running.wait()

    async def stop(self) -> int:
        """End it in good order; return its exit status."""
        self.running.terminate()
        return await self.exit()


class Launcher:
    """Starts programs that read and write pipes, each person with a home of their own."""

    def __init__(self, nursery: trio.Nursery, home: Path, *, tls: bool) -> None:
        self.home = home
        self.tls = tls
        self.started: list[trio.Process] = []
        self._nursery = nursery

    async def tchat(self, *arguments: object, user: str = "nobody") -> Process:
        """Start `python -m tchat` with any arguments."""
        return await self._start(Process, user, "-m", "tchat", *arguments)

    async def script(self, path: Path, *arguments: object, user: str) -> Process:
        """Start a Python script."""
        return await self._start(Process, user, path, *arguments)

    async def serve(self, *options: object, port: int = 0, host: str = "127.0.0.1") -> Server:
        """Start a server, always on the same data directory, and wait until it listens.

        In the clear unless `tls` was said, so that what travels can be looked at.
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
        self, address: Address, user: str, *options: object, group: str = GROUP
    ) -> Person:
        """Start a plain client."""
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

    def know(self, user: str) -> None:
        """Give a person at home the identity that they have in the test itself."""
        pem = identity_of(user)._private.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        place = self.home / user / "identity"
        place.parent.mkdir(parents=True)
        place.touch(mode=0o600)
        place.write_bytes(pem)

    def environment(self, user: str) -> dict[str, str]:
        """Return what a program of that person finds around it."""
        return {**os.environ, "TCHAT_HOME": str(self.home / user), "PYTHONWARNINGS": "error"}

    async def _start(self, kind: type[P], user: str, *arguments: object) -> P:
        running: trio.Process = await trio.lowlevel.open_process(
            [sys.executable, *map(str, arguments)],
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
        pass  # the test does not want to hear more
    lines.end()


@asynccontextmanager
async def launching(home: Path, *, tls: bool = False) -> AsyncIterator[Launcher]:
    """Start programs in the block; those that still run at its end are killed."""
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
async def tapped_server(home: Path) -> AsyncIterator[tuple[Launcher, Server, Tap]]:
    """Start a server whose every frame is checked on its way."""
    async with launching(home) as launch:
        server = await launch.serve()
        async with tapped(server.address) as tap:
            yield launch, server, tap


@asynccontextmanager
async def two_people(home: Path) -> AsyncIterator[tuple[Person, Person]]:
    """Alice, the admin, with Bob as a member."""
    async with tapped_server(home) as (launch, _, tap):
        alice = await launch.join(tap.address, "alice")
        await alice.sees("alice created ops")
        bob = await launch.join(tap.address, "bob")
        await alice.sees("bob asks to join")
        await alice.type("/2 bob")
        await alice.sees("bob joined")
        await bob.sees("in #ops with 1 other member")
        yield alice, bob


async def all_see(people: list[Person], *parts: str) -> None:
    for person in people:
        await person.sees(*parts)

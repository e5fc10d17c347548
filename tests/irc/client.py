"""A raw IRC client for tests, and the door that it connects to, in front of a real server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

import tchat
import tchat.testing
from tchat.irc.listener import serve_irc
from tchat.irc.messages import Message, parse
from tchat.irc.session import REPLAY
from tchat.net.address import Address
from tchat.net.tcp import listen, port_of
from tests.helpers import GUARD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.testing import TestServer

PASSWORD = "correct-horse-battery"  # noqa: S105  # of the doors in tests


class IrcClient:
    """A client that sends lines, and waits for lines; `lines` are all that it got."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.lines: list[str] = []
        self.answers_pings = True
        self._buffer = b""

    async def send(self, *lines: str) -> None:
        """Send lines."""
        await self.stream.send_all("".join(f"{line}\r\n" for line in lines).encode())

    async def line(self) -> str:
        """Return the next line, without its tags; PINGs are answered and left out."""
        return _bare(await self.message_line())

    async def message_line(self) -> str:
        """Return the next line with its tags; PINGs are answered and left out."""
        while True:
            line = await self._raw_line()
            if not _bare(line).startswith(":tchat.localhost PING"):
                return line
            if self.answers_pings:
                await self.send(f"PONG {_bare(line).split()[-1]}")

    async def until(self, text: str) -> str:
        """Return the next line that contains a text, with its tags."""
        while text not in (line := await self.message_line()):
            pass
        return line

    async def message(self, text: str) -> Message:
        """Return the next message whose line contains a text."""
        return parse((await self.until(text)).encode())

    async def sync(self) -> list[str]:
        """Return the lines up to now: the next PONG."""
        lines: list[str] = []
        await self.send("PING sync")
        while "PONG tchat.localhost :sync" not in (line := await self.message_line()):
            lines.append(_bare(line))
        return lines

    async def confirm(self) -> None:
        """Answer the next PING, and wait until the door has handled that."""
        while not _bare(line := await self._raw_line()).startswith(":tchat.localhost PING"):
            pass
        await self.send(f"PONG {_bare(line).split()[-1]}")
        await self.sync()

    async def closed(self) -> str:
        """Return the last line before the server closed the connection."""
        last = ""
        try:
            while True:
                last = await self._raw_line()
        except EOFError:
            return last

    async def _raw_line(self) -> str:
        while b"\r\n" not in self._buffer:
            data = await self.stream.receive_some()
            if not data:
                raise EOFError
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        self.lines.append(line.decode())
        return line.decode()


def _bare(line: str) -> str:
    return line.partition(" ")[2] if line.startswith("@") else line


@dataclass(frozen=True, slots=True)
class OpenDoor:
    """A door: its port on 127.0.0.1, the client of tchat behind it, where it saves files."""

    port: int
    client: tchat.Client
    downloads: Path

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[IrcClient]:
        """Connect a client that has not registered."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            yield IrcClient(stream)

    @asynccontextmanager
    async def registered(self, *capabilities: str) -> AsyncIterator[IrcClient]:
        """Connect and register a client with capabilities."""
        async with self.connect() as irc:
            if capabilities:
                await irc.send("CAP LS 302", f"CAP REQ :{' '.join(capabilities)}")
            await irc.send(f"PASS {PASSWORD}", "NICK whoever", "USER me 0 * :Me")
            if capabilities:
                await irc.send("CAP END")
            await irc.until(" 376 ")
            yield irc


@asynccontextmanager
async def door_of(
    client: tchat.Client, downloads: Path, replay: int = REPLAY
) -> AsyncIterator[OpenDoor]:
    """Open a door for a client of tchat while the block runs."""
    listeners = await listen(Address("127.0.0.1", 0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_irc, client, listeners, PASSWORD, downloads, replay)
        yield OpenDoor(port_of(listeners[0]), client, downloads)
        nursery.cancel_scope.cancel()


@dataclass(frozen=True, slots=True)
class Scene:
    """Alice is the admin of #ops, and bob a member who uses IRC."""

    server: TestServer
    alice: tchat.Client
    ops: tchat.Group
    door: OpenDoor


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """Run a server with alice and bob in the open group ops, and bob's door."""
    with trio.fail_after(GUARD):
        async with (
            tchat.testing.open_server() as server,
            server.connect("alice") as alice,
            server.connect("bob") as bob,
        ):
            ops = await alice.join("ops", create=True)
            await ops.set_policy("open")
            await bob.join("ops")
            async with door_of(bob, server.directory / "downloads") as door:
                yield Scene(server, alice, ops, door)

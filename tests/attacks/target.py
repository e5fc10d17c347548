"""What an attacker has: connections from any address of 127.0.0.0/8, raw frames, and a tally."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import trio

from tchat.client.authenticate import Account, authenticate
from tchat.client.client_id import ClientId
from tchat.core.protocol.frames import Failed, decode, encode
from tchat.core.vocabulary import TO_CLIENT
from tchat.net.link import Link
from tchat.net.tls import client_context, open_tls
from tests.helpers import identity_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tchat.core.group.feature import Command
    from tchat.core.protocol.schema import Frame

HOST = "127.0.0.1"
_CONTEXT = client_context(verified=False)
ATTACKER = "127.0.0.66"
"""Where attackers come from, unless an attack names other addresses."""


@dataclass(slots=True)
class Tally:
    """What an attack has achieved: counts of what it did and got, and its open connections."""

    counts: Counter[str] = field(default_factory=Counter)
    open: int = 0
    peak: int = 0

    def add(self, what: str, number: int = 1) -> None:
        """Count something that was done, or came of it."""
        self.counts[what] += number

    def answer(self, frame: Frame | None) -> None:
        """Count an answer: a refusal by its code."""
        if frame is None:
            self.add("closed by the server")
        elif isinstance(frame, Failed):
            self.add(f"refused ({frame.code})")
        else:
            self.add(frame.type)

    def connected(self, change: int = 1) -> None:
        """Count connections that are open now."""
        self.open += change
        self.peak = max(self.peak, self.open)


class Member:
    """An authenticated connection that sends any frames; ids and numbers count up from 1."""

    def __init__(self, name: str, link: Link, account: Account) -> None:
        self.name = name
        self.account = account
        self.link = link
        self.ids: Iterator[int] = count(1)
        self.numbers: Iterator[int] = count(1)

    async def send(self, *frames: Frame) -> None:
        """Send frames in one write."""
        await self.link.send(b"".join(map(encode, frames)))

    async def receive(self) -> Frame | None:
        """Return the next frame; None at the end."""
        body = await self.link.receive()
        return None if body is None else decode(body, TO_CLIENT)

    async def ask(self, make: Callable[[int], Frame]) -> Frame | None:
        """Send a request and return its answer; other frames are dropped."""
        number = next(self.ids)
        await self.send(make(number))
        while (frame := await self.receive()) is not None:
            if getattr(frame, "re", None) == number:
                return frame
        return None

    async def command(self, kind: type[Command], group: str, *arguments: object) -> Frame | None:
        """Send a command and return its answer."""
        return await self.ask(lambda i: kind(i, next(self.numbers), group, *arguments))


@dataclass(frozen=True, slots=True)
class Target:
    """The server under attack, and how to reach it."""

    port: int
    tally: Tally = field(default_factory=Tally)

    async def connect(self, source: str = ATTACKER) -> trio.SocketStream:
        """Open a TCP connection from an address of 127.0.0.0/8."""
        return await trio.open_tcp_stream(HOST, self.port, local_address=source)

    @asynccontextmanager
    async def stranger(self, source: str = ATTACKER) -> AsyncIterator[trio.SocketStream]:
        """Hold a TCP connection, counted in the tally, for the length of the block."""
        stream = await self.connect(source)
        self.tally.connected()
        try:
            yield stream
        finally:
            self.tally.connected(-1)
            await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def member(
        self, name: str, source: str = ATTACKER, client: bytes | None = None
    ) -> AsyncIterator[Member]:
        """Log in, claiming the name if it is free, for the length of the block.

        Raises the exceptions of `open_tls` and `authenticate`.
        """
        async with self.stranger(source) as plain:
            link = Link(await open_tls(plain, _CONTEXT, HOST))
            number = ClientId()
            number.client = client or os.urandom(8)
            account = Account(name, identity_of(name), number)
            await authenticate(link, account)
            link.begin_chat(256 * 1024)
            yield Member(name, link, account)

    async def flood(self, workers: int, work: Callable[[int], Awaitable[None]]) -> None:
        """Run `work` again and again in each of some tasks, whatever comes of it."""

        async def again(number: int) -> None:
            while True:
                try:
                    await work(number)
                except (trio.BrokenResourceError, OSError):
                    self.tally.add("cut")
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for number in range(workers):
                nursery.start_soon(again, number)

"""Throwing wrong frames at a server, beside a pair that chats and must not notice."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.session import open_session
from tchat.core.protocol.frames import UnknownType, decode_request
from tchat.core.protocol.framing import HANDSHAKE_LIMIT, FrameBuffer
from tchat.core.protocol.handshake import Hello, Proof, TransferHello
from tchat.errors import ProtocolError
from tchat.net.address import connect
from tchat.net.tls import client_context, open_tls
from tchat.net.tls_stream import TlsStream
from tests.helpers import (
    GROUP,
    GUARD,
    RawClient,
    approve,
    hello_of,
    identity_of,
    log_of,
    seqs,
    texts,
    until,
)
from tests.hostile_frames import Mutator
from tests.protocol import unchecked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.net.address import Address
    from tchat.store.base import Store
    from tests.hostile_cbor import Hostile

WORKERS = 2
"""How many throw at once, as strangers and as many as people who are known."""

_MOST_ON_ONE = 40


# ---------------------------------------------------------------------------- who chats beside it


class Bystanders:
    """Alice and Bob, who answer each other all the time, each waiting to have read the other."""

    def __init__(self, *people: tuple[Session, Replica]) -> None:
        self.said: list[str] = []
        self.leaving = False
        self.gone = trio.Event()
        self._people = people

    async def chat(self) -> None:
        """Speak in turn until `leaving`."""
        while not self.leaving:
            await self.say()
        self.gone.set()

    async def say(self) -> None:
        """Say one thing more, and wait until both have read it."""
        word = f"word {len(self.said)}"
        session, replica = self._people[len(self.said) % 2]
        self.said.append(word)
        await session.post(replica, word).wait()
        for listener, heard in self._people:
            await until(listener, partial(_has_heard, heard, word))

    async def check(self, store: Store) -> None:
        """Fail unless both have, once and in order, all that was said and all that the log has."""
        await self.say()
        log = await log_of(store)
        assert texts(log) == self.said
        assert seqs(log) == list(range(1, len(log) + 1))
        for session, replica in self._people:
            await until(session, partial(_reaches, replica, len(log)))
            assert replica.log[: len(log)] == log


def _has_heard(replica: Replica, word: str) -> bool:
    return word in texts(replica.log[-50:])


def _reaches(replica: Replica, seq: int) -> bool:
    return replica.state.seq >= seq


@asynccontextmanager
async def chatting(address: Address, pin: bytes | None = None) -> AsyncIterator[Bystanders]:
    """Let two people chat for the length of the block, over TLS if there is a pin."""
    async with person(address, "alice", pin) as alice, person(address, "bob", pin) as bob:
        ops, there = await alice.enter(GROUP), await bob.enter(GROUP)
        await approve(alice, "bob")
        await until(bob, lambda: there.caught_up)
        pair = Bystanders((alice, ops), (bob, there))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.chat)
            yield pair
            pair.leaving = True


@asynccontextmanager
async def person(address: Address, user: str, pin: bytes | None) -> AsyncIterator[Session]:
    """Be `user` for the length of the block, over TLS if there is a pin."""
    connector = Connector(address, KnownServers(), pin, plain=pin is None)
    async with open_session(connector, Account(user, identity_of(user), ClientId())) as session:
        yield session


# ---------------------------------------------------------------------------- how to throw them


def ends_connection(data: bytes) -> bool:
    """Return whether a server has to end a conversation in which this was said.

    Also true of what is no single whole frame, so that nothing can be said behind it.
    """
    buffer = FrameBuffer()
    buffer.feed(data)
    try:
        body = buffer.pop()
        if body is None or buffer.rest():
            return True
        frame = decode_request(body)
    except UnknownType:
        return False
    except ProtocolError:
        return True
    return isinstance(frame, Hello | Proof | TransferHello)


class Thrower:
    """Throws frames at a server, each way a share, and counts those that the server has taken.

    `thrown` counts frames, `ended` those that cost their connection.
    """

    def __init__(self, address: Address, pin: bytes | None = None) -> None:
        self.thrown = 0
        self.ended = 0
        self._address = address
        self._context = client_context(verified=False) if pin else None

    async def as_stranger(self, frames: Iterable[Hostile]) -> None:
        """Throw each on a connection of its own, every third of them in place of a proof."""
        for number, frame in enumerate(frames):
            stream = await self._connect()
            if number % 3 == 0:
                await RawClient(stream).send(hello_of("mallory"))
            await self._throw(stream, frame.data)
            self.thrown += 1
            self.ended += 1

    async def as_person(self, user: str, frames: Iterable[Hostile]) -> None:
        """Throw as many as one connection bears, and so on."""
        bearable: list[Hostile] = []
        for frame in frames:
            bearable.append(frame)
            if ends_connection(frame.data):
                await self._throw_known(user, bearable[:-1], frame)
                bearable = []
            elif len(bearable) == _MOST_ON_ONE:
                await self._throw_known(user, bearable, None)
                bearable = []
        if bearable:
            await self._throw_known(user, bearable, None)

    async def _throw_known(self, user: str, bearable: list[Hostile], last: Hostile | None) -> None:
        stream = await self._connect()
        await RawClient(stream).hello(user)
        frames = [frame.data for frame in bearable]
        # Behind those that a connection bears stands one whose answer shows that it did.
        fence = secrets.randbits(32) | 1 << 62
        frames.append(unchecked({"type": "fence", "id": fence}))
        if last is not None:
            frames.append(last.data)
        answers = await self._throw(stream, b"".join(frames), fence.to_bytes(8, "big"))
        assert fence.to_bytes(8, "big") in answers, [frame.what for frame in bearable]
        self.thrown += len(bearable) + (last is not None)
        self.ended += last is not None

    async def _connect(self) -> trio.abc.Stream:
        stream = await connect(self._address)
        if self._context is None:
            return stream
        return await open_tls(stream, self._context, self._address.host)

    async def _throw(self, stream: trio.abc.Stream, data: bytes, awaited: bytes = b"") -> bytes:
        """Send all there is, say that nothing more comes, and return all that is answered.

        Not before what is `awaited` has come: TLS answers nothing more to one who ends the
        connection beneath it.
        """
        answers = bytearray()
        heard = trio.Event()

        async def listen() -> None:
            with suppress(trio.BrokenResourceError):
                async for more in stream:
                    answers.extend(more)
                    if awaited in answers:
                        heard.set()
            heard.set()

        with trio.fail_after(GUARD):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(data)
                    if awaited:
                        await heard.wait()
                    if isinstance(stream, trio.SocketStream):
                        await stream.send_eof()
                    elif isinstance(stream, TlsStream):
                        await stream.transport_stream.send_eof()
        await trio.aclose_forcefully(stream)
        return bytes(answers)


async def throw_all(thrower: Thrower, number: int, seed: int) -> None:
    """Throw so many frames, half of them as strangers and half as people who are known."""
    strangers, known = number // 2, number - number // 2
    async with trio.open_nursery() as nursery:
        for worker in range(WORKERS):
            mutators = [
                Mutator(seed + worker, limit=HANDSHAKE_LIMIT),
                Mutator(seed + WORKERS + worker),
            ]
            share = [len(range(worker, many, WORKERS)) for many in (strangers, known)]
            nursery.start_soon(thrower.as_stranger, mutators[0].take(share[0]))
            nursery.start_soon(thrower.as_person, f"mallory{worker}", mutators[1].take(share[1]))

"""Hostile clients: send malformed frames to a server while a pair of people keeps chatting."""

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
from tchat.core.protocol.frames import UnknownType
from tchat.core.protocol.framing import HANDSHAKE_LIMIT, FrameBuffer
from tchat.core.protocol.handshake import Hello, Proof, TransferHello
from tchat.core.vocabulary import decode_request
from tchat.errors import ProtocolError
from tchat.net.tcp import connect
from tchat.net.tls import client_context, open_tls
from tchat.net.tls_stream import TlsStream
from tests.cddl import unchecked
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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.net.address import Address
    from tchat.store.base import Store
    from tests.hostile_cbor import Hostile

WORKERS = 2
"""Concurrent senders of each kind: unauthenticated, and authenticated."""

_MOST_ON_ONE = 40


# ---------------------------------------------------------------------------- the chatting pair


class ChattingPair:
    """Alice and Bob, who post in turn; each message waits until both have received the last one."""

    def __init__(self, *people: tuple[Session, Replica]) -> None:
        self.said: list[str] = []
        self.leaving = False
        self.gone = trio.Event()
        self._people = people

    async def chat(self) -> None:
        """Post in turn until `leaving` is set."""
        while not self.leaving:
            await self.say()
        self.gone.set()

    async def say(self) -> None:
        """Post one more message; wait until both have received it."""
        word = f"word {len(self.said)}"
        session, replica = self._people[len(self.said) % 2]
        self.said.append(word)
        await session.post(replica, word).wait()
        for listener, heard in self._people:
            await until(listener, partial(_has_heard, heard, word))

    async def check(self, store: Store) -> None:
        """Fail unless both have the whole log: every message once and in order."""
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
async def chatting(address: Address, pin: bytes | None = None) -> AsyncIterator[ChattingPair]:
    """Let two people chat for the length of the block, over TLS if a pin is given."""
    async with person(address, "alice", pin) as alice, person(address, "bob", pin) as bob:
        ops, there = await alice.enter(GROUP), await bob.enter(GROUP)
        await approve(alice, "bob")
        await until(bob, lambda: there.caught_up)
        pair = ChattingPair((alice, ops), (bob, there))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.chat)
            yield pair
            pair.leaving = True


@asynccontextmanager
async def person(address: Address, user: str, pin: bytes | None) -> AsyncIterator[Session]:
    """Open a session of `user` for the length of the block, over TLS if a pin is given."""
    connector = Connector(address, KnownServers(), pin, plain=pin is None)
    async with open_session(connector, Account(user, identity_of(user), ClientId())) as session:
        yield session


# ---------------------------------------------------------------------------- hostile frames


def ends_connection(data: bytes) -> bool:
    """Return whether a server must close a connection on which these bytes arrive.

    Also true of bytes that are not exactly one frame: nothing can be sent after them.
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


class HostileClient:
    """Sends hostile frames to a server, and counts those that it has processed.

    `sent` counts all frames, `ended` those after which the server closed the connection.
    """

    def __init__(self, address: Address, pin: bytes | None = None) -> None:
        self.sent = 0
        self.ended = 0
        self._address = address
        self._context = client_context(verified=False) if pin else None

    async def as_stranger(self, frames: Iterable[Hostile]) -> None:
        """Send each frame on a new, unauthenticated connection; every third in place of a proof."""
        for number, frame in enumerate(frames):
            stream = await self._connect()
            if number % 3 == 0:
                await RawClient(stream).send(hello_of("mallory"))
            await self._throw(stream, frame.data)
            self.sent += 1
            self.ended += 1

    async def as_person(self, user: str, frames: Iterable[Hostile]) -> None:
        """Send frames on authenticated connections, a new one whenever a frame ends the last."""
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
        # The fence is a harmless unknown request: its answer shows that the connection survived
        # all frames before it.
        fence = secrets.randbits(32) | 1 << 62
        frames.append(unchecked({"type": "fence", "id": fence}))
        if last is not None:
            frames.append(last.data)
        answers = await self._throw(stream, b"".join(frames), fence.to_bytes(8, "big"))
        assert fence.to_bytes(8, "big") in answers, [frame.what for frame in bearable]
        self.sent += len(bearable) + (last is not None)
        self.ended += last is not None

    async def _connect(self) -> trio.abc.Stream:
        stream = await connect(self._address)
        if self._context is None:
            return stream
        return await open_tls(stream, self._context, self._address.host)

    async def _throw(self, stream: trio.abc.Stream, data: bytes, awaited: bytes = b"") -> bytes:
        """Send the data and EOF; return everything that the server answers.

        EOF is not sent before `awaited` has arrived: over TLS, the server answers nothing more
        after the end of the TCP stream beneath.
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


async def send_hostile_frames(hostile: HostileClient, number: int, seed: int) -> None:
    """Send `number` frames, half without authentication and half with."""
    strangers, known = number // 2, number - number // 2
    async with trio.open_nursery() as nursery:
        for worker in range(WORKERS):
            mutators = [
                Mutator(seed + worker, limit=HANDSHAKE_LIMIT),
                Mutator(seed + WORKERS + worker),
            ]
            share = [len(range(worker, many, WORKERS)) for many in (strangers, known)]
            nursery.start_soon(hostile.as_stranger, mutators[0].take(share[0]))
            nursery.start_soon(hostile.as_person, f"mallory{worker}", mutators[1].take(share[1]))

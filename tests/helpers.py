"""Shared test helpers: in-process server, raw protocol client, client sessions, waiting for lines.

Nothing here sleeps to synchronise. Every wait is for an event, under one generous timeout,
`GUARD`, which only a program that hangs ever reaches.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.session import open_session
from tchat.core.group.feature import Command, Event
from tchat.core.group.features import decode_event
from tchat.core.group.membership import Approve, Created, Join, Requested
from tchat.core.group.messages import Post, Posted
from tchat.core.protocol.frames import (
    Activity,
    Attach,
    Attached,
    Failed,
    MembershipChange,
    Ok,
    Ping,
    Pong,
    PresenceUpdate,
    decode,
    encode_all,
)
from tchat.core.protocol.framing import FrameBuffer, split_frames
from tchat.core.protocol.handshake import (
    NONCE_SIZE,
    VERSION,
    Challenge,
    Hello,
    Proof,
    Welcome,
    proof_text,
)
from tchat.core.text import fold
from tchat.core.vocabulary import TO_CLIENT
from tchat.errors import Refused
from tchat.machine_clocks import now_ms, steady_ms
from tchat.net.address import Address
from tchat.net.identity import Identity
from tchat.net.tcp import connect
from tchat.net.tls import client_context, open_tls, pin_seen
from tchat.server.app import ServerConfig, serve
from tchat.server.limits import Limits
from tchat.server.log import Log, LogFormat
from tests.cddl import unchecked, validate_body
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.protocol.schema import Frame
    from tchat.net.tls import Credentials
    from tchat.store.base import Store

GUARD = 30.0
"""Seconds after which a wait counts as hanging."""

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
"""Whether tests that repeat something do it more often than `quick` runs can afford."""


def kill_points() -> Iterator[int]:
    """Yield the steps at which a program is killed: each one, or three of five in a quick run.

    Programs repeat groups of steps. Since five is no multiple of a group's size, a kill still hits
    every step of a group.
    """
    return (step for step in count(1) if THOROUGH or step % 5 in (1, 2, 4))


GROUP = "ops"
"""The group that tests use unless they need another."""

NO_RATE_LIMITS = replace(Limits().without_rates(), disk_reserve=0)
"""Limits without rate limits, and on a disk that may be nearly full."""

F = TypeVar("F", bound="Frame")


# ---------------------------------------------------------------------------- lines of text


class Lines:
    """Lines of output to wait for; each line satisfies one wait only."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self.unfinished = ""
        self._found: set[int] = set()
        self._ended = False
        self._news = trio.Event()

    def feed(self, text: str) -> None:
        """Append text as it was read, split anywhere."""
        *lines, self.unfinished = (self.unfinished + text).split("\n")
        self.all += lines
        self._news.set()

    def end(self) -> None:
        """Mark the end of the output."""
        self._ended = True
        self._news.set()

    async def containing(self, text: str) -> str:
        """Wait for the first line containing `text` that no earlier wait returned; return it."""
        with trio.move_on_after(GUARD):
            while True:
                for index, line in enumerate(self.all):
                    if text in line and index not in self._found:
                        self._found.add(index)
                        return line
                if self._ended:
                    break
                await self._more()
        raise AssertionError(f"No (further) line contains {text!r}. Lines so far:\n{self}")

    async def prompt(self, text: str) -> None:
        """Wait until the last, unfinished line ends in `text`."""
        with trio.move_on_after(GUARD):
            while not self.unfinished.endswith(text):
                await self._more()
            return
        raise AssertionError(f"No prompt {text!r}. Output so far:\n{self}")

    async def ended(self) -> None:
        """Wait for the end of the output."""
        while not self._ended:
            await self._more()

    async def _more(self) -> None:
        if self._news.is_set():
            self._news = trio.Event()
        await self._news.wait()

    def __str__(self) -> str:
        return "\n".join([*self.all, self.unfinished])


# ---------------------------------------------------------------------------- in-process server


class _Console(io.StringIO):
    """Log stream of a server: its log thread writes, the test reads."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = Lines()
        self._token = trio.lowlevel.current_trio_token()

    def write(self, text: str) -> int:
        self._token.run_sync_soon(self.lines.feed, text)
        return super().write(text)


@dataclass(slots=True)
class RunningServer:
    """A server in this process. `logged` waits for a log line; `console` has all lines so far."""

    address: Address
    config: ServerConfig
    store: Store
    log: Log
    stop: trio.Event
    stopped: trio.Event
    _stream: _Console

    async def end(self) -> None:
        """Shut down before the end of the block."""
        self.stop.set()
        await self.stopped.wait()

    async def logged(self, text: str) -> str:
        """Wait for the next log line containing `text`; return it."""
        return await self._stream.lines.containing(text)

    @property
    def console(self) -> list[str]:
        """Return the log lines so far; complete once the server has stopped."""
        return self._stream.getvalue().splitlines()


@asynccontextmanager
async def running_server(
    store: Store | None = None,
    limits: Limits | None = None,
    port: int = 0,
    log_format: LogFormat = "text",
    credentials: Credentials | None = None,
    clock: Callable[[], int] = now_ms,
    steady_clock: Callable[[], int] | None = None,
    rate_clock: Callable[[], float] = trio.current_time,
    data: Path = Path("unused"),
) -> AsyncIterator[RunningServer]:
    """Serve on 127.0.0.1 for the length of the block; shut down gracefully at its end.

    Without TLS unless `credentials` are given; without rate limits unless `limits` are given. The
    operator's commands need `data`, the directory of the store. While `clock` advances, real time
    passes, unless `steady_clock` says something else.
    """
    store = store or MemoryStore()
    stream = _Console()
    log = Log(log_format, stream)
    stop, stopped = trio.Event(), trio.Event()
    config = ServerConfig(
        Address("127.0.0.1", port),
        data,
        limits or NO_RATE_LIMITS,
        clock=clock,
        steady_clock=steady_clock or (steady_ms if clock is now_ms else clock),
        rate_clock=rate_clock,
    )

    async def run(task_status: trio.TaskStatus[int]) -> None:
        await serve(config, credentials, store, log, stop, task_status)
        stopped.set()

    try:
        async with trio.open_nursery() as nursery:
            port = await nursery.start(run)
            address = Address("127.0.0.1", port)
            yield RunningServer(address, config, store, log, stop, stopped, stream)
            stop.set()
    finally:
        log.close()


async def log_of(store: Store, group: str = GROUP) -> list[Event]:
    """Return a group's log from the store."""
    events: list[Event] = []
    after = 0
    while (page := await store.read(group, after)) is not None:
        events += map(decode_event, split_frames(page.frames))
        after = page.last
    return events


def texts(events: Iterable[Event]) -> list[str]:
    """Return the texts of the messages among `events`."""
    return [event.body.text for event in events if isinstance(event.body, Posted)]


def seqs(events: Iterable[Event]) -> list[int]:
    """Return the sequence numbers of `events`."""
    return [event.seq for event in events]


# ---------------------------------------------------------------------------- raw protocol client


def identity_of(name: str, device: str = "") -> Identity:
    """Return a deterministic identity for a person and device."""
    seed = hashlib.sha256(f"{fold(name)} {device}".encode()).digest()
    return Identity(Ed25519PrivateKey.from_private_bytes(seed))


def hello_of(user: str, client: bytes = bytes(8), version: int = VERSION) -> Hello:
    """Return a person's hello, the first frame of the handshake."""
    nonce = os.urandom(NONCE_SIZE)
    return Hello(version, user, client, identity_of(user).public, nonce)


def without_time(welcome: Frame | None) -> Frame:
    """Return a welcome as it is for everybody at any time."""
    assert isinstance(welcome, Welcome)
    assert welcome.now is not None
    return replace(welcome, now=None)


def created_by(name: str) -> Created:
    """Return the event body of a group created by this person."""
    return Created(identity_of(name).public)


def requested_by(name: str) -> Requested:
    """Return the event body of a request to join by this person."""
    return Requested(identity_of(name).public)


class RawClient:
    """A client that sends single frames, and validates each received frame against the CDDL."""

    def __init__(self, stream: trio.abc.Stream, client: bytes | None = None) -> None:
        self.stream = stream
        self.client = client or os.urandom(8)
        self.user = ""
        self.online: set[str] = set()
        self._buffer = FrameBuffer()
        self._kept: deque[Frame] = deque()
        self._ids = count(1)
        self._counts = count(1)

    async def send(self, *frames: Frame) -> None:
        """Send frames in one write."""
        await self.stream.send_all(encode_all(frames))

    async def send_map(self, item: dict[str, object]) -> None:
        """Send a map as a frame, without validation."""
        await self.stream.send_all(unchecked(item))

    async def hello(self, user: str, *also: Frame) -> Welcome:
        """Complete the handshake as `user`; send `also` in the same write as the proof."""
        hello = hello_of(user, self.client)
        await self.send(hello)
        await self.send(await self.proof(hello), *also)
        welcome = await self.expect(Welcome)
        self.user = welcome.user
        return welcome

    async def proof(
        self, hello: Hello, identity: Identity | None = None, link: str | None = None
    ) -> Proof:
        """Receive the server's challenge and return the signed proof."""
        text = proof_text(hello, await self.expect(Challenge), pin_seen(self.stream))
        return Proof((identity or identity_of(hello.user)).sign(text), link)

    async def receive(self) -> Frame | None:
        """Return the next frame, or None at the end of the connection."""
        return self._kept.popleft() if self._kept else await self._next()

    async def expect(self, kind: type[F]) -> F:
        """Return the next frame of type `kind`; skip presence and activity, fail on others."""
        while True:
            frame = await self.receive()
            if isinstance(frame, kind):
                return frame
            assert isinstance(frame, PresenceUpdate | Activity), (
                f"received {frame} instead of {kind.type}"
            )

    async def ask(self, make: Callable[[int], Frame]) -> Frame:
        """Send a request and return its answer; queue frames that arrive first for `receive`."""
        number = next(self._ids)
        await self.send(make(number))
        while True:
            frame = await self._next()
            assert frame is not None, f"connection ended without an answer to {make(number)}"
            if getattr(frame, "re", None) == number:
                return frame
            self._kept.append(frame)

    async def command(
        self, kind: type[Command], *arguments: object, group: str = GROUP, n: int | None = None
    ) -> Ok:
        """Send a command and return the answer. Raises `Refused` if the server refuses it."""
        number = next(self._counts) if n is None else n
        answer = await self.ask(lambda i: kind(i, number, group, *arguments))
        if isinstance(answer, Failed):
            raise Refused(answer.code, answer.text)
        assert isinstance(answer, Ok)
        return answer

    async def refusal(
        self, kind: type[Command], *arguments: object, group: str = GROUP, n: int | None = None
    ) -> Refused:
        """Send a command that the server must refuse; return the refusal."""
        try:
            answer = await self.command(kind, *arguments, group=group, n=n)
        except Refused as refused:
            return refused
        raise AssertionError(f"{kind.type} was not refused; the answer is {answer}")

    async def post(self, text: str, group: str = GROUP) -> int:
        """Post a message; return its sequence number."""
        seq = (await self.command(Post, text, group=group)).seq
        assert seq is not None
        return seq

    async def say(self, *words: str) -> None:
        """Post messages without reading the answers (another task reads them)."""
        for text in words:
            await self.send(Post(next(self._ids), next(self._counts), GROUP, text))

    async def attach(self, after: int = 0, group: str = GROUP) -> Attached:
        """Subscribe to a group from after the event `after`."""
        answer = await self.ask(lambda i: Attach(i, group, after))
        assert isinstance(answer, Attached), answer
        return answer

    async def events(self, number: int) -> list[Event]:
        """Return the next `number` events; skip answers, presence and activity."""
        events: list[Event] = []
        while len(events) < number:
            frame = await self.receive()
            assert isinstance(frame, Event | PresenceUpdate | Activity | Ok), frame
            events += [frame] if isinstance(frame, Event) else []
        return events

    async def before_pong(self) -> list[Frame]:
        """Drain the connection: ping, and return every frame received before the pong."""
        await self.send(Ping())
        frames: list[Frame] = []
        while not isinstance(frame := await self.receive(), Pong):
            assert frame is not None, "the server closed the connection"
            frames.append(frame)
        return frames

    async def until_end(self) -> list[Frame]:
        """Return all frames until the server closes the connection; then close this end."""
        frames: list[Frame] = []
        while (frame := await self.receive()) is not None:
            frames.append(frame)
        await self.stream.aclose()
        return frames

    async def _next(self) -> Frame | None:
        with trio.fail_after(GUARD):
            while (body := self._buffer.pop()) is None:
                try:
                    data = await self.stream.receive_some()
                except trio.BrokenResourceError:
                    return None
                if not data:
                    return None
                self._buffer.feed(data)
        validate_body(body)
        frame = decode(body, TO_CLIENT)
        if isinstance(frame, PresenceUpdate):
            known = set() if frame.reset else self.online
            self.online = (known | {member.name for member in frame.online}) - set(frame.offline)
        return frame


@asynccontextmanager
async def raw_client(
    address: Address, user: str | None = None, client: bytes | None = None, *, tls: bool = False
) -> AsyncIterator[RawClient]:
    """Connect for the length of the block: authenticated as `user`, or without a handshake."""
    plain = await connect(address)
    stream: trio.abc.Stream = plain
    if tls:
        stream = await open_tls(plain, client_context(verified=False), address.host)
    async with stream:
        raw = RawClient(stream, client)
        if user is not None:
            await raw.hello(user)
        yield raw


@asynccontextmanager
async def members(
    server: RunningServer, *names: str, group: str = GROUP
) -> AsyncIterator[list[RawClient]]:
    """Create a group whose members are `names`, the first of them its admin, all subscribed.

    All have received its log so far, so the next frames they receive are caused by the test.
    """
    async with AsyncExitStack() as stack:
        people = [
            await stack.enter_async_context(raw_client(server.address, name)) for name in names
        ]
        admin, *others = people
        await admin.command(Join, group=group)
        for other in others:
            await other.command(Join, group=group)
            await admin.command(Approve, other.user, group=group)
            await other.expect(MembershipChange)
        for person in people:
            await person.events((await person.attach(group=group)).seq)
        for person in people:
            await person.before_pong()
        yield people


# ---------------------------------------------------------------------------- client sessions


@asynccontextmanager
async def session_of(
    address: Address, user: str, slot: ClientId | None = None, group: str = GROUP
) -> AsyncIterator[tuple[Session, Replica]]:
    """Open a session of `user` that joins a group: creates it, or waits for approval."""
    async with session_at(address, user, slot) as session:
        yield session, await session.enter(group)


@asynccontextmanager
async def session_at(
    address: Address, user: str, slot: ClientId | None = None, recent: int | None = None
) -> AsyncIterator[Session]:
    """Open a session of `user` for the length of the block; for `recent` see `open_session`."""
    connector = Connector(address, KnownServers(), plain=True)
    account = Account(user, identity_of(user), slot or ClientId())
    async with open_session(connector, account, recent) as session:
        yield session


async def approve(session: Session, name: str, group: str = GROUP) -> None:
    """Approve a request to join, as the group's admin."""
    await session.request(lambda i, n: Approve(i, n, group, name))


async def until(session: Session, condition: Callable[[], object]) -> None:
    """Receive the session's updates until `condition` holds."""
    with trio.fail_after(GUARD):
        while not condition():
            await session.updates.receive()

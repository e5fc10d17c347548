"""A session: one person's connection to a server, for as long as it takes.

It connects, says hello, and follows groups; when the connection breaks it connects again, with
growing and random pauses, attaches each group behind the last event it has, and sends again
every request that was not answered. A request keeps its number, so the server does it once
however often it arrives: to the caller of `request`, a broken connection is only a delay.

Three things are kept apart. *Requests* wait for one answer and survive connections. *Groups*
are followed, each as a replica. *Updates* tell whoever shows the session what happened, in
order. The session has no screen and never prints; both UIs and every bot stand on it.
"""

from __future__ import annotations

import math
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from tchat.client.receipt import Answer, Make, Receipt
from tchat.client.replica import GapError, Replica
from tchat.client.updates import (
    CaughtUp,
    Connected,
    Disconnected,
    Happened,
    PresenceChanged,
    StandingChanged,
    Update,
)
from tchat.core.commands import Command, Join, Post
from tchat.core.events import Event
from tchat.core.frames import (
    TO_CLIENT,
    Attached,
    Failed,
    Goodbye,
    Membership,
    Ok,
    Ping,
    Pong,
    Presence,
    Seen,
    Ticket,
    UnknownType,
    decode,
    encode,
    encode_all,
)
from tchat.core.handshake import VERSION, Hello, Welcome
from tchat.core.text import check_name, check_text, clean_line, fold
from tchat.errors import Code, ProtocolError, Refused, StartupError, root_of
from tchat.net.address import Address, connect, explain
from tchat.net.link import Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tchat.client.slot import Slot
    from tchat.core.schema import Frame

FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 15.0
CONNECT_SECONDS = 10.0
SEEN_SECONDS = 0.5
SILENCE_SECONDS = 20.0
PATIENCE_SECONDS = 8.0


# For what reasons a server ends a connection that it would end again.
_FINAL = (Code.BAD_NAME, Code.BAD_VERSION, Code.REPLACED)


class Session:
    """One person on one server. Made by `open_session`, which also runs it."""

    def __init__(self, address: Address, user: str, slot: Slot) -> None:
        self.address = address
        self.user = check_name(user, "username")
        self.groups: dict[str, Replica] = {}
        self.updates: trio.MemoryReceiveChannel[Update]
        # Unbounded, since whoever shows updates may also be waiting for an answer that comes
        # behind them; the replicas hold the same events anyway.
        self._tell, self.updates = trio.open_memory_channel[Update](math.inf)
        self._slot = slot
        self._receipts: dict[int, Receipt] = {}
        self._last_id = 0
        self._outgoing: list[bytes] = []
        self._seen: dict[str, Seen] = {}
        self._news = trio.Event()
        self._link: Link | None = None
        self._failures = 0
        self._was_connected = False

    @property
    def connected(self) -> bool:
        """Whether a connection stands at this moment."""
        return self._link is not None

    @property
    def unanswered(self) -> int:
        """How many requests wait for their answers."""
        return len(self._receipts)

    # ------------------------------------------------------------------ what callers do

    def submit(self, make: Callable[[int, int], Command]) -> Receipt:
        """Send a command as soon as may be; `make` gets its id and its number."""
        number = self._slot.count()
        return self._request(lambda request_id: make(request_id, number))

    def post(self, replica: Replica, text: str) -> Receipt:
        """Say something to a group. Raises `Refused` for a text that cannot be a message."""
        check_text(text)
        return self.submit(lambda i, n: Post(i, n, replica.name, text))

    async def request(self, make: Callable[[int, int], Command]) -> Answer:
        """Send a command and return its answer. Raises `Refused`."""
        return await self.submit(make).wait()

    async def ask(self, make: Make) -> Answer:
        """Send a request that changes no log and return its answer. Raises `Refused`."""
        return await self._request(make).wait()

    def follow(self, group: str) -> Replica:
        """Return the replica of a group, a new one if need be. Raises `Refused` (bad_name)."""
        name = check_name(group, "group name")
        return self.groups.setdefault(fold(name), Replica(name))

    async def enter(self, group: str, *, although_kicked: bool = False) -> Replica:
        """Follow a group; found it, or ask to join it, unless one is a member or has asked.

        One who was kicked asks again only on purpose. Returns when the server has said which
        it is: see the replica's `standing`.
        """
        replica = self.follow(group)
        await self._attach(replica).wait()
        if replica.standing == "outsider" and (although_kicked or not replica.kicked):
            await self.request(lambda i, n: Join(i, n, replica.name))
            await self._attach(replica).wait()
        return replica

    def mark_seen(self, replica: Replica, seq: int) -> None:
        """Let the server know that the person has seen a group's events up to `seq`."""
        if seq > replica.seen and replica.standing == "member":
            replica.seen = seq
            if not self._seen:
                self._news.set()
            self._seen[fold(replica.name)] = Seen(replica.name, replica.seen)

    async def settle(self) -> None:
        """Wait until every request so far has been answered."""
        for receipt in list(self._receipts.values()):
            await receipt.done.wait()

    # ------------------------------------------------------------------ connections, one by one

    async def run(self) -> None:
        """Stay connected until cancelled.

        Raises `StartupError` when the first connection fails, for then the address is probably
        wrong, and `Refused` when the server will not have this username or version.
        """
        while True:
            reason = "the connection was closed"
            try:
                await self._connect_once()
            except* (OSError, UnicodeError, trio.BrokenResourceError, trio.TooSlowError) as group:
                reason = explain(root_of(group))
            except* GapError:
                reason = "the server's log had a gap"
            except* ProtocolError as group:
                reason = explain(root_of(group))
            if not self._was_connected:
                raise StartupError(
                    Code.CANNOT_START, f"Cannot connect to {self.address}: {reason}."
                )
            pause = self._pause()
            self._tell.send_nowait(Disconnected(reason, pause))
            await trio.sleep(pause)

    def _pause(self) -> float:
        """Return how long to wait before the next try: longer each time, and never in step."""
        longest = min(FIRST_RETRY_SECONDS * 2**self._failures, LONGEST_RETRY_SECONDS)
        self._failures += 1
        return random.uniform(longest / 2, longest)  # noqa: S311  # jitter, not a secret

    async def _connect_once(self) -> None:
        with trio.fail_after(CONNECT_SECONDS):
            stream = await connect(self.address)
        link = Link(stream)
        try:
            with trio.fail_after(CONNECT_SECONDS):
                await self._introduce(link)
            self._resume(link)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, link)
                nursery.start_soon(self._listen_for_silence, link)
                await self._receive(link)
                nursery.cancel_scope.cancel()
        finally:
            self._link = None
            await self._part(link)

    async def _introduce(self, link: Link) -> None:
        await link.send(encode(Hello(VERSION, self.user, self._slot.client)))
        body = await link.receive()
        if body is None:
            raise trio.BrokenResourceError("the server closed the connection")
        match decode(body, TO_CLIENT):
            case Welcome(_, user):
                self.user = clean_line(user)
                link.introduced()
            case Failed(code, text) | Goodbye(code, text):
                raise _farewell(code, text)
            case _:
                raise ProtocolError(Code.HANDSHAKE, "This does not sound like a tchat server.")

    def _resume(self, link: Link) -> None:
        """Queue, in order, all that the server has to hear after a (new) beginning."""
        self._outgoing.clear()
        for replica in self.groups.values():
            self._attach(replica)
        self._link = link
        for request_id, receipt in self._receipts.items():
            self._outgoing.append(encode(receipt.make(request_id)))
        for replica in self.groups.values():
            seen, replica.seen = replica.seen, 0
            self.mark_seen(replica, seen)
        self._news.set()
        self._tell.send_nowait(Connected(self.user, self._was_connected))
        self._was_connected = True

    async def _part(self, link: Link) -> None:
        """Send the last read positions, if that goes at once, and close."""
        with trio.move_on_after(1, shield=True):
            try:
                if self._seen:
                    await self._send_waiting(link)
                await link.farewell()
            except (trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
                pass
        await trio.aclose_forcefully(link.stream)

    # ------------------------------------------------------------------ sending

    def _request(self, make: Make) -> Receipt:
        self._last_id += 1
        receipt = Receipt(make)
        frame = encode(make(self._last_id))  # made now, so that what cannot be sent fails here
        self._receipts[self._last_id] = receipt
        if self._link is not None:
            self._outgoing.append(frame)
            self._news.set()
        return receipt

    def _attach(self, replica: Replica) -> Receipt:
        """Ask for a group's log behind what is here; one such request at a time is enough."""
        for receipt in self._receipts.values():
            if receipt.make == replica.attach:
                return receipt
        return self._request(replica.attach)

    async def _send_waiting(self, link: Link) -> None:
        """Send what waits; read positions wait until they are sent, for nobody repeats them."""
        frames, seen = b"".join(self._outgoing), dict(self._seen)
        self._outgoing.clear()
        await link.send(frames + encode_all(seen.values()))
        for group, position in seen.items():
            if self._seen[group] is position:
                del self._seen[group]

    async def _send(self, link: Link) -> None:
        while True:
            if not self._outgoing:
                self._news = trio.Event()
                # Read positions are in no hurry: one frame says what a hundred would.
                with trio.move_on_after(SEEN_SECONDS if self._seen else math.inf):
                    await self._news.wait()
            await self._send_waiting(link)

    async def _listen_for_silence(self, link: Link) -> None:
        """Let the other side hear something, and find out when it is gone without a word."""
        while True:
            now = trio.current_time()
            if now - link.heard >= SILENCE_SECONDS + PATIENCE_SECONDS:
                raise trio.BrokenResourceError("nothing was heard from the server")
            quiet = now - min(link.heard, link.said)
            if quiet >= SILENCE_SECONDS:
                self._outgoing.append(encode(Ping()))
                self._news.set()
                await trio.sleep(PATIENCE_SECONDS)
            else:
                await trio.sleep(SILENCE_SECONDS - quiet)

    # ------------------------------------------------------------------ receiving

    async def _receive(self, link: Link) -> None:
        while (body := await link.receive()) is not None:
            try:
                frame = decode(body, TO_CLIENT)
            except UnknownType:
                continue  # a newer server's frame
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, Event | Ok | Pong):
            # The server not only lets us in, it works: only then may the next try be at once.
            self._failures = 0
        match frame:
            case Event():
                self._take_event(frame)
            case Ok(re) | Attached(re) | Ticket(re):
                self._take_answer(re, frame)
            case Failed(code, text, re):
                self._take_failure(code, text, re)
            case Presence():
                replica = self.groups.get(fold(frame.group))
                if replica is not None:
                    replica.take_presence(frame)
                    self._tell.send_nowait(PresenceChanged(replica))
            case Membership():
                self._take_membership(frame)
            case Goodbye(code, text):
                raise _farewell(code, text)

    def _take_event(self, event: Event) -> None:
        replica = self.groups.get(fold(event.group))
        if replica is None or not replica.take(event):
            return
        unseen = event.seq > replica.read
        self._tell.send_nowait(Happened(replica, event, unseen))
        if event.seq == replica.head:
            self._tell.send_nowait(CaughtUp(replica))

    def _take_answer(self, re: int, answer: Answer) -> None:
        if isinstance(answer, Attached):
            self._take_attached(answer)
        receipt = self._receipts.pop(re, None)
        if receipt is not None:
            receipt.answer = answer
            receipt.done.set()

    def _take_attached(self, answer: Attached) -> None:
        replica = self.groups.get(fold(answer.group))
        if replica is None:
            return
        self._slot.skip_to(answer.counted)
        before = replica.standing
        if not replica.attached(answer):
            raise GapError
        if replica.standing != before:
            self._tell.send_nowait(StandingChanged(replica, None))
        if replica.caught_up:
            self._tell.send_nowait(CaughtUp(replica))

    def _take_failure(self, code: str, text: str, re: int | None) -> None:
        if re is None:
            raise _farewell(code, text)
        receipt = self._receipts.pop(re, None)
        if receipt is not None:
            receipt.failure = Refused(clean_line(code), clean_line(text))
            receipt.done.set()

    def _take_membership(self, news: Membership) -> None:
        replica = self.groups.get(fold(news.group))
        if replica is None:
            return
        if news.standing == "member":
            self._attach(replica)
            return
        replica.standing = news.standing
        replica.online = {}
        self._tell.send_nowait(StandingChanged(replica, news))


@asynccontextmanager
async def open_session(address: Address, user: str, slot: Slot) -> AsyncIterator[Session]:
    """Run a session for the length of the block. Raises `Refused` for a name that cannot be."""
    session = Session(address, user, slot)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        yield session
        nursery.cancel_scope.cancel()


def _farewell(code: str, text: str) -> Exception:
    """Return the exception for a server that ends the connection: one to survive, or the end."""
    sentence = clean_line(text)
    return Refused(code, sentence) if code in _FINAL else trio.BrokenResourceError(sentence)

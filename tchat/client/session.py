"""A session: one person's connection to a server, for as long as it takes.

It connects, says hello, and follows groups; when the connection breaks it connects again, with
growing and random pauses, attaches each group behind the last event it has, and sends again
every request that was not answered. A request keeps its number, so the server does it once
however often it arrives: to the caller of `request`, a broken connection is only a delay.

What may be said, how fast, and in what order is the business of `sending`; which server this is,
of `connector`; who the person is, of the identity, which proves it on every connection.

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

from tchat.client.introduction import Account, Busy, farewell, introduce
from tchat.client.receipt import Answer, Make, MakeCommand, Receipt
from tchat.client.replica import GapError, Replica
from tchat.client.sending import Sender
from tchat.client.updates import (
    CaughtUp,
    Connected,
    Disconnected,
    Happened,
    PresenceChanged,
    ServerMet,
    StandingChanged,
    Update,
)
from tchat.core.commands import Join, Post
from tchat.core.events import Event
from tchat.core.frames import (
    TO_CLIENT,
    Alike,
    Attached,
    Failed,
    Goodbye,
    Held,
    KeyList,
    LinkCode,
    Membership,
    Ok,
    Ping,
    Pong,
    Presence,
    Seen,
    Shelf,
    Ticket,
    UnknownType,
    decode,
    encode,
)
from tchat.core.text import check_name, check_text, clean_line, fold
from tchat.errors import Code, ProtocolError, Refused, StartupError, root_of
from tchat.net.address import explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.client.connector import Connector
    from tchat.core.handshake import Welcome
    from tchat.core.schema import Frame
    from tchat.net.link import Link

FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 15.0
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 20.0
PATIENCE_SECONDS = 8.0
LONGEST_WAIT_SECONDS = 60.0


class Session:
    """One person on one server. Made by `open_session`, which also runs it."""

    def __init__(self, connector: Connector, account: Account) -> None:
        self.connector = connector
        self.user = check_name(account.user, "username")
        self.groups: dict[str, Replica] = {}
        self.updates: trio.MemoryReceiveChannel[Update]
        # Unbounded, since whoever shows updates may also be waiting for an answer that comes
        # behind them; the replicas hold the same events anyway.
        self._tell, self.updates = trio.open_memory_channel[Update](math.inf)
        self._account = account
        self._sender = Sender(account.slot.count, self._refuse)
        self._receipts: dict[int, Receipt] = {}
        self._last_id = 0
        self._link: Link | None = None
        self._failures = 0
        self._was_connected = False

    @property
    def connected(self) -> bool:
        """Whether a connection stands at this moment."""
        return self._link is not None

    @property
    def key(self) -> bytes:
        """The public key that proves who this is (Ed25519, 32 bytes)."""
        return self._account.identity.public

    @property
    def unanswered(self) -> int:
        """How many requests wait for their answers."""
        return len(self._receipts)

    # ------------------------------------------------------------------ what callers do

    def submit(self, make: MakeCommand) -> Receipt:
        """Send a command as soon as may be; `make` gets its id and its number."""
        return self._request(make, command=True)

    def post(self, replica: Replica, text: str) -> Receipt:
        """Say something to a group. Raises `Refused` for a text that cannot be a message."""
        check_text(text)
        return self.submit(lambda i, n: Post(i, n, replica.name, text))

    async def request(self, make: MakeCommand) -> Answer:
        """Send a command and return its answer. Raises `Refused`."""
        return await self.submit(make).wait()

    async def ask(self, make: Make) -> Answer:
        """Send a request that changes no log and return its answer. Raises `Refused`."""
        return await self._request(make, command=False).wait()

    def follow(self, group: str) -> Replica:
        """Return the replica of a group, a new one if need be. Raises `Refused` (bad_name)."""
        name = check_name(group, "group name")
        return self.groups.setdefault(fold(name), Replica(name))

    async def enter(
        self, group: str, *, although_kicked: bool = False, invite: bytes | None = None
    ) -> Replica:
        """Follow a group; found it, or ask to join it, unless one is a member or has asked.

        One who was kicked asks again only on purpose. With an invite (its token), one is let in.
        Returns when the server has said which it is: see the replica's `standing`.
        """
        replica = self.follow(group)
        await self._attach(replica).wait()
        asks = replica.standing == "outsider" and (although_kicked or not replica.kicked)
        if asks or (invite is not None and replica.standing != "member"):
            await self.request(lambda i, n: Join(i, n, replica.name, invite))
            await self._attach(replica).wait()
        return replica

    def mark_seen(self, replica: Replica, seq: int) -> None:
        """Let the server know that the person has seen a group's events up to `seq`."""
        if seq > replica.seen and replica.standing == "member":
            replica.seen = seq
            self._sender.note_seen(Seen(replica.name, seq))

    async def settle(self) -> None:
        """Wait until every request so far has been answered."""
        for receipt in list(self._receipts.values()):
            await receipt.done.wait()

    # ------------------------------------------------------------------ connections, one by one

    async def run(self) -> None:
        """Stay connected until cancelled.

        Raises `StartupError` when the first connection fails, for then the address is probably
        wrong, and `Refused` when it is no use to try again: the server will not have this person
        or version, or is not the one that was meant.
        """
        while True:
            reason, busy = "the connection was closed", False
            try:
                await self._connect_once()
            except* (OSError, UnicodeError, trio.BrokenResourceError, trio.TooSlowError) as group:
                reason = explain(root_of(group))
            except* GapError:
                reason = "the server's log had a gap"
            except* ProtocolError as group:
                reason = explain(root_of(group))
            except* Busy as group:
                reason = explain(root_of(group))
                busy = True
            if not self._was_connected and not busy:
                raise StartupError(
                    Code.CANNOT_START, f"Cannot connect to {self.connector.address}: {reason}."
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
            link = await self.connector.open()
        try:
            with trio.fail_after(CONNECT_SECONDS):
                welcome = await introduce(link, self._account)
            self._resume(link, welcome)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sender.run, link)
                nursery.start_soon(self._listen_for_silence, link)
                await self._receive(link)
                nursery.cancel_scope.cancel()
        finally:
            self._link = None
            await self._part(link)

    def _resume(self, link: Link, welcome: Welcome) -> None:
        """Queue, in order, all that the server has to hear after a (new) beginning."""
        link.introduced()
        self.user = clean_line(welcome.user)
        for replica in self.groups.values():
            self._attach(replica)
        self._link = link
        self._sender.restart(welcome, self._receipts.values())
        for replica in self.groups.values():
            seen, replica.seen = replica.seen, 0
            self.mark_seen(replica, seen)
        if (met := self.connector.remember()) is not None:
            self._tell.send_nowait(ServerMet(met))
        self._tell.send_nowait(Connected(self.user, self._was_connected))
        self._was_connected = True

    async def _part(self, link: Link) -> None:
        """Send the last read positions, if that goes at once, and close."""
        with trio.move_on_after(1, shield=True):
            try:
                await self._sender.send_rest(link)
                await link.farewell()
            except (trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
                pass
        await trio.aclose_forcefully(link.stream)

    # ------------------------------------------------------------------ sending

    def _request(self, make: Make | MakeCommand, *, command: bool) -> Receipt:
        self._last_id += 1
        receipt = Receipt(self._last_id, make, command=command)
        receipt.encode()  # so that what cannot be sent fails here
        self._receipts[receipt.id] = receipt
        if self._link is not None:
            self._sender.put(receipt)
        return receipt

    def _attach(self, replica: Replica) -> Receipt:
        """Ask for a group's log behind what is here; one such request at a time is enough."""
        for receipt in self._receipts.values():
            if receipt.make == replica.attach:
                return receipt
        return self._request(replica.attach, command=False)

    async def _listen_for_silence(self, link: Link) -> None:
        """Let the other side hear something, and find out when it is gone without a word."""
        while True:
            now = trio.current_time()
            if now - link.heard >= SILENCE_SECONDS + PATIENCE_SECONDS:
                raise trio.BrokenResourceError("nothing was heard from the server")
            quiet = now - min(link.heard, link.said)
            if quiet >= SILENCE_SECONDS:
                self._sender.put_urgent(encode(Ping()))
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
            case Ok() | Attached() | LinkCode() | KeyList() | Ticket() | Alike() | Held() | Shelf():
                self._take_answer(frame)
            case Failed():
                self._take_failure(frame)
            case Presence():
                replica = self.groups.get(fold(frame.group))
                if replica is not None:
                    replica.take_presence(frame)
                    self._tell.send_nowait(PresenceChanged(replica))
            case Membership():
                self._take_membership(frame)
            case Goodbye(code, text):
                raise farewell(code, text)

    def _take_event(self, event: Event) -> None:
        replica = self.groups.get(fold(event.group))
        if replica is None or not replica.take(event):
            return
        unseen = event.seq > replica.read
        self._tell.send_nowait(Happened(replica, event, unseen))
        if event.seq == replica.head:
            self._tell.send_nowait(CaughtUp(replica))

    def _take_answer(self, answer: Answer) -> None:
        if isinstance(answer, Attached):
            self._take_attached(answer)
        receipt = self._receipts.pop(answer.re, None)
        if receipt is not None:
            receipt.succeed(answer)
            self._sender.settle(receipt)

    def _take_attached(self, answer: Attached) -> None:
        replica = self.groups.get(fold(answer.group))
        if replica is None:
            return
        self._account.slot.skip_to(answer.counted)
        before = replica.standing
        if not replica.attached(answer):
            raise GapError
        if replica.standing != before:
            self._tell.send_nowait(StandingChanged(replica, None))
        if replica.caught_up:
            self._tell.send_nowait(CaughtUp(replica))

    def _take_failure(self, failed: Failed) -> None:
        if failed.re is None:
            raise farewell(failed.code, failed.text)
        receipt = self._receipts.get(failed.re)
        if receipt is None:
            return
        if failed.code == Code.RATE_LIMITED and failed.wait is not None:
            self._sender.put_back(receipt, min(failed.wait / 1000, LONGEST_WAIT_SECONDS))
            return
        self._refuse(receipt, Refused(clean_line(failed.code), clean_line(failed.text)))

    def _refuse(self, receipt: Receipt, refusal: Refused) -> None:
        del self._receipts[receipt.id]
        receipt.fail(refusal)
        self._sender.settle(receipt)

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
async def open_session(connector: Connector, account: Account) -> AsyncIterator[Session]:
    """Run a session for the length of the block."""
    session = Session(connector, account)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        yield session
        nursery.cancel_scope.cancel()

"""A session: one person's connection to a server, for as long as it takes.

It connects, says hello, and follows groups; when the connection breaks it connects again, with
growing and random pauses, attaches each group behind the last event it has, and sends again
every request that was not answered. To the caller of `request`, a broken connection is only a
delay; and what was posted survives the program as well.

Four things are kept apart. *Requests* wait for one answer and survive connections. *Groups*
are followed, each as a replica. *Deliveries* are messages that are not in a log yet, from when
they are typed, and survive the program in the *outbox*. *Updates* tell whoever shows the session
what happened, in order. What may be sent, how fast, and in what order is the business of
`sending`; which server this is, of `connector`; who the person is, of the identity, which proves
it on every connection. The session has no screen and never prints; both UIs and every bot stand
on it.
"""

from __future__ import annotations

import math
import random
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.client.authenticate import Account, Busy, farewell, introduce
from tchat.client.delivery import Delivery
from tchat.client.history import MyGroup, read_found, read_groups, read_page
from tchat.client.replica import GapError, Replica
from tchat.client.request import Answer, Make, MakeCommand, PendingMessage, PendingRequest
from tchat.client.request_queue import Requests
from tchat.client.subscriptions import FollowedGroups, News
from tchat.client.updates import Connected, Disconnected, ServerMet, Update
from tchat.core.group.commands import Join
from tchat.core.group.direct import direct_name
from tchat.core.group.events import Event
from tchat.core.protocol.frames import (
    TO_CLIENT,
    Attached,
    Away,
    Detach,
    Failed,
    Goodbye,
    GroupsRequest,
    HistoryRequest,
    Ok,
    Ping,
    Pong,
    Search,
    SearchResults,
    Seen,
    UnknownType,
    decode,
    encode,
)
from tchat.core.text import check_name, clean_line, fold
from tchat.errors import Code, ProtocolError, Refused, StartupError, root_of
from tchat.net.address import explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.client.connector import Connector
    from tchat.core.protocol.handshake import Welcome
    from tchat.core.protocol.schema import Frame
    from tchat.net.link import Link

FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 15.0
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 20.0
PATIENCE_SECONDS = 8.0


class Session:
    """One person on one server. Made by `open_session`, which also runs it."""

    def __init__(self, connector: Connector, account: Account, recent: int | None = None) -> None:
        self.connector = connector
        self.user = check_name(account.user, "username")
        self.groups: dict[str, Replica] = {}
        self.updates: trio.MemoryReceiveChannel[Update]
        # Unbounded, since whoever shows updates may also be waiting for an answer that comes
        # behind them; the replicas hold the same events anyway.
        channel, self.updates = trio.open_memory_channel[Update](math.inf)
        self._tell = channel.send_nowait
        self._account = account
        slot, servers = account.slot, connector.names()
        self._requests = requests = Requests(slot)
        self._delivery = Delivery(slot, self.user, servers, requests, self.groups, self._tell)
        self._following = FollowedGroups(
            self.user, self.groups, slot, requests, self._delivery, self._tell, recent
        )
        self._away: tuple[Make, PendingRequest] | None = None
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
        return len(self._requests)

    # ------------------------------------------------------------------ asking and saying

    def submit(self, make: MakeCommand) -> PendingRequest:
        """Send a command as soon as may be; `make` gets its id and its number."""
        return self._requests.submit(make)

    async def request(self, make: MakeCommand) -> Answer:
        """Send a command and return its answer. Raises `Refused`."""
        return await self.submit(make).wait()

    async def ask(self, make: Make) -> Answer:
        """Send a request that changes no log and return its answer. Raises `Refused`."""
        return await self._requests.ask(make).wait()

    async def settle(self) -> None:
        """Wait until every request so far has been answered."""
        await self._requests.settle()

    def post(self, replica: Replica, text: str, reply: int | None = None) -> PendingMessage:
        """Say something to a group, perhaps in reply to an event of it.

        It is in `replica.pending` until it is in the log, and survives the end of the program.
        Raises `Refused` for a text that cannot be a message, or if it cannot be kept on disk.
        """
        return self._delivery.post(replica.name, text, reply)

    def resend(self, pending: PendingMessage) -> PendingMessage:
        """Send a message that was refused once more. Raises `Refused` if it cannot be kept."""
        return self._delivery.resend(pending)

    def discard(self, pending: PendingMessage) -> None:
        """Let go of a message that was refused, or not sent yet. Raises `Refused` for others."""
        self._delivery.discard(pending)

    async def set_away(self, text: str | None) -> None:
        """Let others see that one is away, and why, or back; also after each reconnection.

        Raises `Refused`.
        """
        make = partial(Away, text=text)
        receipt = self._requests.ask(make)
        self._away = None if text is None else (make, receipt)
        await receipt.wait()

    # ------------------------------------------------------------------ groups

    def follow(self, group: str) -> Replica:
        """Return the replica of a group, a new one if need be. Raises `Refused` (bad_name)."""
        return self._following.follow(group)

    def unfollow(self, replica: Replica) -> None:
        """Hear no more of a group, and forget what is here of it; one stays what one is to it."""
        if self._following.unfollow(replica) and self._link is not None:
            self._requests.sender.put_urgent(encode(Detach(replica.name)))

    async def enter(
        self, group: str, *, although_kicked: bool = False, invite: bytes | None = None
    ) -> Replica:
        """Follow a group; found it, or ask to join it, unless one is a member or has asked.

        One who was kicked asks again only on purpose. With an invite (its token), one is let in.
        Returns when the server has said which it is: see the replica's `standing`.
        """
        replica = self.follow(group)
        await self._following.attach(replica).wait()
        asks = replica.standing == "outsider" and (although_kicked or not replica.kicked)
        if asks or (invite is not None and replica.standing != "member"):
            await self.request(lambda i, n: Join(i, n, replica.name, invite))
            await self._following.attach(replica).wait()
        return replica

    async def write_to(self, name: str) -> Replica:
        """Follow one's conversation with somebody. Raises `Refused` if there cannot be one."""
        group = direct_name(self.user, check_name(name, "username"))
        known = fold(group) in self.groups
        replica = self.follow(group)
        try:
            await self._following.attach(replica).wait()
        except Refused:
            if not known:
                self.unfollow(replica)
            raise
        return replica

    async def my_groups(self) -> list[MyGroup]:
        """Return the groups in which one is, or asks to be. Raises `Refused`."""
        return read_groups(await self._requests.ask(GroupsRequest, read_groups).wait())

    async def search(self, text: str, group: str | None = None, skip: int = 0) -> SearchResults:
        """Return messages with all words of `text`, the newest first, but for the first `skip`.

        In all of one's groups, unless one is named. Raises `Refused`.
        """
        make = partial(Search, text=text, group=group, skip=skip)
        return read_found(await self._requests.ask(make, read_found).wait())

    async def load_past(self, replica: Replica) -> int:
        """Put the events that come before a log in front of it, a page of them at a time.

        Returns how many have come: 0 at the beginning of what one may read. Raises `Refused`.
        """
        if replica.at_beginning:
            return 0
        first = replica.first
        await self._following.ask_past(replica).wait()
        return max(first - replica.first, 0)

    async def events_until(self, replica: Replica, seq: int) -> list[Event]:
        """Return a page of events that ends with event `seq`, without touching the log.

        Empty if the person may not read that event. Raises `Refused`.
        """
        make = partial(HistoryRequest, group=replica.name, before=seq + 1)
        read = partial(read_page, group=replica.name, before=seq + 1)
        return read(await self._requests.ask(make, read).wait())

    def mark_seen(self, replica: Replica, seq: int) -> None:
        """Let the server know that the person has seen a group's events up to `seq`."""
        if seq > replica.seen and replica.standing == "member":
            replica.seen = seq
            self._requests.sender.note_seen(Seen(replica.name, seq))

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
            self._tell(Disconnected(reason, pause))
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
                nursery.start_soon(self._requests.sender.run, link)
                nursery.start_soon(self._listen_for_silence, link)
                await self._receive(link)
                nursery.cancel_scope.cancel()
        finally:
            self._link = None
            self._requests.disconnected()
            await self._part(link)

    def _resume(self, link: Link, welcome: Welcome) -> None:
        """Queue, in order, all that the server has to hear after a (new) beginning."""
        link.introduced()
        self.user = clean_line(welcome.user)
        for replica in self.groups.values():
            self._following.attach(replica)
        if self._away is not None and self._away[1].answer is not None:
            make, _ = self._away
            self._away = make, self._requests.ask(make)
        self._link = link
        self._requests.connected(welcome)
        for replica in self.groups.values():
            seen, replica.seen = replica.seen, 0
            self.mark_seen(replica, seen)
        if (met := self.connector.remember()) is not None:
            self._tell(ServerMet(met))
        self._tell(Connected(self.user, self._was_connected))
        self._was_connected = True

    async def _part(self, link: Link) -> None:
        """Send the last read positions, if that goes at once, and close."""
        with trio.move_on_after(1, shield=True):
            try:
                await self._requests.sender.send_rest(link)
                await link.farewell()
            except (trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
                pass
        await trio.aclose_forcefully(link.stream)

    async def _listen_for_silence(self, link: Link) -> None:
        """Let the other side hear something, and find out when it is gone without a word."""
        while True:
            now = trio.current_time()
            if now - link.heard >= SILENCE_SECONDS + PATIENCE_SECONDS:
                raise trio.BrokenResourceError("nothing was heard from the server")
            quiet = now - min(link.heard, link.said)
            if quiet >= SILENCE_SECONDS:
                self._requests.sender.put_urgent(encode(Ping()))
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
        if isinstance(frame, Attached):
            self._following.take_attached(frame)
        if isinstance(frame, News):
            self._following.take(frame)
        elif isinstance(frame, Answer):
            self._requests.take_answer(frame)
        elif isinstance(frame, Failed) and frame.re is not None:
            self._requests.take_failure(frame)
        elif isinstance(frame, Failed | Goodbye):
            raise farewell(frame.code, frame.text)


@asynccontextmanager
async def open_session(
    connector: Connector, account: Account, recent: int | None = None
) -> AsyncIterator[Session]:
    """Run a session for the length of the block.

    With `recent`, a group of which nothing is here yet comes as it is, with so many of its latest
    events, or more if the person has not seen these; without, with its whole log.
    """
    session = Session(connector, account, recent)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        yield session
        nursery.cancel_scope.cancel()

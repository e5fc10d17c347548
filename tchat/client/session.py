"""Client session: one connection after another; resumes groups and requests, sends keepalives.

When a connection breaks, the session connects again with exponential backoff and resumes: it
attaches each followed group after the last event that it has (catch-up), and sends every
unanswered request again, with its old id and number, so that the server deduplicates. To the caller
of `request`, a broken connection is only a delay; posted messages survive a restart of the program.

A session has four parts. *Requests* wait for one answer, across connections (`request_tracker`,
`sender`). *Groups* are followed, each as a `replica` (`subscriptions`). *Messages* are pending from
when they are typed until they are in the log; the *journal* keeps them across restarts (`delivery`,
`journal`). *Updates* report what has changed, in order. On each connection, the connector verifies
the server, and the handshake proves the person's identity.

A session never prints: both user interfaces and all bots are built on it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.client.authenticate import Account, Busy, authenticate, closing_error
from tchat.client.backoff import Backoff
from tchat.client.bounds import check_bounds, exceeded
from tchat.client.client_id import is_in_a_journal
from tchat.client.clock import ClientClock
from tchat.client.delivery import Delivery
from tchat.client.history import read_found, read_groups, read_keys, read_page
from tchat.client.replica import GapError, Replica
from tchat.client.request import Answer, MakeCommand, MakeRequest, PendingRequest
from tchat.client.request_tracker import LONGEST_WAIT_SECONDS, RequestTracker
from tchat.client.subscriptions import FollowedGroups, News
from tchat.client.update_queue import UpdateQueue
from tchat.client.updates import (
    AllAnswered,
    Connected,
    Disconnected,
    KeyLinked,
    KeyRotated,
    KeyUnlinked,
    NewServer,
)
from tchat.core.group.direct import direct_name, is_direct, other_of
from tchat.core.group.membership import Join
from tchat.core.protocol.frames import (
    Attached,
    Away,
    Detach,
    Failed,
    Goodbye,
    GroupsRequest,
    GroupSummary,
    HistoryRequest,
    KeyAdded,
    KeyRemoved,
    KeysRequest,
    NameKey,
    Ping,
    Pong,
    Search,
    SearchResults,
    UnknownType,
    decode,
    encode,
)
from tchat.core.text import check_name, clean_line, fold
from tchat.core.vocabulary import TO_CLIENT
from tchat.errors import Code, ProtocolError, Refused, Unavailable, root_of
from tchat.net.tcp import explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from tchat.client.connector import Connector
    from tchat.client.journal import Journal
    from tchat.client.pending_message import PendingMessage
    from tchat.client.program_state import KeyedMessage, ProgramState
    from tchat.client.retention import Retention
    from tchat.core.group.feature import Event
    from tchat.core.protocol.handshake import Welcome
    from tchat.core.protocol.schema import Frame
    from tchat.net.address import Address
    from tchat.net.link import Link

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 20.0
"""Seconds without a frame in either direction after which a ping is sent (keepalive)."""

PATIENCE_SECONDS = 8.0
"""Seconds without an answer to a ping after which the connection counts as broken."""

STABLE_SECONDS = 30.0
"""How long a connection lasts before the next one that breaks is replaced without a delay."""

MOST_KEY_CHANGES = 100
"""Most keys of a name that a server says were added or removed, on one connection.

Each is told to the person, and recorded on disk.
"""

_MOST_UNREAD = 1 << 20
"""Bytes from the server in the system: 4 MB/s over a connection with a round trip of 200 ms."""

_SLICE_SECONDS = 0.01  # for handling frames, until other tasks get their turn
_CHECK_SECONDS = 0.1  # until the next look at whether requests are unanswered
_HISTORY_TRIES = 3  # to load a page before a log that is trimmed meanwhile
_OTHERS_SECONDS = 0.1  # until the next look at what other processes have sent

CONNECT_ERRORS = (
    *(OSError, UnicodeError, ProtocolError),
    *(trio.BrokenResourceError, trio.TooSlowError),
)
"""The errors of a connection, or of an attempt to make one; `explain` has a sentence for each."""


def unavailable(address: Address, reason: str) -> Unavailable:
    """Return the error of a server that cannot be reached."""
    return Unavailable(Code.CANNOT_START, f"Cannot connect to {address}: {reason}.")


class Session:
    """One person on one server. Made by `open_session`, which also runs it.

    `owner` identifies both in the names of local files, as exactly as the key that the server gets.
    """

    def __init__(
        self,
        connector: Connector,
        account: Account,
        recent: int | None = None,
        *,
        unread: bool = True,
        persistent: bool = False,
    ) -> None:
        self.connector = connector
        self.user = check_name(account.user, "username")
        self.groups: dict[str, Replica] = {}
        self.updates = UpdateQueue()
        self._notify = self.updates.put
        self._account = account
        self.clock = ClientClock()
        """The server's time, in ms since the Unix epoch."""
        client_id, servers = account.client_id, connector.names()
        self.owner = f"{connector.server_names().key}\0{fold(self.user)}"
        self._requests = requests = RequestTracker(client_id, partial(self._notify, AllAnswered()))
        self._delivery = Delivery(
            client_id, self.user, servers, requests, self.groups, self._notify, self.clock
        )
        self._following = FollowedGroups(
            self.user,
            self.groups,
            client_id,
            requests,
            self._delivery,
            self._notify,
            recent,
            unread=unread,
            clock=self.clock,
        )
        self._away: tuple[MakeRequest, PendingRequest] | None = None
        self._link: Link | None = None
        self._link_changed = trio.Event()
        self._backoff = Backoff()
        self._was_connected = False
        self._is_reading = True
        self._key_changes = 0
        self._persistent = persistent

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._link is not None

    async def wait_for_connection(self, *, present: bool = True) -> None:
        """Wait until there is a connection, or none."""
        while self.connected is not present:
            await self._link_changed.wait()

    @property
    def reached(self) -> bool:
        """Whether there has been a connection since the session began."""
        return self._was_connected

    @property
    def key(self) -> bytes:
        """The person's public key (Ed25519, 32 bytes)."""
        return self._account.identity.public

    @property
    def programs(self) -> ProgramState:
        """What programs of this directory remember between runs."""
        return self._account.client_id.programs

    @property
    def unanswered(self) -> int:
        """The number of requests without an answer."""
        return len(self._requests)

    @property
    def awaited(self) -> object:
        """What the server still has to send, and how far it has come; None if it has sent all.

        Two values that are equal mean that meanwhile the server has sent nothing of that: other
        frames are no progress, nor are events if it announces more of them than it sends.
        """
        if not self._requests.only_attaches:
            return "answers", self._requests.answered
        groups = self.groups.values()
        if self._requests or any(one.standing == "member" and not one.caught_up for one in groups):
            return "events", sum(one.advances for one in groups)
        return None

    # ------------------------------------------------------------------ requests and messages

    def submit(self, make: MakeCommand) -> PendingRequest:
        """Send a command without waiting; `make` gets its id and its number."""
        return self._requests.submit(make)

    async def request(self, make: MakeCommand) -> Answer:
        """Send a command and return its answer. Raises `Refused`."""
        return await self.submit(make).wait()

    async def ask(self, make: MakeRequest) -> Answer:
        """Send a request that changes no log and return its answer. Raises `Refused`."""
        return await self._requests.ask(make).wait()

    async def wait_for_answers(self) -> None:
        """Wait until every request so far has been answered."""
        await self._requests.wait_for_all()

    def post(
        self,
        replica: Replica,
        text: str,
        reply: int | None = None,
        *,
        held: bool = False,
        stamp: bytes | None = None,
    ) -> PendingMessage:
        """Send a message to a group; `reply` is the seq of a message that it replies to.

        With the `stamp` of that message, it is refused (log_replaced) if another one has that seq
        when the server gets it (see `core.group.log_digest`).
        It is in `replica.pending` until it is in the log, and survives the end of the program. If
        it is `held`, it is sent when it is released, or once the person is a member of the group.
        Raises `Refused` if the text is not valid, or cannot be saved in the journal.
        """
        return self._delivery.post(replica.name, text, reply, held=held, stamp=stamp)

    def release(self, pending: PendingMessage) -> None:
        """Send a held message; do nothing if it is not held any more."""
        self._delivery.release(pending)

    async def post_once(
        self,
        replica: Replica,
        text: str,
        once: str,
        reply: int | None = None,
        stamp: bytes | None = None,
    ) -> PendingMessage | KeyedMessage:
        """Send a message unless one with the key `once` was sent to the group by this person.

        Returns the message, or where the earlier one is. It does not
        matter which process sent that, and whether it was killed meanwhile: see `program_state`.
        Raises `Refused`.
        """
        client_id, servers = self._account.client_id, self.connector.names()
        place = self.user, replica.name, once
        while True:
            with client_id.programs.exclusive():
                if (stored := client_id.programs.posted(servers, *place)) is not None:
                    return stored
                if own := self._delivery.find_once(replica.name, once):
                    return own
                if not is_in_a_journal(client_id, self.user, servers, replica.name, once):
                    return self._delivery.post(replica.name, text, reply, once, stamp=stamp)
            await trio.sleep(_OTHERS_SECONDS)

    def record_stamp(self, replica: Replica, once: str, stored: KeyedMessage) -> None:
        """Save by what the message with the key `once` is recognised; at worst it is not saved."""
        with suppress(Refused):
            self._account.client_id.programs.record_stamp(
                self.connector.names(), self.user, replica.name, once, stored
            )

    def resend(self, pending: PendingMessage) -> PendingMessage:
        """Send a refused message again. Raises `Refused` if it cannot be saved."""
        return self._delivery.resend(pending)

    def discard(self, pending: PendingMessage) -> None:
        """Delete a refused or unsent message. Raises `Refused` if it may have been sent."""
        self._delivery.discard(pending)

    def refused(self) -> list[list[PendingMessage]]:
        """Return the refused messages of each group that has any."""
        return self._delivery.refused()

    def held(self) -> list[str]:
        """Return the groups with held messages."""
        return self._delivery.held()

    def waiting(self) -> list[list[PendingMessage]]:
        """Return the messages of each group that has any which are not stored, and not refused."""
        return self._delivery.waiting()

    async def wait_until_sent(self) -> None:
        """Wait until the server has answered every message that could be sent so far."""
        await self._delivery.wait_until_sent()

    def unsent(self) -> str:
        """Return a sentence about the messages that wait, or were refused; "" without any."""
        waiting, refused = self.waiting(), self.refused()
        sentences = []
        if waiting:
            sentences.append(
                f"Not sent yet, but kept and sent the next time: {self._counts(waiting)}."
            )
        if given_up := [own for one in refused if (own := [p for p in one if not p.is_waiting])]:
            reason = given_up[-1][-1].failure
            sentences.append(
                f"Refused, and kept until they are sent again or discarded in the chat:"
                f" {self._counts(given_up)}, the last because: {reason}"
            )
        return clean_line(" ".join(sentences))

    def _counts(self, groups: list[list[PendingMessage]]) -> str:
        """Return how many messages there are to which groups or people."""
        counts = []
        for messages in groups:
            group, count = messages[0].group, len(messages)
            title = f"@{other_of(group, self.user)}" if is_direct(group) else f"#{group}"
            counts.append(f"{count} message{'s' * (count > 1)} to {title}")
        return ", ".join(counts)

    def take_over(self, journal: Journal, servers: Collection[str]) -> None:
        """Move the refused and held messages of another journal here. Raises `Refused`."""
        self._delivery.take_over(journal, servers)

    async def set_away(self, text: str | None) -> None:
        """Set the person's presence: away for the reason `text`, or back with None.

        It is set again after each reconnection. Raises `Refused`.
        """
        make = partial(Away, text=text)
        request = self._requests.ask(make)
        self._away = None if text is None else (make, request)
        await request.wait()

    # ------------------------------------------------------------------ groups

    def set_retention(self, retention: Retention) -> None:
        """Bound what the replicas keep in memory of the logs, otherwise than for a person."""
        self._following.trimmer.retention = retention

    def follow(self, group: str) -> Replica:
        """Return the replica of a group, a new one if need be. Raises `Refused` (bad_name)."""
        return self._following.follow(group)

    def unfollow(self, replica: Replica) -> None:
        """Stop following a group and drop its replica; the membership does not change."""
        if self._following.unfollow(replica) and self._link is not None:
            self._requests.sender.send_urgent(encode(Detach(replica.name)))

    async def enter(
        self,
        group: str,
        *,
        although_kicked: bool = False,
        invite: bytes | None = None,
        create: bool = True,
        join: bool = True,
    ) -> Replica:
        """Follow a group; ask to join it, or found it, unless already a member or waiting.

        A person who was kicked asks again only with `although_kicked`. With an `invite` token,
        no approval is needed. Without `create`, a group that does not exist is refused
        (no_such_group). Without `join`, nothing is asked: the person's standing stays as it is.
        Returns when the replica's `standing` is known.
        """
        replica = self.follow(group)
        await self._following.request_attach(replica).wait()
        if not join:
            return replica
        asks = replica.standing == "outsider" and (although_kicked or not replica.kicked)
        if asks or (invite is not None and replica.standing != "member"):
            may_create = None if create else False
            await self.request(lambda i, n: Join(i, n, replica.name, invite, may_create))
            await self._following.request_attach(replica).wait()
        return replica

    async def write_to(self, name: str) -> Replica:
        """Follow the direct conversation with a person. Raises `Refused`."""
        group = direct_name(self.user, check_name(name, "username"))
        known = fold(group) in self.groups
        replica = self.follow(group)
        try:
            await self._following.request_attach(replica).wait()
        except Refused:
            if not known:  # there is no such person, or no common group
                self.unfollow(replica)
            raise
        return replica

    async def my_groups(self) -> list[GroupSummary]:
        """Return the groups that the person is a member of or waits for. Raises `Refused`."""
        read = partial(read_groups, self.user)
        return read(await self._requests.ask(GroupsRequest, read).wait())

    async def my_keys(self) -> tuple[NameKey, ...]:
        """Return the keys of the person's name, the oldest first. Raises `Refused`."""
        return read_keys(await self._requests.ask(KeysRequest, read_keys).wait())

    async def search(self, text: str, group: str | None = None, skip: int = 0) -> SearchResults:
        """Search for messages with all words of `text`, the newest first, without the first `skip`.

        Without a group, search in all groups of the person. Raises `Refused`.
        """
        make = partial(Search, text=text, group=group, skip=skip)
        read = partial(read_found, self.user)
        return read(await self._requests.ask(make, read).wait())

    async def load_history(self, replica: Replica) -> int:
        """Load one page of earlier events into a replica, and return the number of events.

        Returns 0 at the beginning of what the person may read. Raises `Refused`.
        """
        gained = 0
        for _ in range(_HISTORY_TRIES):
            if replica.at_beginning:
                return 0
            first = replica.first
            await self._following.request_history(replica).wait()
            gained = first - replica.first
            if gained >= 0:
                break  # else the log was trimmed meanwhile, and the page does not fit to it
        return max(gained, 0)

    async def events_until(self, group: str, seq: int) -> list[Event]:
        """Return a page of a group's events that ends with event `seq`, without following it.

        The page is empty if the person may not read that event. Raises `Refused`.
        """
        make = partial(HistoryRequest, group=group, before=seq + 1)
        read = partial(read_page, group=group, before=seq + 1)
        return read(await self._requests.ask(make, read).wait())

    def mark_seen(self, replica: Replica, seq: int) -> None:
        """Move the person's read position in a group to `seq`: events up to `seq` are read."""
        self._following.mark_seen(replica, seq)

    # ------------------------------------------------------------------ connections

    async def run(self) -> None:
        """Stay connected until cancelled; reconnect with backoff.

        Raises `Unavailable` when the first connection fails, since the address is probably wrong
        then, unless the session is persistent, and `Refused` when retrying is useless: the server
        rejects this person or protocol version, or its key does not match.
        """
        while True:
            reason, busy, wait = "the connection was closed", False, 0.0
            try:
                await self._connect_once()
            except* CONNECT_ERRORS as group:
                reason = explain(root_of(group))
            except* GapError:
                reason = "the server's log had a gap"
            except* Busy as group:
                error = root_of(group)
                reason, busy = explain(error), True
                wait = min(error.wait, LONGEST_WAIT_SECONDS) if isinstance(error, Busy) else 0.0
            # A busy server proves that the address is right, so retry even the first connection.
            if not (self._was_connected or busy or self._persistent):
                raise unavailable(self.connector.address, reason)
            delay = self._backoff.next_delay(wait)
            self._notify(Disconnected(reason, delay))
            await trio.sleep(delay)

    async def _connect_once(self) -> None:
        while await self._connect_with_key():
            pass

    async def _connect_with_key(self) -> bool:
        """Serve one connection; return whether to connect again at once, with another key."""
        with trio.fail_after(CONNECT_SECONDS):
            link = await self.connector.open()
        try:
            self._account.choose_key(self.connector.server_names)
            try:
                with trio.fail_after(CONNECT_SECONDS) as scope:
                    welcome = await authenticate(link, self._account, scope)
            except Refused as refused:
                if refused.code == Code.NAME_TAKEN and self._account.try_next_key():
                    return True
                raise
            self._resume_session(link, welcome)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._requests.sender.run, link)
                nursery.start_soon(self._following.counts.run)
                nursery.start_soon(self._keep_alive, link)
                nursery.start_soon(self._reset_backoff)
                nursery.start_soon(self._following.retry_suspended)
                await self._receive(link)
                nursery.cancel_scope.cancel()
        finally:
            self._set_link(None)
            self._requests.on_disconnected()
            self._following.on_disconnected()
            await self._flush_and_close(link)
        return False

    def _set_link(self, link: Link | None) -> None:
        self._link = link
        self._link_changed.set()
        self._link_changed = trio.Event()

    def _resume_session(self, link: Link, welcome: Welcome) -> None:
        """Resume on a new connection: attach groups, resend requests and presence."""
        link.begin_chat(_MOST_UNREAD)
        self._key_changes = 0
        change = self.clock.on_welcome(welcome.now)
        self.user = clean_line(welcome.user)
        # Attach requests are sent before all commands (see `sender`): catch-up then delivers the
        # events of resent messages that were stored before, and later events arrive live.
        self._following.on_connected()
        if self._away is not None and self._away[1].answer is not None:
            make, _ = self._away
            self._away = make, self._requests.ask(make)
        self._set_link(link)
        self._requests.on_connected(welcome)
        if (pin := self.connector.remember()) is not None:
            self._notify(NewServer(pin))
        if self.connector.rotated:
            self._notify(KeyRotated(self.connector.server_pin))
        self._notify(Connected(self.user, self._was_connected, change))
        self._was_connected = True

    async def _flush_and_close(self, link: Link) -> None:
        """Send the read positions and the due requests, for at most a second; then close."""
        with trio.move_on_after(1, shield=True):
            try:
                await self._requests.sender.flush(link)
                await link.close_gracefully()
            except (trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
                pass
        await link.abort()

    async def _keep_alive(self, link: Link) -> None:
        """Send pings when a direction is idle; raise if the server has gone silent."""
        while True:
            now = trio.current_time()
            if not self._is_reading:
                link.last_received = now  # it is this side that is slow
            if now - link.last_received >= SILENCE_SECONDS + PATIENCE_SECONDS:
                raise trio.BrokenResourceError("the server does not answer any more")
            quiet = now - min(link.last_received, link.last_sent)
            if quiet >= SILENCE_SECONDS:
                self._requests.sender.send_urgent(encode(Ping()))
                await trio.sleep(PATIENCE_SECONDS)
            else:
                await trio.sleep(SILENCE_SECONDS - quiet)

    # ------------------------------------------------------------------ receiving

    async def _receive(self, link: Link) -> None:
        since = trio.current_time()
        while (body := await link.receive()) is not None:
            # Frames that have arrived together are received without a checkpoint.
            if trio.current_time() - since > _SLICE_SECONDS:
                await trio.lowlevel.checkpoint()
                since = trio.current_time()
            try:
                frame = decode(body, TO_CLIENT)
            except UnknownType:
                continue  # from a newer server
            await self._handle_frame(frame)
            if self.updates.is_full(unanswered=bool(self.unanswered)):
                await self._wait_for_receiver(link)

    async def _wait_for_receiver(self, link: Link) -> None:
        """Read nothing while too many updates wait to be received (backpressure)."""
        self._is_reading = False
        while self.updates.is_full(unanswered=bool(self.unanswered)):
            with trio.move_on_after(_CHECK_SECONDS):
                await self.updates.wait_taken()
        link.last_received = trio.current_time()
        self._is_reading = True

    async def _reset_backoff(self) -> None:
        """Retry without a delay after a connection that has lasted for a while.

        A server that accepts clients and then fails, whatever it sends before, is not overloaded.
        """
        await trio.sleep(STABLE_SECONDS)
        self._backoff.reset()

    async def _handle_frame(self, frame: Frame) -> None:
        if isinstance(frame, News):
            await self._following.handle(frame)
            return
        check_bounds(frame)
        if isinstance(frame, KeyAdded | KeyRemoved):
            self._handle_key(frame)
        elif isinstance(frame, Answer):
            if not self._requests.handle_answer(frame) and isinstance(frame, Attached):
                self._following.handle_late_answer(frame)
        elif isinstance(frame, Failed) and frame.re is not None:
            self._requests.handle_failure(frame)
        elif isinstance(frame, Failed | Goodbye):
            raise closing_error(frame)
        elif not isinstance(frame, Pong):
            raise ProtocolError(Code.HANDSHAKE, "The server repeats the handshake.")

    def _handle_key(self, frame: KeyAdded | KeyRemoved) -> None:
        """Notify of a key that was added or removed. Raises `ProtocolError` after many."""
        self._key_changes += 1
        if self._key_changes > MOST_KEY_CHANGES:
            raise exceeded("The number of keys that were added or removed")
        if isinstance(frame, KeyAdded):
            self._notify(KeyLinked(NameKey(frame.key, frame.since)))
        else:
            self._notify(KeyUnlinked(frame.key))


@asynccontextmanager
async def open_session(
    connector: Connector,
    account: Account,
    recent: int | None = None,
    *,
    unread: bool = True,
    persistent: bool = False,
) -> AsyncIterator[Session]:
    """Run a session while the block runs.

    With `recent`, a group is loaded from a snapshot with its `recent` latest events, or more if
    more are unread and `unread` is not false; without it, the whole log is loaded. If `persistent`,
    a first connection that fails is tried again, like a later one.
    """
    session = Session(connector, account, recent, unread=unread, persistent=persistent)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        yield session
        nursery.cancel_scope.cancel()

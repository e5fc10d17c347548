"""One chat connection: read frames, charge each to the person, dispatch it, and write the answers.

A reader, and a writer when needed, live from the handshake to the goodbye. The reader passes each
frame to the dispatcher. Replies and events go to the socket through the send queue, which starts a
writer when the socket does not accept them at once. Both tasks run in one nursery, so that they end
together and nothing outlives the connection.

Each frame is charged to the person, their address and the whole server before it is worked on; see
`tchat.server.ledger`. While a budget is exhausted, the reader waits, so that the frames behind it
stay in the client's socket, in order.

Backpressure: the reader waits for space in the send queue before it handles the next frame, so
a client that sends requests without reading the replies is slowed down to the pace of its reading.

Invalid input can end only the connection that it came from.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.frames import Failed, Goodbye, UnknownType, encode, failed
from tchat.core.protocol.handshake import Welcome, agree
from tchat.core.text import fold
from tchat.core.vocabulary import decode_request
from tchat.errors import Code, ProtocolError, Refused, StorageError, TchatError
from tchat.server.connections.dispatch import RequestDispatcher
from tchat.server.connections.handshake import Peer, authenticate_peer, refuse
from tchat.server.connections.transfers import serve_transfer
from tchat.server.context import STOPPING
from tchat.server.costs import CONNECTION, COSTS, PAGE, READING, UNKNOWN, cost_of_size
from tchat.server.faults import describe, is_storage
from tchat.server.send_queue import WRITE_SIZE, SendQueue, SendQueueClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from tchat.core.group.state import Author
    from tchat.core.protocol.frames import Activity
    from tchat.core.protocol.schema import Frame
    from tchat.net.address import Address
    from tchat.net.link import Link
    from tchat.server.context import ServerContext
    from tchat.server.ledger import LedgerAccount

_READS_NOTHING = "accepted no data for too long"
_MOST_UNREAD = 256 * 1024
"""Bytes of a client's frames in the system; for each connection, so few."""

_FLUSH_SECONDS = 3.0
_TIME_SLICE = 0.004  # seconds of work after which other tasks run


async def serve_connection(context: ServerContext, stream: trio.SocketStream) -> None:
    """Serve an accepted connection until it ends; log a fault, which affects no other one."""
    context.open_connections += 1
    try:
        await _serve(context, stream)
    except Exception as error:
        if is_storage(error):
            if not context.on_fatal("a connection", error):
                raise
            return
        context.log.line("fault", where="a connection", reason=describe(error))
    finally:
        context.open_connections -= 1
        await trio.aclose_forcefully(stream)


async def _serve(context: ServerContext, stream: trio.SocketStream) -> None:
    peer = await authenticate_peer(context, stream)
    if peer is None:
        return
    try:
        with context.connection_quota.counted(peer.link.peer):
            if peer.author is not None:
                await _serve_chat(context, peer, peer.author)
            elif peer.permission is not None:
                await serve_transfer(context, peer.link, peer.version, peer.permission)
    except StorageError:
        raise  # the store is unreliable: the whole server has to stop
    except TchatError as error:
        await refuse(context, peer.link, error)
    except trio.BrokenResourceError:
        return  # the client is gone


async def _serve_chat(context: ServerContext, peer: Peer, author: Author) -> None:
    # There is no checkpoint between these checks and `connected`. Otherwise the server could stop,
    # or the key be revoked or the address banned, and nobody would disconnect this connection.
    if context.stopping:
        raise Refused(*STOPPING)
    context.check_person(author, peer.link.peer)
    context.presence.check_devices(author, context.limits.devices)
    peer.link.begin_chat(_MOST_UNREAD)
    with context.ledger.account_of(fold(author.name), peer.link.peer) as account:
        # The address was charged for the handshake, when nobody knew the person yet.
        account.charge_owner(CONNECTION + COSTS["hello"] + COSTS["proof"])
        connection = Connection(context, peer.link, author, account)
        context.log.line("user_connected", user=author.name, address=peer.link.address)
        context.presence.connected(connection)
        try:
            # No checkpoint here either: a goodbye needs the send queue's writer, which `run`
            # enables.
            await connection.run(agree(peer.version))
        finally:
            context.presence.disconnected(connection)
            context.log.line("user_disconnected", user=author.name, reason=connection.reason)


class Connection:
    """An authenticated client's connection, from welcome to goodbye. `reason` says why it ended."""

    __slots__ = (
        "_account",
        "_context",
        "_dispatcher",
        "_ending",
        "_link",
        "_reading",
        "_writers",
        "author",
        "reason",
        "send_queue",
    )

    def __init__(
        self, context: ServerContext, link: Link, author: Author, account: LedgerAccount
    ) -> None:
        self.author = author
        self.reason = "closed by the client"
        self.send_queue = SendQueue(
            link.send_nowait,
            self._start_writer,
            start_feeder=self._start_feeder,
            admit_page=self._admit_page,
        )
        self._context = context
        self._link = link
        self._account = account
        self._dispatcher = RequestDispatcher(
            context, author, self.send_queue, account, self._on_delayed
        )
        self._reading = trio.CancelScope()
        self._ending = False
        self._writers: trio.Nursery

    @property
    def last_heard(self) -> float:
        """The `trio.current_time()` at which the client last sent something."""
        return self._link.last_received

    @property
    def peer(self) -> Address | None:
        """The client's address."""
        return self._link.peer

    @property
    def followed_groups(self) -> Collection[str]:
        """The groups (folded) that the client subscribed to."""
        return self._dispatcher.subscriptions.keys()

    def notify(self, frame: Frame) -> None:
        """Send a frame to the client, without waiting."""
        self.send_queue.push(encode(frame))

    def announce(self, key: str, notice: Activity) -> None:
        """Send a notice about the group (folded), unless an earlier one is unanswered.

        The queue takes notices regardless of its limit, so there is one for each group at most.
        """
        if key not in self._dispatcher.announced:
            self._dispatcher.announced.add(key)
            self.notify(notice)

    def disconnect(self, code: Code, sentence: str) -> None:
        """Send a goodbye, then close the connection."""
        self.reason = str(code)
        self._ending = True
        self.notify(Goodbye(code, sentence))
        self._reading.cancel()

    async def run(self, version: int) -> None:
        """Send the welcome, then read and write until either side ends the connection."""
        async with trio.open_nursery() as self._writers:
            self._send_welcome(version)
            try:
                with self._reading:
                    await self._read()
                if self.send_queue.overflowed:
                    self.reason = _READS_NOTHING
                elif self.send_queue.closed:
                    self.reason = "fault"  # a group's actor has failed, and has logged the error
            finally:
                self._dispatcher.close()
                self.send_queue.close()
                self._writers.cancel_scope.deadline = trio.current_time() + _FLUSH_SECONDS
        if not self._writers.cancel_scope.cancel_called:
            await self._link.close_gracefully()

    def _send_welcome(self, version: int) -> None:
        rate = self._context.limits.messages
        interval, burst = (int(1_000_000 / rate.per_second), rate.burst) if rate else (None, None)
        now = self._context.clock()
        self.notify(Welcome(version, self.author.name, interval, burst, now))

    # -------------------------------------------------------------- writing

    def _start_writer(self) -> None:
        self._writers.start_soon(self._write)

    def _start_feeder(self, feeder: Callable[[], Awaitable[None]]) -> None:
        self._writers.start_soon(self._feed, feeder)

    async def _feed(self, feeder: Callable[[], Awaitable[None]]) -> None:
        try:
            await feeder()
        except StorageError as error:
            self._fail(error)

    def _fail(self, error: StorageError) -> None:
        """Stop the server; here, so that this client gets its goodbye as well."""
        if not self._context.on_fatal("a connection", error):
            raise error

    async def _write(self) -> None:
        """Send the queued data. A client that accepts no data for too long is disconnected."""
        try:
            while (data := self.send_queue.dequeue()) is not None:
                for start in range(0, len(data) or 1, WRITE_SIZE):
                    chunk = data[start : start + WRITE_SIZE]
                    with trio.fail_after(self._context.limits.stall_seconds):
                        await self._link.send(chunk)
                    self.send_queue.mark_sent(len(chunk))
        except trio.TooSlowError:
            self.reason = _READS_NOTHING
            self._writers.cancel_scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.reason = "connection lost"
            self._writers.cancel_scope.cancel()
        # A group's actor that fails closes this queue; the reader then has to end too.
        if self.send_queue.closed:
            self._reading.cancel()

    async def _admit_page(self) -> None:
        """Charge a page of a log that the client has to catch up with."""
        if not self._account.is_covered:
            await self._account.admit()
        self._account.charge(PAGE)

    # -------------------------------------------------------------- reading

    async def _read(self) -> None:
        """Handle frames until either side ends the connection."""
        try:
            await self._handle_frames()
            if self._link.broken:
                self.reason = "connection lost"
        except ProtocolError as error:
            self.reason = str(error.code)
            self.notify(failed(error))
        except trio.BrokenResourceError:
            self.reason = "connection lost"
        except StorageError as error:
            self._fail(error)
        except SendQueueClosed:
            return

    async def _handle_frames(self) -> None:
        link, send_queue, account = self._link, self.send_queue, self._account
        woken_at = end_of_slice = 0.0
        while (body := await link.receive()) is not None:
            woken, now = 0.0, perf_counter()
            if link.last_received != woken_at:  # others had a turn while this task waited
                woken_at = link.last_received
                woken = READING
                end_of_slice = now + _TIME_SLICE
            if (
                now > end_of_slice
                or send_queue.congested
                or (account.is_limited and not account.is_covered)
            ):
                await self._wait()
                end_of_slice = perf_counter() + _TIME_SLICE
            if self._ending:
                return  # ignore frames from before the goodbye: the key may be revoked
            frame = self._decode(body, woken)
            if frame is None:
                continue
            try:
                await self._dispatcher.handle(frame, len(body))
            except Refused as refusal:
                self.notify(failed(refusal, getattr(frame, "id", None)))

    async def _wait(self) -> None:
        """Wait for others, for the client to read its answers, and for its budgets."""
        # Many frames arrive in one read, and most of them need no checkpoint.
        await trio.lowlevel.checkpoint()
        if self.send_queue.congested:
            await self.send_queue.wait_for_space()
        if not self._account.is_covered:
            await self._account.admit()
            self._on_delayed()

    def _on_delayed(self) -> None:
        """Count a client whose frames wait here as heard: it is not silent."""
        self._link.last_received = trio.current_time()

    def _decode(self, body: bytes, woken: float) -> Frame | None:
        """Decode a frame, and charge it and `woken`, the cost of waking this task for it.

        A frame of an unknown type, from a newer client, is refused here: return None.
        """
        account = self._account
        try:
            frame = decode_request(body)
        except UnknownType as unknown:
            account.charge(woken + cost_of_size(len(body)) + UNKNOWN)
            self.notify(Failed(unknown.code, unknown.sentence, unknown.re))
            return None
        if account.is_limited:
            account.charge(woken + cost_of_size(len(body)) + COSTS[frame.type])
        return frame

"""One connection: who is it (see `doorway`), then a reader and a writer until one of them ends.

The reader turns frames into work for group actors; what there is to say goes through the outbox
to the socket at once, or waits there for a writer. Both live in a nursery of their own, so that
whatever ends one ends the other and nothing of the connection outlives it. The reader asks for
room in the outbox before it takes the next frame: a client that asks and asks without reading the
answers is slowed to the pace at which it reads.

Whatever a client sends, the worst that happens is the end of its own connection.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.core.group.commands import Command, Join, Share
from tchat.core.group.direct import check_group, is_direct
from tchat.core.pace import TokenBucket
from tchat.core.protocol.frames import (
    Attach,
    Attached,
    Away,
    Detach,
    Download,
    Failed,
    FileListRequest,
    Goodbye,
    GroupsRequest,
    HistoryRequest,
    KeyList,
    KeysRequest,
    LinkCode,
    LinkRequest,
    Ok,
    Ping,
    Pong,
    Search,
    Seen,
    UnknownType,
    Unlink,
    Upload,
    decode_request,
    encode,
    failed,
)
from tchat.core.protocol.handshake import Welcome, agree
from tchat.core.text import fold
from tchat.errors import Code, ProtocolError, Refused, StorageError, TchatError
from tchat.server.accounts import CODE_SECONDS
from tchat.server.connections.files import check_quota, check_uploaded, consider, serve_transfer
from tchat.server.connections.handshake import Peer, authenticate_peer, refuse
from tchat.server.connections.history import COSTS, look_back
from tchat.server.context import STOPPING
from tchat.server.faults import describe, is_storage
from tchat.server.groups.inbox import Execute, Query, ReadReceipt, Subscribe
from tchat.server.groups.ordering import CommandOrder
from tchat.server.groups.subscriptions import Subscription
from tchat.server.sanitize import check_own_group, clean, clean_away, is_others
from tchat.server.send_queue import WRITE_SIZE, SendQueue, SendQueueClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from tchat.core.group.state import Author, Group
    from tchat.core.protocol.schema import Frame
    from tchat.net.link import Link
    from tchat.server.context import ServerContext

_FLUSH_SECONDS = 3.0
_MOST_SUBSCRIPTIONS = 256
_SIZE_OF_A_FRAME = 1024  # a longer one counts as several
_COST_OF_A_STATE = 5  # in requests


async def serve_connection(host: ServerContext, stream: trio.SocketStream) -> None:
    """Serve one accepted connection to its end; a fault in it is logged and goes no further."""
    host.open += 1
    try:
        await _serve(host, stream)
    except Exception as error:
        if is_storage(error):
            raise
        host.log.line("fault", where="a connection", reason=describe(error))
    finally:
        host.open -= 1
        await trio.aclose_forcefully(stream)


async def _serve(host: ServerContext, stream: trio.SocketStream) -> None:
    visitor = await authenticate_peer(host, stream)
    if visitor is None:
        return
    try:
        if visitor.author is not None:
            await _converse(host, visitor, visitor.author)
        elif visitor.permission is not None:
            await serve_transfer(host, visitor.link, visitor.version, visitor.permission)
    except StorageError:
        raise  # concerns the whole server
    except TchatError as error:
        await refuse(host, visitor.link, error)
    except trio.BrokenResourceError:
        return  # gone in the middle: nobody to tell


async def _converse(host: ServerContext, visitor: Peer, author: Author) -> None:
    if host.stopping:
        raise Refused(*STOPPING)
    if host.people.is_barred(author):
        raise Refused(Code.KEY_REMOVED, "This key was just taken from the name.")
    host.crowd.check_room(author, host.limits.devices)
    visitor.link.allow_long_frames()
    conversation = Connection(host, visitor.link, author, resends=visitor.resends)
    host.log.line("user_connected", user=author.name, address=visitor.link.address)
    host.crowd.come(conversation)
    try:
        # Without waiting: the key could be taken away meanwhile with nobody there to be told.
        await conversation.run(agree(visitor.version))
    finally:
        host.crowd.go(conversation)
        host.log.line("user_disconnected", user=author.name, reason=conversation.reason)


class Connection:
    """A person's client, from welcome to goodbye. `reason` says how it ended."""

    __slots__ = (
        "_author",
        "_dismissed",
        "_frames",
        "_host",
        "_if_said",
        "_link",
        "_order",
        "_person",
        "_reading",
        "_subscriptions",
        "_writers",
        "reason",
        "send_queue",
    )

    def __init__(self, host: ServerContext, link: Link, author: Author, *, resends: bool) -> None:
        self.reason = "left"
        self.send_queue = SendQueue(link.send_nowait, self._start_writer)
        self._host = host
        self._link = link
        self._author = author
        self._person = fold(author.name)
        rate = host.limits.frames
        self._frames = TokenBucket(rate, trio.current_time()) if rate else None
        self._subscriptions: dict[str, Subscription] = {}
        self._if_said = (partial(host.rates.take, "messages", self._person),)
        self._order = CommandOrder() if resends else None
        self._reading = trio.CancelScope()
        self._dismissed = False
        self._writers: trio.Nursery

    @property
    def author(self) -> Author:
        """The person, and the client that speaks for them here."""
        return self._author

    @property
    def heard(self) -> float:
        """The `trio.current_time()` at which the client was last heard."""
        return self._link.last_received

    @property
    def follows(self) -> Collection[str]:
        """The groups (folded) that the client asked to follow."""
        return self._subscriptions.keys()

    def tell(self, news: Frame) -> None:
        """Send something to the client."""
        self.send_queue.push(encode(news))

    def end(self, code: Code, sentence: str) -> None:
        """Say goodbye and end the conversation once that is sent."""
        self.reason = str(code)
        self._dismissed = True
        self.send_queue.push(encode(Goodbye(code, sentence)))
        self._reading.cancel()

    async def run(self, version: int) -> None:
        """Say welcome, without waiting, and converse until either side ends it.

        A client ends it that leaves, stalls or breaks the protocol.
        """
        async with trio.open_nursery() as self._writers:
            self._say_welcome(version)
            try:
                with self._reading:
                    await self._read()
                if self.send_queue.closed:
                    self.reason = "fault"  # of a group's actor, which has logged it
            finally:
                for key, subscription in self._subscriptions.items():
                    self._host.registry.leave(subscription, key)
                self.send_queue.close()
                self._writers.cancel_scope.deadline = trio.current_time() + _FLUSH_SECONDS
        if not self._writers.cancel_scope.cancel_called:
            await self._link.close_gracefully()

    def _say_welcome(self, version: int) -> None:
        rate = self._host.limits.messages
        pace = (int(1_000_000 / rate.per_second), rate.burst) if rate else (None, None)
        self.tell(Welcome(version, self._author.name, *pace))

    def _start_writer(self) -> None:
        self._writers.start_soon(self._write)

    async def _write(self) -> None:
        """Empty the outbox into the socket. A client that takes nothing for long is cut off."""
        try:
            while (data := self.send_queue.take()) is not None:
                for start in range(0, len(data) or 1, WRITE_SIZE):
                    chunk = data[start : start + WRITE_SIZE]
                    with trio.fail_after(self._host.limits.stall_seconds):
                        await self._link.send(chunk)
                    self.send_queue.sent(len(chunk))
        except trio.TooSlowError:
            self.reason = "took no data for too long"
            self._writers.cancel_scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.reason = "connection lost"
            self._writers.cancel_scope.cancel()
        if (
            self.send_queue.closed
        ):  # by a fault of a group's actor, if not by the end of the reading
            self._reading.cancel()

    async def _read(self) -> None:
        try:
            while (body := await self._link.receive()) is not None:
                if self._frames is not None:
                    await self._slow_down(self._frames, len(body))
                if self.send_queue.crowded:
                    await self.send_queue.room()
                if self._dismissed:
                    return  # sent away, maybe locked out: what had come already is not heard
                await self._receive(body)
        except ProtocolError as error:
            self.reason = str(error.code)
            self.send_queue.push(encode(failed(error)))
        except (SendQueueClosed, trio.BrokenResourceError):
            return

    async def _slow_down(self, frames: TokenBucket, size: int) -> None:
        """Take frames, even those that come to nothing, only so fast: their sender waits."""
        cost = 1 + size // _SIZE_OF_A_FRAME
        if wait := frames.take(trio.current_time(), cost):
            await trio.sleep(wait)
            frames.take(trio.current_time(), cost)

    async def _receive(self, body: bytes) -> None:
        try:
            frame = decode_request(body)
        except UnknownType as unknown:
            self.send_queue.push(encode(Failed(unknown.code, unknown.sentence, unknown.re)))
            return
        try:
            await self._handle(frame)
        except Refused as refusal:
            self.tell(failed(refusal, getattr(frame, "id", None)))

    async def _handle(self, frame: Frame) -> None:
        match frame:
            case Command():
                await self._execute(frame)
            case Attach():
                await self._attach(frame)
            case Detach():
                self._detach(fold(check_group(frame.group)))
            case Seen():
                await self._send(self._own(frame.group), ReadReceipt(self._author.name, frame.seq))
            case Upload() | Download() | FileListRequest():
                await self._consult(frame)
            case HistoryRequest() | Search() | GroupsRequest():
                await self._look_back(frame)
            case Away():
                self._go_away(frame)
            case LinkRequest() | KeysRequest() | Unlink():
                await self._manage_keys(frame)
            case Ping():
                self.tell(Pong())
            case _:
                raise ProtocolError(Code.HANDSHAKE, f"{frame.type} has no place in a chat.")

    async def _send(self, group: str, item: Execute | Subscribe | ReadReceipt | Query) -> None:
        key, registry = fold(group), self._host.registry
        if not registry.take(key, item):
            await registry.send(key, item)

    def _own(self, group: str) -> str:
        return check_own_group(group, self._author)

    async def _execute(self, command: Command) -> None:
        group = self._own(command.group)
        command = clean(command if command.group == group else replace(command, group=group))
        checks: Sequence[Callable[[], None]] = self._if_said
        if isinstance(command, Join | Share):
            checks = await self._checks(command)
        await self._send(
            group, Execute(self._author, command, self.send_queue, checks, self._order)
        )

    async def _checks(self, command: Join | Share) -> Sequence[Callable[[], None]]:
        """Return what may refuse a command once it is known to be new, and allowed by the group.

        A repetition is never refused: its first sending may have been done, and its author would
        take a refusal for a reason to do it again.
        """
        host, person = self._host, self._person
        if isinstance(command, Join):
            await host.memberships.load(person)
            return (
                partial(host.rates.take, "joins", person),
                partial(host.memberships.reserve, person, fold(command.group)),
            )
        size = await host.store.files.lease(person, command.sha256, host.clock())
        used = await host.store.files.usage(person)
        return (
            *self._if_said,
            partial(check_uploaded, size, command.size),
            partial(check_quota, host, used),
        )

    async def _attach(self, request: Attach) -> None:
        cost = 1 if request.recent is None else _COST_OF_A_STATE
        self._host.rates.take("requests", self._person, cost)
        group = check_group(request.group)
        if is_others(group, self._author):
            self.tell(Attached(request.id, group, "outsider"))
            return
        key = fold(group)
        self._detach(key)
        if len(self._subscriptions) >= _MOST_SUBSCRIPTIONS:
            raise Refused(
                Code.TOO_MANY, f"A connection follows at most {_MOST_SUBSCRIPTIONS} groups."
            )
        subscription = Subscription(self._author, self.send_queue)
        self._subscriptions[key] = subscription
        await self._send(key, Subscribe(subscription, replace(request, group=group)))

    def _detach(self, key: str) -> None:
        subscription = self._subscriptions.pop(key, None)
        if subscription is not None:
            self._host.registry.leave(subscription, key)

    async def _manage_keys(self, request: LinkRequest | KeysRequest | Unlink) -> None:
        self._host.rates.take("requests", self._person)
        people = self._host.people
        match request:
            case LinkRequest(number):
                code = people.new_code(self._author)
                self.tell(LinkCode(number, code, int(CODE_SECONDS * 1000)))
            case KeysRequest(number):
                keys = await people.keys(self._person)
                public, since = tuple(k.public for k in keys), tuple(k.since for k in keys)
                self.tell(KeyList(number, public, since))
            case Unlink(number, key):
                await people.unlink(self._author, key)
                self._host.crowd.lock_out(
                    self._author.name, key, "This device's key was taken from the name."
                )
                self.tell(Ok(number))

    async def _consult(self, request: Upload | Download | FileListRequest) -> None:
        """Let the group's actor say whether that is allowed, and answer."""
        self._host.rates.take("requests", self._person)
        group = self._own(request.group)
        if is_direct(group):
            raise Refused(Code.DIRECT, "There are no files in a conversation of two.")
        answer = await consider(self._host, self._author, request)

        def look(group: Group) -> None:
            try:
                self.tell(answer(group))
            except Refused as refusal:
                self.tell(failed(refusal, request.id))

        await self._send(group, Query(look, self.send_queue))

    async def _look_back(self, request: HistoryRequest | Search | GroupsRequest) -> None:
        self._host.rates.take("requests", self._person, COSTS[type(request)])
        if not isinstance(request, GroupsRequest) and request.group is not None:
            request = replace(request, group=self._own(request.group))
        self.tell(await look_back(self._host, self._author, self.send_queue, request))

    def _go_away(self, request: Away) -> None:
        text = clean_away(request.text)
        # Each group in which it is news counts, as if it had been said there.
        groups = self._host.crowd.groups_of(self._person)
        self._host.rates.take("requests", self._person, max(1, len(groups)))
        if self._host.crowd.note_away(self._person, text):
            for group in groups:
                self._host.registry.stir(group)
        self.tell(Ok(request.id))

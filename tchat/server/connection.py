"""One connection: a handshake, then a reader and a writer until one of them ends.

The reader turns frames into work for group actors, the writer empties the outbox into the
socket, and both live in a nursery of their own, so that whatever ends one ends the other and
nothing of the connection outlives it. The reader asks for room in the outbox before it takes the
next frame: a client that asks and asks without reading the answers is slowed to the pace at
which it reads.

Whatever a client sends, the worst that happens is the end of its own connection.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.core.commands import Approve, Command, Deny, Kick, Post, Share, TransferAdmin
from tchat.core.frames import (
    TO_SERVER,
    Attach,
    Detach,
    Download,
    Failed,
    Goodbye,
    Ping,
    Pong,
    Seen,
    Ticket,
    UnknownType,
    Upload,
    decode,
    encode,
)
from tchat.core.group import Author, Group
from tchat.core.handshake import Hello, Transfer, Welcome, agree, check_hello
from tchat.core.text import check_name, clean_text, fold, safe_filename
from tchat.errors import Code, ProtocolError, Refused, StorageError, TchatError
from tchat.net.address import peer_of
from tchat.net.link import Link
from tchat.server.actor import Consult, Execute, Saw, Subscribe
from tchat.server.audience import Subscription
from tchat.server.faults import describe, is_storage
from tchat.server.files import serve_transfer
from tchat.server.host import STOPPING, Permission
from tchat.server.outbox import WRITE_SIZE, Outbox, OutboxClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.core.schema import Frame
    from tchat.server.host import Host

_FLUSH_SECONDS = 3.0
_MOST_SUBSCRIPTIONS = 256


async def serve_connection(host: Host, stream: trio.abc.Stream) -> None:
    """Serve one accepted connection to its end; a fault in it is logged and goes no further."""
    try:
        await _serve(host, stream)
    except Exception as error:
        if is_storage(error):
            raise
        host.log.line("fault", where="a connection", reason=describe(error))


async def _serve(host: Host, stream: trio.abc.Stream) -> None:
    link = Link(stream)
    address = peer_of(stream)
    try:
        opening = await _introduce(host, link)
        if isinstance(opening, Transfer):
            await serve_transfer(host, link, opening)
        elif opening is not None:
            await _converse(host, link, opening, address)
    except StorageError:
        raise  # concerns the whole server
    except TchatError as error:
        host.log.line("refused", address=address, reason=error.sentence)
        await _send_last(link, Failed(error.code, error.sentence))
    except trio.BrokenResourceError:
        return  # gone in the middle of the handshake: nobody to tell
    finally:
        await trio.aclose_forcefully(stream)


async def _introduce(host: Host, link: Link) -> Hello | Transfer | None:
    """Return how the other side introduced itself; None when it left without a word."""
    with trio.move_on_after(host.limits.handshake_seconds) as scope:
        host.introductions.add(scope)
        try:
            body = await link.receive()
            return None if body is None else check_hello(decode(body, TO_SERVER))
        finally:
            host.introductions.discard(scope)
    if host.stopping:
        raise Refused(*STOPPING)
    raise ProtocolError(Code.HANDSHAKE, "The connection did not introduce itself in time.")


async def _converse(host: Host, link: Link, hello: Hello, address: str) -> None:
    wanted = check_name(hello.user, "username")
    user = await host.store.claim_name(fold(wanted), wanted, host.clock())
    if host.stopping:
        raise Refused(*STOPPING)
    await link.send(encode(Welcome(agree(hello.version), user)))
    link.introduced()
    conversation = Conversation(host, link, Author(user, hello.client))
    host.log.line("user_connected", user=user, address=address)
    host.come(conversation)
    try:
        await conversation.run()
    finally:
        host.go(conversation)
        host.log.line("user_disconnected", user=user, reason=conversation.reason)


async def _send_last(link: Link, frame: Frame) -> None:
    """Say why the connection ends, if the other side still listens."""
    with trio.move_on_after(_FLUSH_SECONDS, shield=True):
        try:
            await link.send(encode(frame))
            await link.farewell()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


class Conversation:
    """A person's client, from welcome to goodbye. `reason` says how it ended."""

    def __init__(self, host: Host, link: Link, author: Author) -> None:
        self.reason = "left"
        self.outbox = Outbox()
        self._host = host
        self._link = link
        self._author = author
        self._subscriptions: dict[str, Subscription] = {}
        self._reading = trio.CancelScope()

    @property
    def author(self) -> Author:
        """The person, and the client that speaks for them here."""
        return self._author

    @property
    def heard(self) -> float:
        """The `trio.current_time()` at which the client was last heard."""
        return self._link.heard

    def end(self, code: Code, sentence: str) -> None:
        """Say goodbye and end the conversation once that is sent."""
        self.reason = str(code)
        self.outbox.push(encode(Goodbye(code, sentence)))
        self._reading.cancel()

    async def run(self) -> None:
        """Converse until the client leaves, breaks the protocol, stalls, or is sent away."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, nursery.cancel_scope)
            try:
                with self._reading:
                    await self._read()
            finally:
                for key, subscription in self._subscriptions.items():
                    self._host.registry.leave(subscription, key)
                self.outbox.close()
                nursery.cancel_scope.deadline = trio.current_time() + _FLUSH_SECONDS

    async def _write(self, conversation: trio.CancelScope) -> None:
        """Empty the outbox into the socket. A client that takes nothing for long is cut off."""
        try:
            while data := await self.outbox.take():
                for start in range(0, len(data), WRITE_SIZE):
                    chunk = data[start : start + WRITE_SIZE]
                    with trio.fail_after(self._host.limits.stall_seconds):
                        await self._link.send(chunk)
                    self.outbox.sent(len(chunk))
            await self._link.farewell()
        except trio.TooSlowError:
            self.reason = "took no data for too long"
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.reason = "connection lost"
        conversation.cancel()

    async def _read(self) -> None:
        try:
            while (body := await self._link.receive()) is not None:
                await self.outbox.room()
                await self._receive(body)
        except ProtocolError as error:
            self.reason = str(error.code)
            self.outbox.push(encode(Failed(error.code, error.sentence)))
        except (OutboxClosed, trio.BrokenResourceError):
            self.reason = "fault"  # of a group's actor, which has logged it

    async def _receive(self, body: bytes) -> None:
        try:
            frame = decode(body, TO_SERVER)
        except UnknownType as unknown:
            self.outbox.push(encode(Failed(unknown.code, unknown.sentence, unknown.re)))
            return
        try:
            await self._handle(frame)
        except Refused as refusal:
            self._answer(Failed(refusal.code, refusal.sentence, getattr(frame, "id", None)))

    async def _handle(self, frame: Frame) -> None:
        match frame:
            case Command():
                await self._execute(frame)
            case Attach():
                await self._attach(frame)
            case Detach():
                self._detach(_key(frame.group))
            case Seen():
                await self._send(frame.group, Saw(self._author.name, frame.seq))
            case Upload() | Download():
                await self._consult(frame)
            case Ping():
                self._answer(Pong())
            case _:
                raise ProtocolError(Code.HANDSHAKE, f"{frame.type} has no place in a chat.")

    def _answer(self, frame: Frame) -> None:
        self.outbox.push(encode(frame))

    async def _send(self, group: str, item: Execute | Subscribe | Saw | Consult) -> None:
        await self._host.registry.send(_key(group), item)

    async def _execute(self, command: Command) -> None:
        check: Callable[[], None] | None = None
        command = dataclasses.replace(command, group=check_name(command.group, "group name"))
        if isinstance(command, Post):
            command = dataclasses.replace(command, text=clean_text(command.text))
        elif isinstance(command, Approve | Deny | Kick | TransferAdmin):
            command = dataclasses.replace(command, name=check_name(command.name))
        elif isinstance(command, Share):
            command = share = dataclasses.replace(command, name=safe_filename(command.name))
            user, uploads = self._author.name, self._host.uploads
            check = partial(uploads.check, user, share.sha256, share.size)
        await self._send(command.group, Execute(self._author, command, self.outbox, check))

    async def _attach(self, request: Attach) -> None:
        key = _key(request.group)
        self._detach(key)
        if len(self._subscriptions) >= _MOST_SUBSCRIPTIONS:
            raise Refused(
                Code.TOO_MANY, f"A connection follows at most {_MOST_SUBSCRIPTIONS} groups."
            )
        subscription = Subscription(self._author, self.outbox)
        self._subscriptions[key] = subscription
        await self._send(request.group, Subscribe(subscription, request))

    def _detach(self, key: str) -> None:
        subscription = self._subscriptions.pop(key, None)
        if subscription is not None:
            self._host.registry.leave(subscription, key)

    async def _consult(self, request: Upload | Download) -> None:
        """Let the group's actor say whether a transfer is allowed, and answer with a ticket."""

        def look(group: Group) -> None:
            try:
                ticket = self._host.tickets.issue(self._permit(group, request))
            except Refused as refusal:
                self._answer(Failed(refusal.code, refusal.sentence, request.id))
            else:
                self._answer(Ticket(request.id, ticket))

        await self._send(request.group, Consult(look, self.outbox))

    def _permit(self, group: Group, request: Upload | Download) -> Permission:
        user, limit = self._author.name, self._host.limits.file
        if group.standing(user) != "member":
            raise Refused(Code.NOT_MEMBER, "Only members can send and fetch files.")
        if isinstance(request, Upload):
            if request.size > limit:
                raise Refused(
                    Code.FILE_TOO_LARGE,
                    f"The file has {request.size} bytes; this server takes at most {limit}.",
                )
            return Permission("upload", user, request.size)
        file = group.files.get(request.number)
        if file is None:
            raise Refused(Code.NO_SUCH_FILE, "The group has no file of that number.")
        return Permission("download", user, file.size, file.sha256)


def _key(group: str) -> str:
    return fold(check_name(group, "group name"))

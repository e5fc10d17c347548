"""Server side of the handshake: authenticates the client and enforces deadlines and limits.

Everything before authentication happens here, under one deadline and one limit on unauthenticated
connections: TLS, hello, challenge, proof, and the claim to a name. None of it costs more than a TLS
handshake and a few kilobytes, and whoever is refused is told why.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tchat.core.group.state import Author
from tchat.core.protocol.frames import decode_request, encode, failed
from tchat.core.protocol.handshake import (
    NONCE_SIZE,
    Challenge,
    Hello,
    Proof,
    TransferHello,
    agree,
    check_hello,
    proof_text,
)
from tchat.core.text import check_name
from tchat.errors import Code, ProtocolError, Refused, StorageError, TchatError
from tchat.net.identity import verify
from tchat.net.link import Link
from tchat.net.tls import BUSY_ALERT
from tchat.server.context import STOPPING

if TYPE_CHECKING:
    from tchat.server.context import ServerContext
    from tchat.server.tickets import Permission

REFUSAL_SECONDS = 3.0
_MAX_BUSY_REFUSALS = 64
"""At once: under a flood of connections even a refusal costs too much, and the rest are dropped."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An authenticated client: a person (`author`), or the holder of a transfer's `permission`.

    `version` is the newest protocol version that the client speaks; `resends` is as in `Hello`.
    """

    link: Link
    version: int
    author: Author | None = None
    permission: Permission | None = None
    resends: bool = False


async def authenticate_peer(context: ServerContext, stream: trio.SocketStream) -> Peer | None:
    """Authenticate an accepted connection; return None if it closed or was refused."""
    link = Link(stream)
    try:
        context.check_open()
        with context.strangers.one_more(link.peer):
            return await _run_handshake(context, link)
    except Refused as busy:
        await _refuse_busy(context, link, busy)
        return None


async def refuse(context: ServerContext, link: Link, error: TchatError) -> None:
    """Log why a connection ends, and tell the client if it still listens."""
    context.log.line("refused", address=link.address, reason=error.sentence)
    with trio.move_on_after(REFUSAL_SECONDS, shield=True):
        await link.close_with(encode(failed(error)))


async def _run_handshake(context: ServerContext, link: Link) -> Peer | None:
    try:
        with trio.move_on_after(context.limits.handshake_seconds) as scope:
            # A server that stops cancels these scopes.
            context.introductions.add(scope)
            try:
                if context.credentials is not None:
                    await link.accept_tls(context.credentials)
                return await _authenticate(context, link)
            finally:
                context.introductions.discard(scope)
        if context.stopping:
            raise Refused(*STOPPING)
        raise ProtocolError(Code.HANDSHAKE, "The connection did not authenticate in time.")
    except StorageError:
        raise  # concerns the whole server
    except TchatError as error:
        await refuse(context, link, error)
    except trio.BrokenResourceError:
        pass  # gone: nobody to tell
    return None


async def _authenticate(context: ServerContext, link: Link) -> Peer | None:
    """Read the first frame: a hello, to be proved, or a ticket for a transfer."""
    body = await link.receive()
    if body is None:
        return None
    opening = check_hello(decode_request(body))
    if isinstance(opening, TransferHello):
        return Peer(link, opening.version, permission=context.tickets.redeem(opening.ticket))
    author = await _challenge(context, link, opening)
    if author is None:
        return None
    return Peer(link, opening.version, author=author, resends=bool(opening.resends))


async def _challenge(context: ServerContext, link: Link, hello: Hello) -> Author | None:
    """Return the author that the client proves to be; None if it closes instead."""
    challenge = Challenge(agree(hello.version), secrets.token_bytes(NONCE_SIZE))
    await link.send(encode(challenge))
    body = await link.receive()
    if body is None:
        return None
    proof = decode_request(body)
    if not isinstance(proof, Proof):
        raise ProtocolError(Code.HANDSHAKE, "The answer to a challenge has to be a proof.")
    # The signature covers the server's pin, so that nobody can relay it to another server.
    verify(hello.key, proof.signature, proof_text(hello, challenge, context.pin))
    name = await context.people.claim(hello, check_name(hello.user, "username"), proof.link)
    return Author(name, hello.client, hello.key)


async def _refuse_busy(context: ServerContext, link: Link, busy: Refused) -> None:
    """Tell a client that there is no capacity, at a lower cost than admitting it."""
    if context.busy_words >= _MAX_BUSY_REFUSALS:
        return
    context.busy_words += 1
    try:
        if context.may_log_busy():
            context.log.line("refused", address=link.address, reason=busy.sentence)
        with trio.move_on_after(REFUSAL_SECONDS):
            # With TLS, an alert in place of the handshake that would be needed for a sentence.
            answer = encode(failed(busy)) if context.credentials is None else BUSY_ALERT
            await link.close_with(answer)
    finally:
        context.busy_words -= 1

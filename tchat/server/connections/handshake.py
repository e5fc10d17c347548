"""From a stranger's socket to somebody known, in a few frames and a few seconds.

Everything before the proof happens here, under one deadline and within the number of strangers
that a server bears: TLS, the hello, the challenge, the proof, the claim to a name. Nothing of it
costs more than a handshake and a few kilobytes, and whoever is turned away is told why.
"""

from __future__ import annotations

import secrets
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tchat.core.group.state import Author
from tchat.core.protocol.frames import encode, failed
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
from tchat.core.vocabulary import decode_request
from tchat.errors import Code, ProtocolError, Refused, StorageError, TchatError
from tchat.net.address import peer_of, place_of
from tchat.net.identity import verify
from tchat.net.link import Link
from tchat.net.tls import BUSY_ALERT, accept_tls
from tchat.server.context import STOPPING

if TYPE_CHECKING:
    from tchat.server.context import ServerContext
    from tchat.server.tickets import Permission

_LAST_WORD_SECONDS = 3.0
_MOST_LAST_WORDS = 64
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "UNSUPPORTED_PROTOCOL")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who has come in: a person who proved it (`author`), or one with a `permission`.

    `version` is the newest of the protocol that the other side speaks; `resends` is as in `Hello`.
    """

    link: Link
    version: int
    author: Author | None = None
    permission: Permission | None = None
    resends: bool = False


async def authenticate_peer(host: ServerContext, stream: trio.SocketStream) -> Peer | None:
    """Return who has come; None for one who left, or was turned away."""
    try:
        host.check_open()
        with host.strangers.one_more(place_of(stream)):
            return await _introduce(host, stream)
    except Refused as busy:
        await _send_away(host, stream, busy)
        return None


async def turn_away(host: ServerContext, link: Link, address: str, error: TchatError) -> None:
    """Log why a connection ends, and say so if the other side still listens."""
    host.log.line("refused", address=address, reason=error.sentence)
    with trio.move_on_after(_LAST_WORD_SECONDS, shield=True):
        try:
            await link.send(encode(failed(error)))
            await link.farewell()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


async def _introduce(host: ServerContext, stream: trio.SocketStream) -> Peer | None:
    address = peer_of(stream)
    link: Link | None = None
    try:
        with trio.move_on_after(host.limits.handshake_seconds) as scope:
            host.introductions.add(scope)
            try:
                link = await _open(host, stream)
                return await _listen(host, link)
            finally:
                host.introductions.discard(scope)
        if host.stopping:
            raise Refused(*STOPPING)
        raise ProtocolError(Code.HANDSHAKE, "The connection did not introduce itself in time.")
    except StorageError:
        raise  # concerns the whole server
    except TchatError as error:
        # One who has not got through TLS yet can only be told in the clear, and may understand.
        plain = error.code == Code.NOT_ENCRYPTED
        if link is None and not plain:
            host.log.line("refused", address=address, reason=error.sentence)
        else:
            await turn_away(host, link or Link(stream), address, error)
    except trio.BrokenResourceError:
        pass  # gone in the middle: nobody to tell
    return None


async def _open(host: ServerContext, stream: trio.SocketStream) -> Link:
    if host.credentials is None:
        return Link(stream)
    try:
        return Link(await accept_tls(stream, host.credentials))
    except trio.BrokenResourceError as error:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLError) and cause.reason in _NOT_TLS:
            raise ProtocolError(
                Code.NOT_ENCRYPTED, "This server speaks TLS 1.3; the client has to, too."
            ) from error
        raise


async def _listen(host: ServerContext, link: Link) -> Peer | None:
    body = await link.receive()
    if body is None:
        return None
    opening = check_hello(decode_request(body))
    if isinstance(opening, TransferHello):
        return Peer(link, opening.version, permission=host.tickets.redeem(opening.ticket))
    author = await _ask_for_proof(host, link, opening)
    if author is None:
        return None
    return Peer(link, opening.version, author=author, resends=bool(opening.resends))


async def _ask_for_proof(host: ServerContext, link: Link, hello: Hello) -> Author | None:
    """Return who the other side is, once it has proved it; None when it leaves instead."""
    challenge = Challenge(agree(hello.version), secrets.token_bytes(NONCE_SIZE))
    await link.send(encode(challenge))
    body = await link.receive()
    if body is None:
        return None
    proof = decode_request(body)
    if not isinstance(proof, Proof):
        raise ProtocolError(Code.HANDSHAKE, "A challenge is answered with a proof.")
    verify(hello.key, proof.signature, proof_text(hello, challenge, host.pin))
    name = await host.people.claim(hello, check_name(hello.user, "username"), proof.link)
    return Author(name, hello.client, hello.key)


async def _send_away(host: ServerContext, stream: trio.SocketStream, busy: Refused) -> None:
    """Say that there is no room, which has to cost less than to let somebody in."""
    if host.busy_words >= _MOST_LAST_WORDS:
        return
    host.busy_words += 1
    try:
        if host.may_log_busy():
            host.log.line("refused", address=peer_of(stream), reason=busy.sentence)
        with trio.move_on_after(_LAST_WORD_SECONDS):
            await stream.send_all(encode(failed(busy)) if host.credentials is None else BUSY_ALERT)
            await Link(stream).farewell()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        host.busy_words -= 1

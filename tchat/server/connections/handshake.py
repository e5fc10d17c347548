"""Server side of the handshake: authenticates the client and enforces deadlines and limits.

Everything before authentication happens here, under one deadline and one limit on unauthenticated
connections: TLS, hello, challenge, proof, and the claim of a name. Together, they cost no more
than a TLS handshake and a few kilobytes. A refused client is told the reason.

A client that has authenticated may still be refused for its network, which has a rate of logins and
of new names and a share of the connections. It then keeps its slot among the unauthenticated for
some time, so that trying again at once is limited, too.

The header of a proxy comes first. Until it is read, the connection counts as unauthenticated too,
but not for one address, and the header has the same time as the rest.
"""

from __future__ import annotations

import math
import secrets
from contextlib import contextmanager
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
from tchat.net.address import is_within
from tchat.net.identity import verify
from tchat.net.link import Link
from tchat.net.proxy_protocol import read_proxy_header
from tchat.net.tls import BUSY_ALERT
from tchat.server.accounts import is_established
from tchat.server.context import STOPPING
from tchat.server.costs import CONNECTION, COSTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.server.context import ServerContext
    from tchat.server.ledger import LedgerAccount
    from tchat.server.tickets import Permission

REFUSAL_SECONDS = 3.0
_MAX_BUSY_REFUSALS = 64
"""The largest number of simultaneous refusals. In a flood of connections, even refusals would cost
too much, so further connections are closed without a reply.
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """An authenticated client: a person (`author`), or the holder of a transfer's `permission`.

    `version` is the newest protocol version that the client speaks. `established` is whether the
    person's name is.
    """

    link: Link
    version: int
    author: Author | None = None
    permission: Permission | None = None
    established: bool = False


async def authenticate_peer(context: ServerContext, stream: trio.SocketStream) -> Peer | None:
    """Authenticate an accepted connection; return None if it closed or was refused."""
    link = Link(stream)
    is_proxy = link.peer is not None and is_within(link.peer.host, context.proxies)
    try:
        context.connection_quota.check_capacity()
        if is_proxy:
            with context.unauthenticated.admit_proxy(stream.socket.close) as slot:
                slot.authenticated = await _read_proxy_header(context, link, stream)
            if not slot.authenticated:
                return None
        with context.unauthenticated.admit(link.peer, stream.socket.close) as slot:
            peer = await _run_handshake(context, link)
            slot.authenticated = peer is not None
    except Refused as busy:
        await _refuse_busy(context, link, busy)
        return None
    return None if slot.evicted else peer


async def _read_proxy_header(context: ServerContext, link: Link, stream: trio.SocketStream) -> bool:
    """Use the client's address, which the proxy tells, from now on; return whether it did."""
    try:
        with trio.move_on_after(context.limits.handshake_seconds) as scope:
            context.handshakes.add(scope)
            try:
                link.peer = await read_proxy_header(stream) or link.peer
            finally:
                context.handshakes.discard(scope)
            return True
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return False
    except ProtocolError as error:
        await refuse(context, link, error)
    return False


async def refuse(context: ServerContext, link: Link, error: TchatError) -> None:
    """Log the reason for refusing a connection, and send it to the client if possible."""
    context.log.line("refused", address=link.address, reason=error.sentence)
    with trio.move_on_after(REFUSAL_SECONDS, shield=True):
        await link.close_with(encode(failed(error)))


async def _run_handshake(context: ServerContext, link: Link) -> Peer | None:
    try:
        with trio.move_on_after(context.limits.handshake_seconds) as scope:
            # The server cancels these scopes when it stops.
            context.handshakes.add(scope)
            try:
                with context.ledger.account_of_stranger(link.peer) as account:
                    await account.admit()
                    account.charge(CONNECTION)
                    # They may be replaced meanwhile, but this connection has these.
                    credentials = context.credentials
                    if credentials is not None:
                        await link.accept_tls(credentials)
                    # Not before, so that the reason can be told.
                    context.bans.check_address(link.peer)
                    pin = credentials.pin if credentials else b""
                    peer = await _authenticate(context, link, account, pin, scope)
                if peer is not None:
                    context.connection_quota.check(link.peer, established=peer.established)
                return peer
            finally:
                context.handshakes.discard(scope)
        if context.stopping:
            raise Refused(*STOPPING)
        raise ProtocolError(Code.HANDSHAKE, "The connection did not authenticate in time.")
    except StorageError:
        raise  # the store is unreliable: the whole server has to stop
    except TchatError as error:
        await (_refuse_busy if error.code == Code.BUSY else refuse)(context, link, error)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the client is gone, or had to make room for another one
    return None


async def _authenticate(
    context: ServerContext,
    link: Link,
    account: LedgerAccount,
    pin: bytes,
    scope: trio.CancelScope,
) -> Peer | None:
    """Read the first frame, then challenge a hello or redeem a transfer ticket.

    `pin` is that of the key that the server has shown on this connection. `scope` has the deadline.
    """
    body = await link.receive()
    if body is None:
        return None
    opening = check_hello(decode_request(body))
    account.charge(COSTS[opening.type])
    if isinstance(opening, TransferHello):
        permission = context.tickets.redeem(opening.ticket)
        known = context.unauthenticated.is_known(link.peer)
        return Peer(link, opening.version, permission=permission, established=known)
    return await _challenge(context, link, account, opening, pin, scope)


@contextmanager
def _paused(scope: trio.CancelScope) -> Iterator[None]:
    """Stop the clock of a handshake: a slow disk here must not turn newcomers away."""
    left = scope.deadline - trio.current_time()
    scope.deadline = math.inf
    try:
        yield
    finally:
        scope.deadline = trio.current_time() + left


async def _challenge(
    context: ServerContext,
    link: Link,
    account: LedgerAccount,
    hello: Hello,
    pin: bytes,
    scope: trio.CancelScope,
) -> Peer | None:
    """Return the authenticated person; None if the client closes the connection instead."""
    challenge = Challenge(agree(hello.version), secrets.token_bytes(NONCE_SIZE))
    await link.send(encode(challenge))
    body = await link.receive()
    if body is None:
        return None
    proof = decode_request(body)
    if not isinstance(proof, Proof):
        raise ProtocolError(Code.HANDSHAKE, "The answer to a challenge has to be a proof.")
    account.charge(COSTS[proof.type])
    # The signature covers the server's pin, so a proof that was made for another server fails.
    verify(hello.key, proof.signature, proof_text(hello, challenge, pin))
    context.bans.check_person(Author(hello.user, hello.client, hello.key))
    name = check_name(hello.user, "username")
    claimed = await context.accounts.claimed_at(name)
    context.network_rates.acquire("claims" if claimed is None else "address_logins", link.peer)
    with _paused(scope):
        name = await context.accounts.claim(hello, name, proof.link)
    established = is_established(claimed, context.clock())
    if established:
        context.unauthenticated.remember(link.peer)
    author = Author(name, hello.client, hello.key, hello.upcoming or 0)
    return Peer(link, hello.version, author, established=established)


async def _refuse_busy(context: ServerContext, link: Link, busy: TchatError) -> None:
    """Tell a client that the server is busy, before the handshake at a lower cost than that."""
    if context.busy_replies >= _MAX_BUSY_REFUSALS:
        return
    context.busy_replies += 1
    try:
        context.log.line("refused", address=link.address, reason=busy.sentence)
        with trio.move_on_after(REFUSAL_SECONDS):
            # Before the TLS handshake, send an alert: a sentence would require the handshake.
            is_alert = context.credentials is not None and not link.encrypted
            await link.close_with(BUSY_ALERT if is_alert else encode(failed(busy)))
    finally:
        context.busy_replies -= 1

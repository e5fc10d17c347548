"""Client side of the handshake: authenticate with a signature over the server's challenge."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tchat.client.bounds import sentence_of
from tchat.core.protocol.frames import Failed, Goodbye, decode, encode
from tchat.core.protocol.handshake import (
    NONCE_SIZE,
    VERSION,
    Challenge,
    Hello,
    Proof,
    Welcome,
    check_server_version,
    proof_text,
)
from tchat.core.text import clean_line, fold
from tchat.core.vocabulary import TO_CLIENT
from tchat.errors import Code, ProtocolError, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.client_id import ClientId
    from tchat.client.server_keys import ServerKeys, ServerNames
    from tchat.core.protocol.schema import Frame
    from tchat.net.identity import Identity
    from tchat.net.link import Link

WELCOME_SECONDS = 30.0
"""How much longer a server may take that has seen the proof: it stores a new name on its disk."""

# Codes with which the server closes a connection for good: retrying would have the same result.
_FINAL = (
    Code.BAD_NAME,
    Code.BAD_VERSION,
    Code.REPLACED,
    Code.NAME_TAKEN,
    Code.LOOKALIKE,
    Code.BAD_PROOF,
    Code.BAD_LINK,
    Code.KEY_REMOVED,
    Code.BANNED,
    Code.NOT_ENCRYPTED,
)


class Busy(Exception):
    """The server has no capacity for another handshake at the moment; retry later.

    `wait` is for how long, in seconds, as far as it says so.
    """

    def __init__(self, sentence: str, wait: int | None = None) -> None:
        super().__init__(sentence)
        self.wait = max(wait or 0, 0) / 1000


@dataclass(slots=True)
class Account:
    """A user's name, the identity that proves it, and the id of this client.

    `link` is a link code that adds the identity's key to the name; it is sent until the server has
    accepted it. With `keys`, the identity is one of these, chosen when a server is reached.
    """

    user: str
    identity: Identity
    client_id: ClientId
    link: str | None = None
    keys: ServerKeys | None = None

    def choose_key(self, server: Callable[[], ServerNames]) -> None:
        """Use the right key for the server that was reached; in a session, it stays the same."""
        if self.keys is not None:
            self.identity = self.keys.first(server())

    def try_next_key(self) -> bool:
        """Use another key, since the name belongs to a different one; return whether there is one.

        A link code is for the first key: it makes the name that key's, too.
        """
        identity = self.keys.next() if self.keys is not None and self.link is None else None
        if identity is not None:
            self.identity = identity
        return identity is not None


async def authenticate(
    link: Link, account: Account, scope: trio.CancelScope | None = None
) -> Welcome:
    """Run the handshake and return the server's welcome.

    `scope` has the deadline; the welcome may take `WELCOME_SECONDS` longer.

    Raises `Refused` if the server rejects this person for good or speaks an older protocol,
    `ProtocolError`, `Busy`, or `trio.BrokenResourceError`.
    """
    nonce = secrets.token_bytes(NONCE_SIZE)
    user, client, key = account.user, account.client_id.client, account.identity.public
    hello = Hello(VERSION, user, client, key, nonce, upcoming=account.client_id.upcoming)
    await link.send(encode(hello))
    challenge = await _next(link)
    if not isinstance(challenge, Challenge) or len(challenge.nonce) != NONCE_SIZE:
        raise ProtocolError(Code.HANDSHAKE, "This is not a tchat server.")
    check_server_version(challenge.version)
    signature = account.identity.sign(proof_text(hello, challenge, link.server_pin()))
    await link.send(encode(Proof(signature, account.link)))
    if scope is not None:
        scope.deadline += WELCOME_SECONDS
    welcome = await _next(link)
    if not isinstance(welcome, Welcome):
        raise ProtocolError(Code.HANDSHAKE, "This is not a tchat server.")
    check_server_version(welcome.version)
    if fold(welcome.user) != fold(account.user):
        raise ProtocolError(Code.HANDSHAKE, "The server welcomes somebody else.")
    account.link = None
    if account.keys is not None:
        account.keys.on_accepted()
    return welcome


async def _next(link: Link) -> Frame:
    body = await link.receive()
    if body is None:
        raise trio.BrokenResourceError("the server closed the connection")
    frame = decode(body, TO_CLIENT)
    if isinstance(frame, Failed | Goodbye):
        raise closing_error(frame)
    return frame


def closing_error(frame: Failed | Goodbye) -> Exception:
    """Return the exception for a server's last frame: `Refused` if a retry would be pointless."""
    sentence = sentence_of(frame.text)
    if frame.code in _FINAL:
        return Refused(clean_line(frame.code), sentence)
    if frame.code == Code.BUSY:
        return Busy(sentence, frame.wait if isinstance(frame, Failed) else None)
    return trio.BrokenResourceError(sentence)

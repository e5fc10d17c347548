"""The client's half of the handshake: who one is, and the proof of it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.frames import Failed, Goodbye, decode, encode
from tchat.core.protocol.handshake import (
    NONCE_SIZE,
    VERSION,
    Challenge,
    Hello,
    Proof,
    Welcome,
    proof_text,
)
from tchat.core.text import clean_line
from tchat.core.vocabulary import TO_CLIENT
from tchat.errors import Code, ProtocolError, Refused
from tchat.net.tls import pin_seen

if TYPE_CHECKING:
    from tchat.client.client_id import ClientId
    from tchat.core.protocol.schema import Frame
    from tchat.net.identity import Identity
    from tchat.net.link import Link

# For what reasons a server ends a connection that it would end again.
_FINAL = (
    Code.BAD_NAME,
    Code.BAD_VERSION,
    Code.REPLACED,
    Code.NAME_TAKEN,
    Code.BAD_PROOF,
    Code.BAD_LINK,
    Code.KEY_REMOVED,
    Code.NOT_ENCRYPTED,
)


class Busy(Exception):
    """The server has no room for strangers at the moment, and will have in another."""


@dataclass(slots=True)
class Account:
    """Who one is: a name, the identity that proves it, the client's slot.

    `link` is a code that makes the identity one of the name's; it is shown until it was used.
    """

    user: str
    identity: Identity
    slot: ClientId
    link: str | None = None


async def introduce(link: Link, account: Account) -> Welcome:
    """Say and prove who one is, and return the server's welcome.

    Raises `Refused` if the server will not have this person, `ProtocolError`, `Busy`, or
    `trio.BrokenResourceError`.
    """
    nonce = secrets.token_bytes(NONCE_SIZE)
    user, client, key = account.user, account.slot.client, account.identity.public
    hello = Hello(VERSION, user, client, key, nonce, resends=True)
    await link.send(encode(hello))
    challenge = await _next(link)
    if not isinstance(challenge, Challenge) or len(challenge.nonce) != NONCE_SIZE:
        raise ProtocolError(Code.HANDSHAKE, "This does not sound like a tchat server.")
    signature = account.identity.sign(proof_text(hello, challenge, pin_seen(link.stream)))
    await link.send(encode(Proof(signature, account.link)))
    welcome = await _next(link)
    if not isinstance(welcome, Welcome):
        raise ProtocolError(Code.HANDSHAKE, "This does not sound like a tchat server.")
    account.link = None
    return welcome


async def _next(link: Link) -> Frame:
    body = await link.receive()
    if body is None:
        raise trio.BrokenResourceError("the server closed the connection")
    frame = decode(body, TO_CLIENT)
    if isinstance(frame, Failed | Goodbye):
        raise farewell(frame.code, frame.text)
    return frame


def farewell(code: str, text: str) -> Exception:
    """Return the exception for a server that ends the connection: one to survive, or the end."""
    sentence = clean_line(text)
    if code in _FINAL:
        return Refused(clean_line(code), sentence)
    return Busy(sentence) if code == Code.BUSY else trio.BrokenResourceError(sentence)

"""Ping a server: connect, say hello with a key made for this, and wait for the challenge.

That shows that the server accepts connections and that its event loop is responsive. Nothing is
proved and no name is claimed, so the server does not log it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tchat.core.fingerprints import pin_text
from tchat.core.protocol.frames import Failed, Goodbye, decode, encode
from tchat.core.protocol.handshake import NONCE_SIZE, VERSION, Challenge, Hello
from tchat.core.text import clean_line
from tchat.core.vocabulary import TO_CLIENT
from tchat.errors import Code, ProtocolError, Refused, TchatError, Unavailable
from tchat.net.identity import Identity
from tchat.net.link import Link
from tchat.net.proxy_protocol import LOCAL_HEADER
from tchat.net.tcp import explain
from tchat.net.tls import NotTls, ServerBusy, client_context

if TYPE_CHECKING:
    from tchat.net.address import Address

_CLIENT_ID_SIZE = 8


async def ping(
    address: Address,
    pin: bytes | None,
    tls: bool,
    timeout: float,  # noqa: ASYNC109
    from_proxy: bool = False,
) -> float:
    """Return after how many seconds the server sent its challenge.

    With `from_proxy`, the server takes this machine for its proxy, and expects a header from it.

    Raises `Unavailable`, or `Refused`: busy, server_changed or not_encrypted.
    """
    start = trio.current_time()
    try:
        with trio.fail_after(timeout):
            await _challenge(address, pin, tls=tls, preface=LOCAL_HEADER if from_proxy else b"")
    except trio.TooSlowError as error:
        raise Refused(Code.BUSY, f"{address} did not answer within {timeout:g} s.") from error
    except ServerBusy as error:
        raise Refused(Code.BUSY, f"{address} has too many connections.") from error
    except NotTls as error:
        raise Refused(Code.NOT_ENCRYPTED, f"{address} does not speak TLS 1.3.") from error
    except (OSError, UnicodeError, trio.BrokenResourceError, ProtocolError) as error:
        raise Unavailable(
            Code.CANNOT_START, f"{address} cannot be reached: {explain(error)}."
        ) from error
    return trio.current_time() - start


async def _challenge(address: Address, pin: bytes | None, *, tls: bool, preface: bytes) -> None:
    link = await Link.connect(address, client_context(verified=False) if tls else None, preface)
    async with link.stream:
        if pin is not None and pin not in (link.server_pin(), *link.former_pins()):
            raise Refused(
                Code.SERVER_CHANGED, f"{address} has another key: {pin_text(link.server_pin())}."
            )
        key = Identity(Ed25519PrivateKey.generate()).public
        client = secrets.token_bytes(_CLIENT_ID_SIZE)
        await link.send(
            encode(Hello(VERSION, "ping", client, key, secrets.token_bytes(NONCE_SIZE)))
        )
        body = await link.receive()
        if body is None:
            raise trio.BrokenResourceError("the server closed the connection")
        answer = decode(body, TO_CLIENT)
        if isinstance(answer, Failed | Goodbye):
            raise TchatError(answer.code, clean_line(answer.text))
        if not isinstance(answer, Challenge):
            raise ProtocolError(Code.HANDSHAKE, f"{address} is not a tchat server.")

"""Blocking clients of the benchmarked servers: tchat, IRC, bare. Connect, join, post.

Plain sockets without a client library, since the server is what is measured. All clients post the
same text, which occurs in nothing else that a server sends, so that deliveries can be counted by
searching for it.
"""

from __future__ import annotations

import os
import socket
import time
from itertools import count
from typing import TYPE_CHECKING, Protocol, TypeVar

from cryptography import x509

from tchat.core.group.feature import Event
from tchat.core.group.features import encode_event
from tchat.core.group.membership import Join
from tchat.core.group.messages import Post, Posted
from tchat.core.group.settings import SetPolicy
from tchat.core.protocol.frames import Attach, Attached, Ok, Ping, decode, encode
from tchat.core.protocol.framing import FrameBuffer
from tchat.core.protocol.handshake import Challenge, Proof, Welcome, proof_text
from tchat.core.vocabulary import TO_CLIENT
from tchat.net.tls import client_context, pin_of
from tests.helpers import hello_of, identity_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tchat.core.group.feature import Command
    from tchat.core.protocol.schema import Frame

TEXT = (
    "the quick brown fox jumps over the lazy dog while 12 boxers quickly mix 34 big jugs of liqueur"
)
"""The text of all messages: 94 bytes, a typical length."""

MARK = TEXT.encode()
ACK = encode(Ok(0, 0))[5:13]
"""The bytes with which the answer to a stored post begins."""

_AT = 1_800_000_000_000
_KEEPALIVE_SECONDS = 20

F = TypeVar("F", bound="Frame")


class Client(Protocol):
    """One connection to a server, as the person `name`."""

    socket: socket.socket

    def create(self, group: str) -> None:
        """Create an open group and join it."""

    def join(self, group: str) -> None:
        """Join an existing group."""

    def subscribe(self, group: str) -> None:
        """Subscribe to a group."""

    def posts(self, group: str, times: int = 1, text: str = TEXT) -> bytes:
        """Return the bytes that post a text to a group `times` times."""

    def keep_alive(self) -> None:
        """Keep the connection alive, at a server that closes idle ones."""


class TchatClient:
    """Client of a tchat server, optionally over TLS."""

    def __init__(self, port: int, name: str, *, tls: bool = False) -> None:
        self.socket = connect(port)
        pin = b""
        if tls:
            context = client_context(verified=False)
            wrapped = context.wrap_socket(self.socket, server_hostname=None)
            shown = wrapped.getpeercert(binary_form=True) or b""
            pin = pin_of(x509.load_der_x509_certificate(shown))
            self.socket = wrapped
        self._frames = FrameBuffer()
        self._numbers = count(1)
        hello = hello_of(name, os.urandom(8))
        self.socket.sendall(encode(hello))
        proof = proof_text(hello, self._expect(Challenge), pin)
        self.socket.sendall(encode(Proof(identity_of(name).sign(proof))))
        self._expect(Welcome)

    def create(self, group: str) -> None:
        """Create an open group."""
        self._do(Join, group)
        self._do(SetPolicy, group, "open")

    def join(self, group: str) -> None:
        """Join an existing group."""
        self._do(Join, group)

    def subscribe(self, group: str) -> None:
        """Subscribe to a group from its first event on."""
        self.attach(group)
        self._expect(Attached)

    def attach(self, group: str) -> None:
        """Subscribe from the first event on, without waiting for the answer."""
        self.socket.sendall(encode(Attach(next(self._numbers), group, 0)))

    def posts(self, group: str, times: int = 1, text: str = TEXT) -> bytes:
        """Return posts with increasing sequence numbers."""
        numbers = (next(self._numbers) for _ in range(times))
        return b"".join(encode(Post(number, number, group, text)) for number in numbers)

    def keep_alive(self) -> None:
        """Send a ping; the pong is left unread."""
        self.socket.sendall(encode(Ping()))

    def _do(self, command: type[Command], group: str, *arguments: object) -> None:
        number = next(self._numbers)
        self.socket.sendall(encode(command(number, number, group, *arguments)))
        self._expect(Ok)

    def _expect(self, kind: type[F]) -> F:
        while True:
            while (body := self._frames.pop()) is None:
                self._frames.feed(_receive(self.socket))
            frame = decode(body, TO_CLIENT)
            if isinstance(frame, kind):
                return frame
            if frame.type == "error":
                raise ConnectionError(str(frame))


class IrcClient:
    """Client of an IRC server."""

    def __init__(self, port: int, name: str) -> None:
        self.socket = connect(port)
        self._got = b""
        self._ask(f"NICK {name}\r\nUSER {name} 0 * :{name}\r\n", b" 376 ", b" 422 ")

    def create(self, group: str) -> None:
        """Join a channel; the first to join creates it."""
        self.join(group)

    def join(self, group: str) -> None:
        """Join a channel, which implies receiving its messages."""
        self._ask(f"JOIN #{group}\r\n", b" 366 ")

    def subscribe(self, group: str) -> None:
        """Do nothing: joining subscribes."""

    def posts(self, group: str, times: int = 1, text: str = TEXT) -> bytes:
        """Return the PRIVMSG line, `times` times."""
        return f"PRIVMSG #{group} :{text}\r\n".encode() * times

    def keep_alive(self) -> None:
        """Do nothing: the server pings after an hour."""

    def _ask(self, line: str, *answers: bytes) -> None:
        self.socket.sendall(line.encode())
        while not any(answer in self._got for answer in answers):
            self._got += _receive(self.socket)
        self._got = b""


class BareClient:
    """Client of the bare server, which puts each new connection in the next group."""

    def __init__(self, port: int, _: str) -> None:
        self.socket = connect(port)
        # Wait until it is accepted: the order of that decides the groups.
        _receive(self.socket)

    def create(self, group: str) -> None:
        """Do nothing."""

    def join(self, group: str) -> None:
        """Do nothing."""

    def subscribe(self, group: str) -> None:
        """Do nothing."""

    def keep_alive(self) -> None:
        """Do nothing: it closes no idle connections."""

    def posts(self, group: str, times: int = 1, text: str = TEXT) -> bytes:
        """Return the post frame of a tchat client, `times` times."""
        return encode(Post(1000, 1000, group, text)) * times


def event_frame(text: str = TEXT) -> bytes:
    """Return the encoded event frame of a post, as members receive it."""
    return encode_event(Event("g0", 10_000, _AT, "m10", bytes(8), 1000, Posted(text)))


def connect_all(kind: str, port: int, names: Sequence[str]) -> list[Client]:
    """Connect as each of these names, keeping all connections alive meanwhile."""
    makers: dict[str, Callable[[int, str], Client]] = {
        "tchat": TchatClient,
        "tchat-tls": lambda port, name: TchatClient(port, name, tls=True),
        "ngircd": IrcClient,
        "bare": BareClient,
    }
    connections: list[Client] = []
    kept_alive = time.monotonic()
    for name in names:
        connections.append(makers[kind](port, name))
        if time.monotonic() > kept_alive + _KEEPALIVE_SECONDS:
            for client in connections:
                client.keep_alive()
            kept_alive = time.monotonic()
    return connections


def connect(port: int) -> socket.socket:
    """Return a blocking socket connected to a server on loopback, with TCP_NODELAY."""
    connected = socket.create_connection(("127.0.0.1", port))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _receive(connected: socket.socket) -> bytes:
    data = connected.recv(1 << 16)
    if not data:
        raise ConnectionError("the server closed a connection")
    return data

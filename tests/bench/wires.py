"""How to be somebody at each of the servers that are compared: meet it, enter a group, say things.

Blocking sockets, no library of a client's: what is measured is the server. All say the same text,
which comes in nothing else that a server sends, so that what arrives is counted by looking for it.
"""

from __future__ import annotations

import os
import socket
import time
from itertools import count
from typing import TYPE_CHECKING, Protocol, TypeVar

from cryptography import x509

from tchat.core.group.commands import Join, Post, SetPolicy
from tchat.core.group.events import Event, Posted, encode_event
from tchat.core.protocol.frames import Attach, Attached, Ok, Ping, decode, encode
from tchat.core.protocol.framing import FrameBuffer
from tchat.core.protocol.handshake import Challenge, Proof, Welcome, proof_text
from tchat.core.vocabulary import TO_CLIENT
from tchat.net.tls import client_context, pin_of
from tests.helpers import hello_of, identity_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tchat.core.group.commands import Command
    from tchat.core.protocol.schema import Frame

TEXT = (
    "the quick brown fox jumps over the lazy dog while 12 boxers quickly mix 34 big jugs of liqueur"
)
"""What everybody says, many times: 94 bytes, about what people say at once."""

MARK = TEXT.encode()
ACK = encode(Ok(0, 0))[5:13]
"""How the answer to a post that was stored begins."""

_AT = 1_800_000_000_000
_NUDGE_SECONDS = 20

F = TypeVar("F", bound="Frame")


class Wire(Protocol):
    """One connection, as somebody who is called `name`."""

    socket: socket.socket

    def found(self, group: str) -> None:
        """Make a group into which everybody may come, and be in it."""

    def enter(self, group: str) -> None:
        """Be in a group that is there."""

    def follow(self, group: str) -> None:
        """Get what is said in a group from now on."""

    def say(self, group: str, times: int = 1, text: str = TEXT) -> bytes:
        """Return the bytes that say a text in a group so many times."""

    def nudge(self) -> None:
        """Show that one is there still, at a server that sends away who is silent for long."""


class Tchat:
    """At a tchat server; with `tls`, encrypted."""

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

    def found(self, group: str) -> None:
        """Make a group into which everybody may come."""
        self._do(Join, group)
        self._do(SetPolicy, group, "open")

    def enter(self, group: str) -> None:
        """Become a member."""
        self._do(Join, group)

    def follow(self, group: str) -> None:
        """Get what happens from now on, and first what has happened."""
        self.attach(group)
        self._expect(Attached)

    def attach(self, group: str) -> None:
        """Ask for all that has happened, and do not wait for it."""
        self.socket.sendall(encode(Attach(next(self._numbers), group, 0)))

    def say(self, group: str, times: int = 1, text: str = TEXT) -> bytes:
        """Return posts, each with a number of its own."""
        numbers = (next(self._numbers) for _ in range(times))
        return b"".join(encode(Post(number, number, group, text)) for number in numbers)

    def nudge(self) -> None:
        """Ask whether the server is there. Its answer is left where it is."""
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


class Irc:
    """At an IRC server."""

    def __init__(self, port: int, name: str) -> None:
        self.socket = connect(port)
        self._got = b""
        self._ask(f"NICK {name}\r\nUSER {name} 0 * :{name}\r\n", b" 376 ", b" 422 ")

    def found(self, group: str) -> None:
        """Be in a channel; whoever comes first makes it."""
        self.enter(group)

    def enter(self, group: str) -> None:
        """Be in a channel, which includes to hear it."""
        self._ask(f"JOIN #{group}\r\n", b" 366 ")

    def follow(self, group: str) -> None:
        """Do nothing: who is in hears."""

    def say(self, group: str, times: int = 1, text: str = TEXT) -> bytes:
        """Return that many lines."""
        return f"PRIVMSG #{group} :{text}\r\n".encode() * times

    def nudge(self) -> None:
        """Do nothing: it asks by itself, after an hour."""

    def _ask(self, line: str, *answers: bytes) -> None:
        self.socket.sendall(line.encode())
        while not any(answer in self._got for answer in answers):
            self._got += _receive(self.socket)
        self._got = b""


class Bare:
    """At the bare loop, which knows nobody: who connects is in the next group, and hears it."""

    def __init__(self, port: int, _: str) -> None:
        self.socket = connect(port)
        # It has to be known that it was taken in: groups are by the order of that.
        _receive(self.socket)

    def found(self, group: str) -> None:
        """Do nothing."""

    def enter(self, group: str) -> None:
        """Do nothing."""

    def follow(self, group: str) -> None:
        """Do nothing."""

    def nudge(self) -> None:
        """Do nothing: it does not care."""

    def say(self, group: str, times: int = 1, text: str = TEXT) -> bytes:
        """Return the bytes that a tchat client would send."""
        return encode(Post(1000, 1000, group, text)) * times


def event_frame(text: str = TEXT) -> bytes:
    """Return an event as all members get it, for those who only need the bytes."""
    return encode_event(Event("g0", 10_000, _AT, "m10", bytes(8), 1000, Posted(text)))


def meet(kind: str, port: int, names: Sequence[str]) -> list[Wire]:
    """Connect as each of these."""
    makers: dict[str, Callable[[int, str], Wire]] = {
        "tchat": Tchat,
        "tchat-tls": lambda port, name: Tchat(port, name, tls=True),
        "ngircd": Irc,
        "bare": Bare,
    }
    wires: list[Wire] = []
    nudged = time.monotonic()
    for name in names:
        wires.append(makers[kind](port, name))
        if time.monotonic() > nudged + _NUDGE_SECONDS:
            for wire in wires:
                wire.nudge()
            nudged = time.monotonic()
    return wires


def connect(port: int) -> socket.socket:
    """Return a socket that is connected to a server of this machine."""
    connected = socket.create_connection(("127.0.0.1", port))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _receive(connected: socket.socket) -> bytes:
    data = connected.recv(1 << 16)
    if not data:
        raise ConnectionError("the server has closed a connection")
    return data

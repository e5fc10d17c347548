"""How a connection begins: the client says who it is, the server says welcome.

A chat connection opens with `hello`, a transfer connection with `transfer`; nothing else is
accepted before, and frames stay within 4 KiB until `welcome` or `ready`. A server that wants
proof answers `hello` with a question of its own before it says `welcome`, which is why the
client waits for `welcome` and not merely for the next frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from tchat.core.schema import Frame
from tchat.core.text import check_name
from tchat.errors import Code, ProtocolError

VERSION = 1
"""The protocol this code speaks. Peers use the lower of the two versions."""

CLIENT_ID_SIZE = 8
TICKET_SIZE = 16


@dataclass(frozen=True, slots=True)
class Hello(Frame):
    """A person's client introduces itself: protocol version, username, client id (8 bytes)."""

    type = "hello"
    version: int
    user: str
    client: bytes


@dataclass(frozen=True, slots=True)
class Transfer(Frame):
    """A connection that carries one file shows its one-use ticket (16 bytes)."""

    type = "transfer"
    version: int
    ticket: bytes


@dataclass(frozen=True, slots=True)
class Welcome(Frame):
    """The server knows the person as `user` and speaks `version` from here on."""

    type = "welcome"
    version: int
    user: str


@dataclass(frozen=True, slots=True)
class Ready(Frame):
    """The transfer may begin: `size` bytes follow, unframed, in the ticket's direction."""

    type = "ready"
    version: int
    size: int


HELLOS = (Hello, Transfer)
WELCOMES = (Welcome, Ready)


def check_hello(frame: Frame) -> Hello | Transfer:
    """Return the opening frame if it can be answered, or raise `TchatError`.

    A version above ours is fine, since the newer side adapts; a bad username is `Refused`, so
    that a person can choose another.
    """
    if not isinstance(frame, Hello | Transfer):
        raise ProtocolError(Code.HANDSHAKE, "A connection begins with hello or transfer.")
    if frame.version < 1:
        raise ProtocolError(Code.BAD_VERSION, "There is no protocol version below 1.")
    if isinstance(frame, Hello):
        check_name(frame.user, "username")
        if len(frame.client) != CLIENT_ID_SIZE:
            raise ProtocolError(Code.HANDSHAKE, f"A client id has {CLIENT_ID_SIZE} bytes.")
    return frame


def agree(version: int) -> int:
    """Return the protocol version that both sides speak."""
    return min(VERSION, version)

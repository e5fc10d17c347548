"""Messages of the handshake: hello, challenge, proof, welcome; and the bytes that are signed.

    client                                   server
    hello: name, public key, nonce    ─▶
                                      ◀─     challenge: nonce
    proof: signature                  ─▶
                                      ◀─     welcome

A name belongs to a key, and the signature shows that the client has it. What is signed names
everything that the proof is for: its purpose, the server (by its TLS key, which each side takes
from its own TLS state and never from a message), both nonces, the key, the client and the name.
So a proof is good once, for one connection, at one server: one who stands in between and passes
it on has another TLS key, and the server that gets it finds a signature over something else.

A transfer connection opens with `transfer` and a ticket instead, which was given to a person who
had proved all this. Nothing but these is accepted first, and frames stay within 4 KiB until
`welcome` or `ready`.
"""

from __future__ import annotations

from tchat.core.protocol.schema import Frame, record
from tchat.core.text import check_name
from tchat.errors import Code, ProtocolError, Refused

VERSION = 5
"""The protocol version that this code speaks. Earlier ones are refused: since version 5, records
are nested where there were lists side by side, and some frames have other words.
"""

PIECE_SIZE = 1 << 20
"""How often a file says on its way, by a digest, what it should have been so far; in bytes."""

CLIENT_ID_SIZE = 8
TICKET_SIZE = 16
KEY_SIZE = 32
NONCE_SIZE = 32
SIGNATURE_SIZE = 64

_PURPOSE = b"tchat: I am the person of this name, to this server, now\0"


@record
class Hello(Frame):
    """A person's client introduces itself.

    `client` is its id (8 bytes), `key` an Ed25519 public key (32 bytes, RFC 8032), `nonce` 32
    random bytes for this connection alone. One that `resends` promises to send again, by their
    numbers, the commands that are refused with a time to wait: then their order is kept.
    """

    type = "hello"
    version: int
    user: str
    client: bytes
    key: bytes
    nonce: bytes
    resends: bool | None = None


@record
class Challenge(Frame):
    """The server wants the hello proved, with a `nonce` of its own (32 bytes, used once)."""

    type = "challenge"
    version: int
    nonce: bytes


@record
class Proof(Frame):
    """An Ed25519 signature (64 bytes) over `proof_text`.

    `link` is the code that adds this key to a name which belongs to others.
    """

    type = "proof"
    signature: bytes
    link: str | None = None


@record
class Welcome(Frame):
    """The server knows the person as `user` and speaks `version` from here on.

    It takes `burst` commands at once and one every `interval` microseconds in the long run; any
    number, if these are absent.
    """

    type = "welcome"
    version: int
    user: str
    interval: int | None = None
    burst: int | None = None


@record
class TransferHello(Frame):
    """A connection that carries one file shows its one-use ticket (16 bytes)."""

    type = "transfer"
    version: int
    ticket: bytes


@record
class Ready(Frame):
    """The transfer of a file of `size` bytes may begin; see `tchat.files`."""

    type = "ready"
    version: int
    size: int


HELLOS = (Hello, Proof, TransferHello)
WELCOMES = (Challenge, Welcome)


def check_hello(frame: Frame) -> Hello | TransferHello:
    """Return the opening frame if it can be answered, or raise `TchatError`.

    A version above ours is fine, since the newer side adapts; a bad username is `Refused`, so
    that a person can choose another.
    """
    if not isinstance(frame, Hello | TransferHello):
        raise ProtocolError(Code.HANDSHAKE, "A connection begins with hello or transfer.")
    if frame.version < VERSION:
        raise ProtocolError(
            Code.BAD_VERSION,
            f"This client is too old for the server: it speaks version {frame.version} of the"
            f" protocol, and the server needs version {VERSION}. Install a newer tchat.",
        )
    if isinstance(frame, Hello):
        check_name(frame.user, "username")
        _check_size("A client id", frame.client, CLIENT_ID_SIZE)
        _check_size("A key", frame.key, KEY_SIZE)
        _check_size("A nonce", frame.nonce, NONCE_SIZE)
    return frame


def check_server_version(version: int) -> None:
    """Raise `Refused` (bad_version) if a server has chosen a version older than ours.

    A server from before version 5 welcomes a newer client and speaks its own version, which this
    code cannot.
    """
    if version < VERSION:
        raise Refused(
            Code.BAD_VERSION,
            f"This server is too old for the client: it speaks version {version} of the protocol,"
            f" and the client needs version {VERSION}. Ask the server's operator to update it.",
        )


def proof_text(hello: Hello, challenge: Challenge, server: bytes) -> bytes:
    """Return what a proof signs. `server` is the pin of its TLS key, empty without TLS.

    Every part but the last has a fixed length (the pin's is written out), so that no two
    handshakes give the same bytes.
    """
    versions = hello.version.to_bytes(8, "big") + challenge.version.to_bytes(8, "big")
    nonces = challenge.nonce + hello.nonce
    place = bytes([len(server)]) + server
    return _PURPOSE + versions + place + nonces + hello.key + hello.client + hello.user.encode()


def agree(version: int) -> int:
    """Return the protocol version that both sides speak."""
    return min(VERSION, version)


def _check_size(what: str, data: bytes, size: int) -> None:
    if len(data) != size:
        raise ProtocolError(Code.HANDSHAKE, f"{what} has {size} bytes.")

"""Handshake frames (hello, challenge, proof, welcome) and the text that a proof signs.

    client                                   server
    hello: name, public key, nonce    ─▶
                                      ◀─     challenge: nonce
    proof: signature                  ─▶
                                      ◀─     welcome

A name belongs to a public key, and the signature proves that the client has the private key. The
signed text contains everything that the proof depends on: its purpose, both versions, the server's
TLS key, both nonces, the client's key and id, and the name. Each side takes the TLS key from its
own TLS connection, never from a message.

A proof is therefore valid once, on one connection, for one server. A man in the middle who relays
it has another TLS key, so the server that receives it computes another text and rejects the
signature.

A transfer connection opens with `transfer` and a ticket instead; tickets are given only to people
who completed this handshake. No other frame may come first, and frames are limited to 4 KiB until
`welcome` or `ready`.
"""

from __future__ import annotations

from tchat.core.protocol.schema import Frame, record
from tchat.core.text import check_name
from tchat.errors import Code, ProtocolError, Refused

VERSION = 5
"""The protocol version that this code speaks. Earlier versions are refused: version 5 replaced
parallel lists with nested records and renamed some frames.
"""

PIECE_SIZE = 1 << 20
"""The size of a piece, in bytes. Each piece of a transfer carries the running digest of the file.
"""

CLIENT_ID_SIZE = 8
TICKET_SIZE = 16
KEY_SIZE = 32
NONCE_SIZE = 32
SIGNATURE_SIZE = 64

_PURPOSE = b"tchat: I am the person of this name, to this server, now\0"


@record
class Hello(Frame):
    """Open a chat connection.

    `client` is the client's id (8 bytes), `key` an Ed25519 public key (32 bytes, RFC 8032), `nonce`
    32 random bytes that are new for each connection. Commands with numbers below `upcoming` may
    have been sent on an earlier connection; others were not.
    """

    type = "hello"
    version: int
    user: str
    client: bytes
    key: bytes
    nonce: bytes
    upcoming: int | None = None


@record
class Challenge(Frame):
    """The server asks for a proof; `nonce` is 32 random bytes that are new for each connection."""

    type = "challenge"
    version: int
    nonce: bytes


@record
class Proof(Frame):
    """An Ed25519 signature (64 bytes) over `proof_text`.

    `link` is a link code, which adds this key to a name that already has others.
    """

    type = "proof"
    signature: bytes
    link: str | None = None


@record
class Welcome(Frame):
    """The server accepts the person as `user`; both sides speak `version` from here on.

    The rate limit is `burst` commands at once and one per `interval` microseconds in the long run.
    If the two are absent, there is no limit. `now` is the server's time, by which events are dated
    (ms since the Unix epoch).
    """

    type = "welcome"
    version: int
    user: str
    interval: int | None = None
    burst: int | None = None
    now: int | None = None


@record
class TransferHello(Frame):
    """Open a transfer connection, which carries one file, with a single-use ticket (16 bytes)."""

    type = "transfer"
    version: int
    ticket: bytes


@record
class Ready(Frame):
    """The transfer of a file of `size` bytes may begin; see `tchat.transfer`."""

    type = "ready"
    version: int
    size: int


HELLOS = (Hello, Proof, TransferHello)
WELCOMES = (Challenge, Welcome)


def check_hello(frame: Frame) -> Hello | TransferHello:
    """Return a connection's first frame if it is valid, or raise `TchatError`.

    A higher version than `VERSION` is accepted, because the newer side adapts. An invalid username
    raises `Refused` rather than `ProtocolError`, so that the person can choose another.
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
    """Raise `Refused` (bad_version) if the server has chosen a version below `VERSION`.

    A server older than version 5 accepts a newer client and then speaks its own version, which this
    code does not support.
    """
    if version < VERSION:
        raise Refused(
            Code.BAD_VERSION,
            f"This server is too old for the client: it speaks version {version} of the protocol,"
            f" and the client needs version {VERSION}. Ask the server's operator to update it.",
        )


def proof_text(hello: Hello, challenge: Challenge, server: bytes) -> bytes:
    """Return the text that a proof signs. `server` is the server's pin, empty without TLS.

    Every part but the last has a fixed length or a length prefix, so two different handshakes never
    have the same text.
    """
    versions = hello.version.to_bytes(8, "big") + challenge.version.to_bytes(8, "big")
    nonces = challenge.nonce + hello.nonce
    pin = bytes([len(server)]) + server
    return _PURPOSE + versions + pin + nonces + hello.key + hello.client + hello.user.encode()


def agree(version: int) -> int:
    """Return the protocol version that both sides speak."""
    return min(VERSION, version)


def _check_size(what: str, data: bytes, size: int) -> None:
    if len(data) != size:
        raise ProtocolError(Code.HANDSHAKE, f"{what} must have {size} bytes.")

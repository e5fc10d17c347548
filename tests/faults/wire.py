"""The protocol as PROTOCOL.md describes it, over plain TCP: framing and handshake."""

from __future__ import annotations

import secrets
import struct
from typing import TYPE_CHECKING, Any

import cbor2
import trio

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Map = dict[str, Any]

VERSION = 5
_PURPOSE = b"tchat: I am the person of this name, to this server, now\0"
_CHUNK = 1 << 16


class Refusal(Exception):
    """The server has ended the handshake, or the connection, with this code."""


class Wire:
    """A connection: frames of a 4-byte length and a CBOR map."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.heard = trio.current_time()
        self._data = bytearray()

    async def send(self, *items: Map) -> None:
        """Send frames in one write."""
        await self.stream.send_all(b"".join(map(packed, items)))

    async def receive(self) -> bytes | None:
        """Return the body of the next frame; None at the end of the connection."""
        while True:
            if len(self._data) >= 4:
                (length,) = struct.unpack_from(">I", self._data)
                if len(self._data) >= 4 + length:
                    body = bytes(self._data[4 : 4 + length])
                    del self._data[: 4 + length]
                    return body
            more = await self.stream.receive_some(_CHUNK)
            if not more:
                return None
            self.heard = trio.current_time()
            self._data += more

    async def next(self, kind: str) -> Map:
        """Return the next frame of a type; skip others. Raises `Refusal`."""
        while (body := await self.receive()) is not None:
            frame: Map = cbor2.loads(body)
            if frame["type"] == kind:
                return frame
            if frame["type"] in ("error", "goodbye"):
                raise Refusal(frame.get("code", "goodbye"))
        raise Refusal("closed")

    async def answer(self, request: Map) -> Map:
        """Send a request and return its answer; skip other frames."""
        await self.send(request)
        while (body := await self.receive()) is not None:
            frame: Map = cbor2.loads(body)
            if frame.get("re") == request["id"]:
                return frame
        raise Refusal("closed")


def packed(item: Map) -> bytes:
    """Return a frame."""
    body = cbor2.dumps(item)
    return struct.pack(">I", len(body)) + body


async def log_in(wire: Wire, user: str, private: Ed25519PrivateKey, client: bytes) -> Map:
    """Prove a key to the server; return its welcome. Raises `Refusal`."""
    key, nonce = private.public_key().public_bytes_raw(), secrets.token_bytes(32)
    hello = {"type": "hello", "version": VERSION, "user": user, "client": client}
    await wire.send({**hello, "key": key, "nonce": nonce})
    challenge = await wire.next("challenge")
    versions = struct.pack(">QQ", VERSION, challenge["version"])
    nonces = challenge["nonce"] + nonce
    signed = _PURPOSE + versions + b"\0" + nonces + key + client + user.encode()
    await wire.send({"type": "proof", "signature": private.sign(signed)})
    return await wire.next("welcome")

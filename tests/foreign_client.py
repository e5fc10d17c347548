"""A client written from PROTOCOL.md alone: it imports nothing of tchat.

`python tests/foreign_client.py HOST PORT VERSION` authenticates over TLS, creates a group, posts,
repeats a command, reads a page of the past, uploads a file, and resumes its download. It shows that
the protocol's page is complete, and what an implementation in another language has to do.
"""

from __future__ import annotations

import hashlib
import secrets
import socket
import ssl
import struct
import sys
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate

PURPOSE = b"tchat: I am the person of this name, to this server, now\0"
PIECE = 1 << 20
GUARD = 20.0
GROUP = "lab"

Map = dict[str, Any]


class Wire:
    """One connection: frames of a 4-byte length and a CBOR map, over TLS 1.3."""

    def __init__(self, host: str, port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the pin identifies the server, not its name
        context.verify_mode = ssl.CERT_NONE
        raw = socket.create_connection((host, port), timeout=GUARD)
        self.socket = context.wrap_socket(raw, server_hostname=host)
        shown = self.socket.getpeercert(binary_form=True)
        assert shown is not None
        key = load_der_x509_certificate(shown).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.pin = hashlib.sha256(spki).digest()

    def send(self, item: Map) -> None:
        """Send one frame."""
        body = cbor2.dumps(item)
        self.socket.sendall(struct.pack(">I", len(body)) + body)

    def receive(self) -> Map:
        """Return the next frame."""
        (length,) = struct.unpack(">I", self.read(4))
        item: Map = cbor2.loads(self.read(length))
        return item

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, "the server closed the connection"
            data += more
        return data

    def next(self, kind: str) -> Map:
        """Return the next frame of a type; skip pings and frames of other types."""
        while (frame := self.receive())["type"] != kind:
            assert frame["type"] not in ("error", "goodbye"), frame
        return frame

    def answer(self, request: Map) -> Map:
        """Send a request and return its answer."""
        self.send(request)
        while (frame := self.receive()).get("re") != request["id"]:
            continue
        return frame


class Client:
    """One person at one server."""

    def __init__(self, host: str, port: int, version: int) -> None:
        self.host, self.port, self.version = host, port, version
        self.private = Ed25519PrivateKey.generate()
        self.client = secrets.token_bytes(8)
        self.wire = Wire(host, port)

    def authenticate(self, user: str) -> Map:
        """Prove the key to the server; return its welcome."""
        key, nonce = self.private.public_key().public_bytes_raw(), secrets.token_bytes(32)
        hello = {"type": "hello", "version": self.version, "user": user, "client": self.client}
        self.wire.send({**hello, "key": key, "nonce": nonce, "resends": True})
        challenge = self.wire.next("challenge")
        versions = struct.pack(">QQ", self.version, challenge["version"])
        place = bytes([len(self.wire.pin)]) + self.wire.pin
        nonces = challenge["nonce"] + nonce
        signed = PURPOSE + versions + place + nonces + key + self.client + user.encode()
        self.wire.send({"type": "proof", "signature": self.private.sign(signed)})
        return self.wire.next("welcome")

    def transfer(self, ticket: bytes) -> tuple[Wire, int]:
        """Open the connection of a ticket; return it, and the size of the file."""
        wire = Wire(self.host, self.port)
        wire.send({"type": "transfer", "version": self.version, "ticket": ticket})
        return wire, wire.next("ready")["size"]


def upload(client: Client, data: bytes) -> bytes:
    """Upload a file; return its digest from the server's answer."""
    head = hashlib.sha256(data[:PIECE]).digest()
    asks = {"type": "upload", "id": 20, "group": GROUP, "size": len(data), "head": head}
    wire, size = client.transfer(client.wire.answer(asks)["ticket"])
    assert size == len(data)
    assert wire.next("have")["offset"] == 0
    wire.send({"type": "from", "offset": 0})
    for begin in range(0, len(data), PIECE):
        end = min(begin + PIECE, len(data))
        digest = hashlib.sha256(data[:end]).digest()
        wire.send({"type": "piece", "size": end - begin, "sha256": digest})
        wire.socket.sendall(data[begin:end])
    stored: bytes = wire.next("stored")["sha256"]
    wire.socket.close()
    return stored


def resume_download(client: Client, have: bytes) -> bytes:
    """Download the rest of the group's first file after the bytes `have`; return the whole file."""
    asks = {"type": "download", "id": 30, "group": GROUP, "number": 1}
    wire, size = client.transfer(client.wire.answer(asks)["ticket"])
    whole = hashlib.sha256(have[: len(have) - len(have) % PIECE]).digest()
    wire.send({"type": "have", "offset": len(have), "sha256": whole, "doubt": False})
    assert wire.next("from")["offset"] == len(have)
    while len(have) < size:
        piece = wire.next("piece")
        have += wire.read(piece["size"])
        assert hashlib.sha256(have).digest() == piece["sha256"]
    wire.send({"type": "stored", "sha256": hashlib.sha256(have).digest()})
    wire.socket.close()
    return have


def main(host: str, port: int, version: int) -> None:
    """Do every step once and print the results."""
    client = Client(host, port, version)
    welcome = client.authenticate("zoë")
    print("welcome", welcome["user"], welcome["version"])
    wire = client.wire

    created = wire.answer({"type": "join", "id": 1, "n": 1, "group": GROUP})
    print("created at", created["seq"])
    attached = wire.answer({"type": "attach", "id": 2, "group": GROUP, "after": 0})
    print("attached as", attached["standing"], "counted", attached["counted"])
    assert wire.next("event")["kind"] == "created"

    post = {"type": "post", "id": 3, "n": 2, "group": GROUP, "text": "hello"}
    print("posted at", wire.answer(post)["seq"])
    again = wire.answer({**post, "id": 4})
    print("repeated:", again["type"], "seq" in again)

    asks = {"type": "history_request", "id": 5, "group": GROUP, "before": 3}
    past = wire.answer(asks)
    (length,) = struct.unpack(">I", past["frames"][:4])
    first = cbor2.loads(past["frames"][4 : 4 + length])
    print("past", past["first"], past["last"], first["kind"])
    print("unknown:", wire.answer({"type": "no_such_frame", "id": 6})["code"])

    data = bytes(i % 251 for i in range(251)) * 5000
    digest = upload(client, data)
    assert digest == hashlib.sha256(data).digest()
    share = {"type": "share", "id": 7, "n": 3, "group": GROUP, "name": "data.bin"}
    print("shared at", wire.answer({**share, "size": len(data), "sha256": digest})["seq"])
    print("resumed:", resume_download(client, data[: PIECE + 100]) == data)
    wire.socket.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

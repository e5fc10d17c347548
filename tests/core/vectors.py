"""Test vectors of the protocol, for implementations in other languages.

`python -m tests.core.vectors` writes vectors.json from the code; tests/core/test_vectors.py fails
while the two differ. tchat/core/protocol/PROTOCOL.md explains the fields. In the JSON, a CBOR byte
string is {"bytes": HEX}, and everything else that is HEX says so in its key or is listed there.

The vectors stand on frames that every version has (hello, post, ping), with a version number of
their own, so that a new version of the protocol changes no vector without need.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tchat.core.fingerprints import fingerprint, invite_text, pin_text, token_digest
from tchat.core.group.direct import direct_name
from tchat.core.group.messages import Post
from tchat.core.protocol.frames import Ping, encode
from tchat.core.protocol.framing import PREFIX
from tchat.core.protocol.handshake import PIECE_SIZE, Challenge, Hello, proof_text
from tchat.core.text import check_name, clean_line, clean_text, fold, safe_filename
from tchat.errors import Refused
from tchat.net.identity import Identity
from tchat.net.key_chain import extend_chain, pin_of_key, to_extension

if TYPE_CHECKING:
    from tchat.core.protocol.schema import Frame

PATH = Path(__file__).with_name("vectors.json")

VERSION = 5
SEED = bytes(range(32))
PIN = hashlib.sha256(b"a server's SubjectPublicKeyInfo").digest()
HELLO_NONCE = bytes([1]) * 32
CHALLENGE_NONCE = bytes([2]) * 32
CLIENT = bytes(range(8))
TOKEN = bytes(range(16))

FOLDED = [
    *("Alice", "alice", "ÄRGER", "Straße", "STRASSE", "Ω", "\u2126"),
    *("ﬁne", "ｂｏｂ", "İ", "山田.太郎"),  # noqa: RUF001
]
NAMES = [
    *("alice", "Alice.B-2", "ｂｏｂ", "e\u0301mile", "数字", "x" * 32),  # noqa: RUF001
    *("", "a b", "a/b", "@bob", "x" * 33, "a\u200db", "\u0301a", "a\ufe0f", "ㅤ", "🙂"),
]
PAIRS = [("bob", "alice"), ("Bob", "alice"), ("Zoë", "Ärger")]
TEXTS = [
    *("hello", "tab\there", "two\r\nlines", "a\u2028b", "\x1b[31mred", "bell\x07", "del\x7f"),
    *("c1 \x85", "bidi \u202eevil", "joined 👩\u200d💻", "zero\u200bwidth", "mark" + "\u0301" * 8),
]
FILES = [
    *("report.pdf", "../../etc/passwd", "C:\\temp\\a.txt", ".bashrc", "-rf", "CON", "com1.txt"),
    *("a:b?.txt", "line\nbreak", "", "...", "x" * 200 + ".tar", "e\u0301.txt"),
]
SIZE = 2 * PIECE_SIZE + 12_345


def vectors() -> dict[str, object]:
    """Return every vector, as JSON has it."""
    return {
        "about": "Test vectors of the tchat protocol; see tchat/core/protocol/PROTOCOL.md.",
        "frames": [_frame(frame) for frame in (Ping(), _hello(), Post(7, 1, "ops", "héllo", 3))],
        "accepted": _accepted(),
        "malformed": _malformed(),
        "signatures": [_signature(PIN), _signature(b"")],
        "fold": [[name, fold(name)] for name in FOLDED],
        "names": [_name(typed) for typed in NAMES],
        "conversations": [[one, other, direct_name(one, other)] for one, other in PAIRS],
        "clean_text": [[text, clean_text(text)] for text in TEXTS],
        "clean_line": [[text, clean_line(text)] for text in TEXTS],
        "file_names": [[name, safe_filename(name)] for name in FILES],
        "key_chains": [_key_chain()],
        "pins": [{"sha256": PIN.hex(), "text": pin_text(PIN)}],
        "fingerprints": [{"key": _public().hex(), "text": fingerprint(_public())}],
        "invites": [_invite(PIN), _invite(b"")],
        "running_digests": _digests(),
    }


def content(size: int) -> bytes:
    """Return the file of the vector `running_digests`: byte i is i modulo 251."""
    return bytes(i % 251 for i in range(251)) * (size // 251) + bytes(range(size % 251))


def hello_of(vector: dict[str, str]) -> tuple[Hello, Challenge]:
    """Return the hello of a vector of `signatures`."""
    part = {key: bytes.fromhex(vector[key]) for key in ("client", "key", "nonce", "server_nonce")}
    version = int(vector["version"])
    hello = Hello(version, vector["user"], part["client"], part["key"], part["nonce"])
    return hello, Challenge(version, part["server_nonce"])


def dump() -> str:
    """Return the text of vectors.json."""
    return json.dumps(vectors(), indent=1) + "\n"


def _hello() -> Hello:
    return Hello(VERSION, "Zoë", CLIENT, _public(), HELLO_NONCE)


def _identity() -> Identity:
    return Identity(Ed25519PrivateKey.from_private_bytes(SEED))


def _public() -> bytes:
    return _identity().public


def _frame(frame: Frame) -> dict[str, object]:
    item = {k: {"bytes": v.hex()} if isinstance(v, bytes) else v for k, v in frame.to_map().items()}
    return {"map": item, "frame": encode(frame).hex()}


def _accepted() -> list[dict[str, str]]:
    """Return bodies that differ from tchat's encoding and mean {"type": "ping"}."""
    ping = cbor2.dumps({"type": "ping"})
    return [
        {"why": "as tchat writes it", "body": ping.hex()},
        {"why": "an unknown key is ignored", "body": cbor2.dumps({"new": 1, "type": "ping"}).hex()},
        {"why": "a length in more bytes than it needs", "body": f"a17804{ping[2:].hex()}"},
    ]


def _malformed() -> list[dict[str, str]]:
    ping = cbor2.dumps({"type": "ping"})
    pair = ping[1:]
    deep = cbor2.dumps("x")
    for _ in range(17):
        deep = b"\x81" + deep
    bodies = {
        "empty": b"",
        "not a map": cbor2.dumps(["type", "ping"]),
        "no type": cbor2.dumps({"id": 1}),
        "a key that is no text": cbor2.dumps({1: 2, "type": "ping"}),
        "a duplicate key": b"\xa2" + pair + pair,
        "a byte after the end": ping + b"\x00",
        "cut short": ping[:-1],
        "an indefinite length": b"\xbf" + pair + b"\xff",
        "a tag": b"\xc1" + ping,
        "a tag on a value": b"\xa2" + pair + cbor2.dumps("at") + b"\xc1\x00",
        "text that is no UTF-8": b"\xa1\x64type\x62\xc3\x28",
        "nested too deeply": b"\xa2" + pair + cbor2.dumps("x") + deep,
        "a negative number": cbor2.dumps({"type": "seen", "group": "ops", "seq": -1}),
        "a number that is true": cbor2.dumps({"type": "seen", "group": "ops", "seq": True}),
        "a missing key": cbor2.dumps({"type": "seen", "group": "ops"}),
        "null for an optional key": cbor2.dumps(
            {"type": "post", "id": 1, "n": 1, "group": "ops", "text": "x", "reply": None}
        ),
    }
    return [{"why": why, "body": body.hex()} for why, body in bodies.items()]


def _key_chain() -> dict[str, object]:
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(3)]
    pins = [pin_of_key(key.public_key().public_bytes_raw()) for key in keys]
    chain = b""
    for key, next_pin in zip(keys, pins[1:], strict=False):
        chain = extend_chain(chain, key, next_pin)
    return {
        "private": [key.private_bytes_raw().hex() for key in keys],
        "pins": [pin_text(pin) for pin in pins],
        "chain": chain.hex(),
        "extension": to_extension(chain).hex(),
    }


def _signature(pin: bytes) -> dict[str, object]:
    hello, challenge = _hello(), Challenge(VERSION, CHALLENGE_NONCE)
    signed = proof_text(hello, challenge, pin)
    return {
        "version": VERSION,
        "user": hello.user,
        "client": hello.client.hex(),
        "private_key": SEED.hex(),
        "key": hello.key.hex(),
        "nonce": hello.nonce.hex(),
        "server_nonce": challenge.nonce.hex(),
        "pin": pin.hex(),
        "signed": signed.hex(),
        "signature": _identity().sign(signed).hex(),
    }


def _name(typed: str) -> dict[str, str]:
    try:
        return {"typed": typed, "name": check_name(typed)}
    except Refused as refusal:
        return {"typed": typed, "refused": str(refusal.code)}


def _invite(pin: bytes) -> dict[str, str]:
    return {
        "token": TOKEN.hex(),
        "pin": pin.hex(),
        "text": invite_text(TOKEN, pin),
        "digest": token_digest(TOKEN).hex(),
    }


def _digests() -> dict[str, object]:
    data = content(SIZE)
    ends = [*range(PIECE_SIZE, SIZE, PIECE_SIZE), SIZE]
    pieces = [{"end": end, "sha256": hashlib.sha256(data[:end]).hexdigest()} for end in ends]
    return {
        "content": "byte i of the file is i modulo 251",
        "size": SIZE,
        "head": hashlib.sha256(data[:PIECE_SIZE]).hexdigest(),
        "pieces": pieces,
        "resumed_from": {
            "offset": PIECE_SIZE + 100,
            "have_sha256": pieces[0]["sha256"],
            "first_piece_size": PIECE_SIZE - 100,
        },
    }


def body_of(frame: bytes) -> bytes:
    """Return a frame without its length."""
    return frame[PREFIX:]


if __name__ == "__main__":
    PATH.write_text(dump(), encoding="utf-8")

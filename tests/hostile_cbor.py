"""Hand-encoded CBOR: invalid in every way, and valid frames that are expensive to decode."""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

import cbor2

from tchat.core.protocol.framing import FRAME_LIMIT, PREFIX
from tests.helpers import (
    GROUP,
)

UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
"""The major types of CBOR (RFC 8949, section 3.1)."""

INDEFINITE, BREAK = 31, b"\xff"

LARGEST = 2**63 - 1
MOST = 2**64 - 1


class Hostile(NamedTuple):
    """An encoded frame with its length prefix, and a description of what is wrong with it."""

    what: str
    data: bytes


# ---------------------------------------------------------------------------- encoding


def framed(body: bytes, length: int | None = None) -> bytes:
    """Return a body with a length prefix: its own length unless `length` is given."""
    return (len(body) if length is None else length).to_bytes(PREFIX, "big") + body


def head(major: int, value: int, width: int = 0) -> bytes:
    """Return the head of an item, its argument in `width` bytes (0: as few as possible)."""
    if not width:
        width = next(w for w in (0, 1, 2, 4, 8) if value < (24 if w == 0 else 1 << 8 * w))
    if width == 0:
        return bytes([major << 5 | value])
    info = {1: 24, 2: 25, 4: 26, 8: 27}[width]
    return bytes([major << 5 | info]) + value.to_bytes(width, "big")


def text(data: bytes) -> bytes:
    """Return a text item of these bytes, valid UTF-8 or not."""
    return head(TEXT, len(data)) + data


def a_map(*pairs: tuple[bytes, bytes]) -> bytes:
    """Return a map of encoded keys and values, in this order, duplicates included."""
    return head(MAP, len(pairs)) + b"".join(key + value for key, value in pairs)


def nested(depth: int, *, maps: bool = False) -> bytes:
    """Return arrays (or maps) nested `depth` deep."""
    return (b"\xa1\x61k" if maps else b"\x81") * depth + b"\x00"


def _colliding(number: int) -> bytes:
    """Return a map whose keys, arrays of two numbers, all have the same hash in CPython.

    Inverts the xxHash-based hash of tuples: for each first number, the second is solved for.
    """
    multiplier, prime, offset = 11400714785074694791, 14029467366897019727, 2870177450012600261
    inverse = pow(prime, -1, 1 << 64)
    pairs: list[tuple[bytes, bytes]] = []
    for first in count(1):
        lane = (offset + first * prime) & MOST
        lane = (lane << 31 | lane >> 33) * multiplier & MOST
        second = (12345 - lane) * inverse & MOST
        if second < 2**61 - 1:
            pairs.append((b"\x82" + head(UINT, first) + head(UINT, second), b"\x00"))
        if len(pairs) == number:
            break
    return a_map(*pairs)


# ---------------------------------------------------------------------------- invalid values

WORDS = [
    "",
    " ",
    "ops",
    "OPS",
    "alice",
    "bob",
    "mallory",
    "x" * 33,
    "ﷺ" * 40,
    "\x00",
    "\x1b]0;owned\x07\x1b[2J",
    "a\u202eb",
    "\u2066\u2069\u200b\ufeff",
    "e" + "\u0301" * 60,
    "\u0301\u0316" * 60,
    "\U000e0041",
    "\ufdd0\uffff",
    "../../etc/passwd",
    "CON",
    "\n\r\t\u2028",
    "member",
    "ping",
]

_INTEGERS = [0, 1, 23, 24, 2**31, 2**32, 2**53, 2**62, LARGEST, 2**63, MOST]

_TAGS = (*range(6), 21, 24, 25, 28, 29, 30, 32, 35, 36, 37, 52, 54, 64, 100, 256, 258, 260, 261)
_TAGS = (*_TAGS, 1004, 43000, 55799, 2**16, 2**32, MOST)

_TAGGED = [
    b"\x00",
    b"\x40",
    b"\x61a",
    b"\x80",
    b"\xa0",
    text(b"(a+)+$"),
    text(b"2026-01-01T00:00:00Z"),
    b"\x82\x1b" + b"\xff" * 8 + b"\x01",
    head(BYTES, 64) + b"\xff" * 64,
    b"\xfb" + b"\x7f" * 8,
]


def _wrong_values() -> list[tuple[str, bytes]]:
    """Return encoded values of every kind, most of them invalid for any key."""
    numbers = [("integer", head(UINT, n)) for n in _INTEGERS]
    numbers += [("negative", head(NEGATIVE, n)) for n in _INTEGERS]
    numbers += [("integer in too many bytes", head(UINT, 7, width)) for width in (1, 2, 4, 8)]
    floats = [b"\xf9\x3c\x00", b"\xf9\x7e\x00", b"\xf9\x7c\x00", b"\xf9\x80\x00", b"\xf9\x00\x01"]
    floats += [b"\xfa\x7f\x80\x00\x01", b"\xfb\x7f\xf8" + bytes(6), b"\xfb" + bytes(8)]
    simple = [bytes([SIMPLE << 5 | n]) for n in range(24)]
    simple += [b"\xf8" + bytes([n]) for n in (0, 20, 31, 32, 255)]
    reserved = [bytes([major << 5 | info]) for major in range(8) for info in (28, 29, 30, 31)]
    endless = [b"\x5f\x41\x00\xff", b"\x7f\x61a\xff", b"\x9f\xff", b"\xbf\xff", b"\x9f\x9f\x9f"]
    broken = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80", b"a\xe2"]
    lengths = [
        head(major, n)
        for major in (BYTES, TEXT, ARRAY, MAP)
        for n in (24, 65_536, 2**31, 2**32 - 1, 2**60, LARGEST, MOST)
    ]
    keys = [
        a_map((b"\x61k", b"\x00"), (b"\x61k", b"\x01")),
        a_map((b"\x00", b"\x00")),
        a_map((b"\xf6", b"\x00")),
        a_map((b"\xf9\x7e\x00", b"\x00"), (b"\xf9\x7e\x00", b"\x01")),
        a_map((b"\x80", b"\x00")),
        a_map((b"\xa0", b"\x00")),
        a_map((b"\x41k", b"\x00"), (b"\x61k", b"\x00")),
        _colliding(40),
    ]
    sizes = (0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 255)
    found: list[tuple[str, list[bytes]]] = [
        ("float", floats),
        ("simple value", simple),
        ("reserved head", reserved),
        ("indefinite length", endless),
        ("text that is no UTF-8", [text(data) for data in broken]),
        ("text", [text(word.encode()) for word in WORDS]),
        ("bytes", [head(BYTES, size) + bytes(size) for size in sizes]),
        ("length without an end", lengths),
        ("depth", [nested(n) for n in (1, 2, 14, 15, 16, 17, 40, 400, 2000)]),
        ("depth", [nested(n, maps=True) for n in (1, 2, 14, 15, 16, 17, 40, 400, 1200)]),
        ("keys", keys),
        ("tag", [head(TAG, tag) + content for tag in _TAGS for content in _TAGGED]),
        ("array", [b"\x80", b"\x82\x00\x00", head(ARRAY, 30) + b"\x60" * 30]),
        ("map", [b"\xa0", b"\xa1\x64type\x64ping"]),
    ]
    return numbers + [(what, value) for what, values in found for value in values]


WRONG_VALUES = _wrong_values()
BY_KIND = [[pair for pair in WRONG_VALUES if pair[0] == what] for what in dict(WRONG_VALUES)]

# ---------------------------------------------------------------------------- expensive frames


def _filled(start: bytes, item: bytes, limit: int) -> bytes:
    """Return a frame of `limit` bytes: `start` plus a key whose value is an array of `item`s."""
    room = (limit - len(start) - 5) // len(item)
    return framed(start + b"\x61x" + head(ARRAY, room, 2 if room < 65_536 else 4) + item * room)


def _said(request: dict[str, object], key: str, filling: str, limit: int) -> bytes:
    """Return a valid frame with one text field filled up to the limit."""
    room = limit - len(cbor2.dumps({**request, key: ""})) - 4
    return framed(cbor2.dumps({**request, key: filling * (room // len(filling.encode()))}))


_FILLINGS = {
    "ESC": "\x1b",
    "newlines": "\n",
    "C1": "\x85",
    "bidi": "\u202e",
    "marks": "\u0301\u0316",
    "joiners": "a\u200d",
    "jamo": "\u1100\u1161",
    "ligatures": "\ufdfa",
    "dots": " .",
    "slashes": "/\\",
    "letters": "a",
    "astral": "\U0001f468\u200d",
}

_ITEMS = {
    "arrays": b"\x80",
    "maps": b"\xa0",
    "texts": b"\x60",
    "bytes": b"\x40",
    "numbers": b"\x00",
    "simple values": b"\xf8\x80",
    "half floats": b"\xf9\x3c\x01",
    "arrays in arrays": b"\x81" * 11 + b"\x80",
    "pairs": b"\x82\x80\x80",
    "maps in maps": b"\xa1\x60" * 11 + b"\xa0",
}


def costly_requests(limit: int = FRAME_LIMIT) -> list[Hostile]:
    """Return the most expensive requests for a server, each as long as allowed."""
    ping, post = b"\xa2\x64type\x64ping", {"type": "post", "id": 1, "n": 1, "group": GROUP}
    share = {"type": "share", "id": 1, "n": 1, "group": GROUP, "size": 1, "sha256": bytes(32)}
    seen, kick = {"type": "seen", "seq": 1}, {**post, "type": "kick", "name": ""}
    frames = [
        Hostile(f"ping full of {what}", _filled(ping, item, limit)) for what, item in _ITEMS.items()
    ]
    for what, filling in _FILLINGS.items():
        frames += [
            Hostile(f"post of {what}", _said(post, "text", filling, limit)),
            Hostile(f"share of a file named {what}", _said(share, "name", filling, limit)),
            Hostile(f"seen in a group named {what}", _said(seen, "group", filling, limit)),
            Hostile(f"kick of somebody named {what}", _said(kick, "name", filling, limit)),
            Hostile(f"a type of {what}", _said({}, "type", filling, limit)),
        ]
    spaces = "a" + " " * (limit - 200) + "a"
    keys = b"".join(text(b"%04x" % n) + b"\x00" for n in range((limit - 200) // 6))
    frames += [
        Hostile("share with a hole in its name", framed(cbor2.dumps({**share, "name": spaces}))),
        Hostile("post with a hole", framed(cbor2.dumps({**post, "text": spaces}))),
        Hostile("a map of many keys", framed(head(MAP, len(keys) // 6, 2) + keys)),
        Hostile("a map of colliding keys", framed(_colliding((limit - 200) // 22))),
        Hostile("as long as it may be", framed(cbor2.dumps(ping)[:1] + bytes(limit - 1))),
    ]
    return frames


def costly_answers(limit: int = FRAME_LIMIT) -> list[Hostile]:
    """Return the most expensive frames for a client, each as long as allowed."""
    presence = {"type": "presence", "group": GROUP, "online": [], "offline": [], "reset": True}
    names = (limit - 100) // 3
    frames = [Hostile("pong full of items", _filled(b"\xa2\x64type\x64pong", b"\x80", limit))]
    for what, filling in _FILLINGS.items():
        error = {"type": "error", "code": "", "text": what, "re": 1}
        frames += [
            Hostile(f"error of {what}", _said({**error, "code": "x"}, "text", filling, limit)),
            Hostile(f"error coded {what}", _said(error, "code", filling, limit)),
            Hostile(f"presence in {what}", _said(presence, "group", filling, limit)),
        ]
    online = head(ARRAY, names, 2) + b"\x62ab" * names
    frames.append(
        Hostile(
            "presence of many",
            framed(
                a_map(
                    *((cbor2.dumps(k), cbor2.dumps(v)) for k, v in presence.items()),
                    (text(b"more"), online),
                )
            ),
        )
    )
    return frames

"""Frames as only an enemy would send them, the same for the same seed; and who chats beside them.

`Mutator` spoils right frames: their bytes, their length, their CBOR, their keys and values. It
also makes well-formed ones that mean harm. What it yields is complete: length prefix and body,
though the one need not fit the other.
"""

from __future__ import annotations

import random
import secrets
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, NamedTuple

import cbor2
import trio

from tchat.client.connector import Connector
from tchat.client.introduction import Account
from tchat.client.known import KnownServers
from tchat.client.session import open_session
from tchat.client.slot import Slot
from tchat.core.frames import Digest, UnknownType, decode_request
from tchat.core.framing import FRAME_LIMIT, HANDSHAKE_LIMIT, PREFIX, FrameBuffer
from tchat.core.handshake import Hello, Proof, Transfer
from tchat.errors import ProtocolError
from tchat.net.address import connect
from tchat.net.tls import client_context, open_tls
from tests.core.examples import ANSWERS, REQUESTS
from tests.helpers import (
    GROUP,
    GUARD,
    RawClient,
    approve,
    hello_of,
    identity_of,
    log_of,
    seqs,
    texts,
    until,
)
from tests.protocol import unchecked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.net.address import Address
    from tchat.store.base import Store

WORKERS = 2
"""How many throw at once, as strangers and as many as people who are known."""

_MOST_ON_ONE = 40

UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
"""The major types of CBOR (RFC 8949, section 3.1)."""

INDEFINITE, BREAK = 31, b"\xff"

LARGEST = 2**63 - 1
_MOST = 2**64 - 1


class Hostile(NamedTuple):
    """A frame as it goes to a socket, and what is wrong with it."""

    what: str
    data: bytes


# ---------------------------------------------------------------------------- CBOR by hand


def framed(body: bytes, length: int | None = None) -> bytes:
    """Return a body with its length in front, or with another."""
    return (len(body) if length is None else length).to_bytes(PREFIX, "big") + body


def head(major: int, value: int, width: int = 0) -> bytes:
    """Return the beginning of an item, with its argument in `width` bytes or as few as can be."""
    if not width:
        width = next(w for w in (0, 1, 2, 4, 8) if value < (24 if w == 0 else 1 << 8 * w))
    if width == 0:
        return bytes([major << 5 | value])
    info = {1: 24, 2: 25, 4: 26, 8: 27}[width]
    return bytes([major << 5 | info]) + value.to_bytes(width, "big")


def text(data: bytes) -> bytes:
    """Return bytes as an item that says it is text."""
    return head(TEXT, len(data)) + data


def a_map(*pairs: tuple[bytes, bytes]) -> bytes:
    """Return a map of encoded keys and values, in this order, however often a key comes."""
    return head(MAP, len(pairs)) + b"".join(key + value for key, value in pairs)


def nested(depth: int, *, maps: bool = False) -> bytes:
    """Return an array in an array in an array, or maps."""
    return (b"\xa1\x61k" if maps else b"\x81") * depth + b"\x00"


def _colliding(number: int) -> bytes:
    """Return a map whose keys, arrays of two numbers, have one hash in Python."""
    multiplier, prime, offset = 11400714785074694791, 14029467366897019727, 2870177450012600261
    inverse = pow(prime, -1, 1 << 64)
    pairs: list[tuple[bytes, bytes]] = []
    for first in count(1):
        lane = (offset + first * prime) & _MOST
        lane = (lane << 31 | lane >> 33) * multiplier & _MOST
        second = (12345 - lane) * inverse & _MOST
        if second < 2**61 - 1:
            pairs.append((b"\x82" + head(UINT, first) + head(UINT, second), b"\x00"))
        if len(pairs) == number:
            break
    return a_map(*pairs)


# ---------------------------------------------------------------------------- wrong values

_WORDS = [
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

_INTEGERS = [0, 1, 23, 24, 2**31, 2**32, 2**53, 2**62, LARGEST, 2**63, _MOST]

_TAGS = (*range(6), 21, 24, 25, 28, 29, 30, 32, 35, 36, 37, 52, 54, 64, 100, 256, 258, 260, 261)
_TAGS = (*_TAGS, 1004, 43000, 55799, 2**16, 2**32, _MOST)

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
    """Return encoded values of every sort, most of them wrong wherever they stand."""
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
        for n in (24, 65_536, 2**31, 2**32 - 1, 2**60, LARGEST, _MOST)
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
        ("text", [text(word.encode()) for word in _WORDS]),
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
_BY_KIND = [[pair for pair in WRONG_VALUES if pair[0] == what] for what in dict(WRONG_VALUES)]

# ---------------------------------------------------------------------------- as costly as can be


def _filled(start: bytes, item: bytes, limit: int) -> bytes:
    """Return a frame up to its limit: `start`, one key more, and an array full of items there."""
    room = (limit - len(start) - 5) // len(item)
    return framed(start + b"\x61x" + head(ARRAY, room, 2 if room < 65_536 else 4) + item * room)


def _said(request: dict[str, object], key: str, filling: str, limit: int) -> bytes:
    """Return a right frame with as much of `filling` in one of its texts as fits."""
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
    """Return the requests that might cost a server most, each as long as it may be."""
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
    """Return the same for clients."""
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


# ---------------------------------------------------------------------------- well-formed, and evil


def _evil_request(r: random.Random) -> dict[str, object]:
    number = r.choice([0, 1, r.randrange(1000), 2**31, 2**62, LARGEST])
    group = r.choice([GROUP, *(f"den{n}" for n in range(30)), *_WORDS])
    name = r.choice(_WORDS)
    asks: dict[str, object] = {"id": r.choice([0, 1, LARGEST]), "n": number, "group": group}
    digest = r.randbytes(r.choice([0, 31, 32, 32, 33]))
    frames: list[dict[str, object]] = [
        {"type": r.choice(["dance", "", "x" * 500, "hello ", "\x1b[2J"]), "id": number},
        {"type": "dance", "id": r.choice([-1, 2**63, _MOST, "1", None, 1.5])},
        {"type": "join", **asks},
        {"type": "join", **asks, "invite": r.randbytes(r.choice([0, 15, 16, 17, 1000]))},
        {"type": "leave", **asks},
        {"type": r.choice(["approve", "deny", "kick", "transfer_admin"]), **asks, "name": name},
        {"type": "invite", **asks, "digest": digest, "lasts": number, "name": name},
        {"type": "invite", **asks, "digest": digest, "lasts": r.choice([0, 1000, LARGEST])},
        {"type": "post", **asks, "text": name},
        {"type": "post", **asks, "text": r.choice(["", " ", "x" * 16_385, "é" * 8192])},
        {"type": "share", **asks, "name": name, "size": number, "sha256": digest},
        {"type": "attach", "id": 5, "group": group, "after": r.choice([2**62, LARGEST, 7])},
        {"type": "detach", "group": group},
        {"type": "seen", "group": group, "seq": r.choice([0, 2**40, LARGEST])},
        {"type": "upload", "id": 6, "group": group, "size": number},
        {"type": "download", "id": 7, "group": group, "number": number},
        {"type": "unlink", "id": 8, "key": digest},
        {"type": r.choice(["link", "keys"]), "id": number},
        {"type": "release", "id": 9, "name": name},
        {"type": "ping", r.choice(["", "Type", "\x00", "typ"]): None},
        {"type": "digest", "sha256": digest},
        {"type": "transfer", "version": 2, "ticket": r.randbytes(16)},
        {"type": "proof", "signature": r.randbytes(64), "link": name},
        {"type": "hello", "version": number, "user": name, "client": r.randbytes(8)}
        | {"key": digest, "nonce": r.randbytes(32)},
        {"type": r.choice(["event", "welcome", "ok", "pong", "goodbye"]), "re": 1},
    ]
    return r.choice(frames)


def _evil_answer(r: random.Random) -> dict[str, object]:
    number = r.choice([0, 1, 2, r.randrange(20), 2**62, LARGEST])
    name = r.choice(_WORDS)
    group = r.choice([GROUP, "OPS", "elsewhere", name])
    header: dict[str, object] = {"type": "event", "group": group, "seq": number, "at": number}
    header |= {"actor": name, "client": r.randbytes(r.choice([0, 8, 8, 9])), "n": number}
    event = r.choice(ANSWERS[3:15]).to_map() | header
    standing = r.choice(["member", "waiting", "outsider"])
    frames: list[dict[str, object]] = [
        event,
        {**event, "kind": r.choice(["danced", "", "created"])},
        {"type": "ok", "re": number, "seq": number},
        {"type": "error", "code": r.choice(["rate_limited", "", name]), "text": name, "re": number}
        | {"wait": r.choice([0, 1, 5])},
        {"type": "attached", "re": number, "group": group, "standing": standing, "seq": number}
        | {"counted": r.choice([0, 2**41, LARGEST]), "read": number, "kicked": True},
        {"type": "ticket", "re": number, "ticket": r.randbytes(r.choice([0, 16, 64]))},
        {"type": "link_code", "re": number, "code": name, "lasts": number},
        {"type": "key_list", "re": number, "keys": [b"", bytes(32)], "since": [number] * 3},
        {
            "type": "presence",
            "group": group,
            "online": [name] * 3,
            "offline": [name],
            "reset": True,
        },
        {"type": "membership", "group": group, "standing": standing, "by": name}
        | {"reason": r.choice(["approved", "kicked", "closed"]), "more": number},
        {"type": "welcome", "version": 2, "user": name, "interval": number, "burst": 0},
        {"type": "challenge", "version": 2, "nonce": r.randbytes(32)},
        {"type": "ready", "version": 2, "size": number},
        {"type": "stored", "sha256": r.randbytes(32)},
        {"type": r.choice(["dance", "post", "hello", ""]), "re": number},
        {"type": "pong", "extra": name, "more": number},
    ]
    return r.choice(frames)


# ---------------------------------------------------------------------------- the mutator


class Mutator:
    """Makes hostile frames for a server, or for clients, without end.

    Nothing is longer than `limit`, but for what says so. One in `rarity` frames is as costly as
    it can be made.
    """

    def __init__(
        self, seed: int, *, to_client: bool = False, limit: int = FRAME_LIMIT, rarity: int = 200
    ) -> None:
        self._random = random.Random(seed)
        self._rarity = rarity
        self._limit = limit
        self._evil = _evil_answer if to_client else _evil_request
        self._costly = costly_answers(limit) if to_client else costly_requests(limit)
        self._maps = [frame.to_map() for frame in (ANSWERS if to_client else REQUESTS)]
        self._bodies = [cbor2.dumps(item) for item in self._maps]
        self._ways: list[Callable[[], Hostile]] = [
            self._flip,
            self._cut,
            self._double,
            self._splice,
            self._insert,
            self._replace_head,
            self._garbage,
            self._wrong_value,
            self._wrong_value,
            self._wrong_value,
            self._missing_key,
            self._another_key,
            self._wrong_key,
            self._key_twice,
            self._not_a_map,
            self._more_behind,
            self._wrong_length,
            self._with_intent,
            self._with_intent,
            self._with_intent,
            self._with_intent,
        ]

    def __iter__(self) -> Iterator[Hostile]:
        r = self._random
        while True:
            if r.randrange(self._rarity) == 0:
                yield r.choice(self._costly)
                continue
            frame = r.choice(self._ways)()
            if len(frame.data) <= PREFIX + self._limit:
                yield frame

    def take(self, number: int) -> Iterator[Hostile]:
        """Yield so many frames."""
        return islice(self, number)

    # ------------------------------------------------------------------ bytes

    def _flip(self) -> Hostile:
        body = bytearray(self._random.choice(self._bodies))
        for _ in range(self._random.choice([1, 1, 1, 2, 8])):
            body[self._random.randrange(len(body))] ^= 1 << self._random.randrange(8)
        return Hostile("bits flipped", framed(bytes(body)))

    def _cut(self) -> Hostile:
        body = self._random.choice(self._bodies)
        return Hostile("cut short", framed(body[: self._random.randrange(len(body))]))

    def _double(self) -> Hostile:
        body = self._random.choice(self._bodies)
        start, end = sorted(self._random.choices(range(len(body) + 1), k=2))
        return Hostile("a part twice", framed(body[:end] + body[start:end] + body[end:]))

    def _splice(self) -> Hostile:
        one, other = self._random.choices(self._bodies, k=2)
        cut, from_ = self._random.randrange(len(one)), self._random.randrange(len(other))
        return Hostile("two frames in one", framed(one[:cut] + other[from_:]))

    def _insert(self) -> Hostile:
        body = self._random.choice(self._bodies)
        place = self._random.randrange(len(body) + 1)
        what, value = self._random.choice(self._random.choice(_BY_KIND))
        return Hostile(f"{what} put in", framed(body[:place] + value + body[place:]))

    def _replace_head(self) -> Hostile:
        body = bytearray(self._random.choice(self._bodies))
        body[self._random.randrange(len(body))] = self._random.randrange(256)
        return Hostile("a byte replaced", framed(bytes(body)))

    def _garbage(self) -> Hostile:
        size = self._random.choice([0, 1, 2, 8, 60, 400, HANDSHAKE_LIMIT])
        return Hostile("any bytes", framed(self._random.randbytes(size)))

    def _wrong_length(self) -> Hostile:
        body, r = self._random.choice(self._bodies), self._random
        lengths = [0, 1, len(body) - 1, len(body) + 1, len(body) + 100]
        lengths += [HANDSHAKE_LIMIT + 1, FRAME_LIMIT + 1, 2**31, 2**32 - 1]
        return Hostile("another length", framed(body, r.choice(lengths)))

    def _more_behind(self) -> Hostile:
        body, r = self._random.choice(self._bodies), self._random
        more = r.choice([b"\x00", b"\xff", body, r.randbytes(30)])
        return Hostile("bytes behind its end", framed(body + more))

    # ------------------------------------------------------------------ keys and values

    def _pairs(self) -> list[tuple[bytes, bytes]]:
        item = self._random.choice(self._maps)
        return [(cbor2.dumps(key), cbor2.dumps(value)) for key, value in item.items()]

    def _wrong_value(self) -> Hostile:
        pairs = self._pairs()
        index = self._random.randrange(len(pairs))
        what, value = self._random.choice(self._random.choice(_BY_KIND))
        pairs[index] = (pairs[index][0], value)
        return Hostile(f"{what} for another value", framed(a_map(*pairs)))

    def _missing_key(self) -> Hostile:
        pairs = self._pairs()
        del pairs[self._random.randrange(len(pairs))]
        return Hostile("a key missing", framed(a_map(*pairs)))

    def _another_key(self) -> Hostile:
        what, value = self._random.choice(self._random.choice(_BY_KIND))
        pairs = [*self._pairs(), (cbor2.dumps("more"), value)]
        self._random.shuffle(pairs)
        return Hostile(f"{what} in a key more", framed(a_map(*pairs)))

    def _wrong_key(self) -> Hostile:
        what, key = self._random.choice(self._random.choice(_BY_KIND))
        pairs = [*self._pairs(), (key, b"\x00")]
        self._random.shuffle(pairs)
        return Hostile(f"{what} for a key", framed(a_map(*pairs)))

    def _key_twice(self) -> Hostile:
        pairs = self._pairs()
        pairs.append(self._random.choice(pairs))
        return Hostile("a key twice", framed(a_map(*pairs)))

    def _not_a_map(self) -> Hostile:
        what, value = self._random.choice(self._random.choice(_BY_KIND))
        return Hostile(f"{what} instead of a map", framed(value))

    def _with_intent(self) -> Hostile:
        item = self._evil(self._random)
        return Hostile(f"well-formed {str(item['type'])[:20]}", framed(cbor2.dumps(item)))


# ---------------------------------------------------------------------------- who chats beside it


class Bystanders:
    """Alice and Bob, who answer each other all the time, each waiting to have read the other."""

    def __init__(self, *people: tuple[Session, Replica]) -> None:
        self.said: list[str] = []
        self.leaving = False
        self.gone = trio.Event()
        self._people = people

    async def chat(self) -> None:
        """Speak in turn until `leaving`."""
        while not self.leaving:
            await self.say()
        self.gone.set()

    async def say(self) -> None:
        """Say one thing more, and wait until both have read it."""
        word = f"word {len(self.said)}"
        session, replica = self._people[len(self.said) % 2]
        self.said.append(word)
        await session.post(replica, word).wait()
        for listener, heard in self._people:
            await until(listener, partial(_has_heard, heard, word))

    async def check(self, store: Store) -> None:
        """Fail unless both have, once and in order, all that was said and all that the log has."""
        await self.say()
        log = await log_of(store)
        assert texts(log) == self.said
        assert seqs(log) == list(range(1, len(log) + 1))
        for session, replica in self._people:
            await until(session, partial(_reaches, replica, len(log)))
            assert replica.log[: len(log)] == log


def _has_heard(replica: Replica, word: str) -> bool:
    return word in texts(replica.log[-50:])


def _reaches(replica: Replica, seq: int) -> bool:
    return replica.state.seq >= seq


@asynccontextmanager
async def chatting(address: Address, pin: bytes | None = None) -> AsyncIterator[Bystanders]:
    """Let two people chat for the length of the block, over TLS if there is a pin."""
    async with person(address, "alice", pin) as alice, person(address, "bob", pin) as bob:
        ops, there = await alice.enter(GROUP), await bob.enter(GROUP)
        await approve(alice, "bob")
        await until(bob, lambda: there.caught_up)
        pair = Bystanders((alice, ops), (bob, there))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.chat)
            yield pair
            pair.leaving = True


@asynccontextmanager
async def person(address: Address, user: str, pin: bytes | None) -> AsyncIterator[Session]:
    """Be `user` for the length of the block, over TLS if there is a pin."""
    connector = Connector(address, KnownServers(), pin, plain=pin is None)
    async with open_session(connector, Account(user, identity_of(user), Slot())) as session:
        yield session


# ---------------------------------------------------------------------------- how to throw them


def ends_connection(data: bytes) -> bool:
    """Return whether a server has to end a conversation in which this was said.

    Also true of what is no single whole frame, so that nothing can be said behind it.
    """
    buffer = FrameBuffer()
    buffer.feed(data)
    try:
        body = buffer.pop()
        if body is None or buffer.rest():
            return True
        frame = decode_request(body)
    except UnknownType:
        return False
    except ProtocolError:
        return True
    return isinstance(frame, Hello | Proof | Transfer | Digest)


class Thrower:
    """Throws frames at a server, each way a share, and counts those that the server has taken.

    `thrown` counts frames, `ended` those that cost their connection.
    """

    def __init__(self, address: Address, pin: bytes | None = None) -> None:
        self.thrown = 0
        self.ended = 0
        self._address = address
        self._context = client_context(verified=False) if pin else None

    async def as_stranger(self, frames: Iterable[Hostile]) -> None:
        """Throw each on a connection of its own, every third of them in place of a proof."""
        for number, frame in enumerate(frames):
            stream = await self._connect()
            if number % 3 == 0:
                await RawClient(stream).send(hello_of("mallory"))
            await self._throw(stream, frame.data)
            self.thrown += 1
            self.ended += 1

    async def as_person(self, user: str, frames: Iterable[Hostile]) -> None:
        """Throw as many as one connection bears, and so on."""
        bearable: list[Hostile] = []
        for frame in frames:
            bearable.append(frame)
            if ends_connection(frame.data):
                await self._throw_known(user, bearable[:-1], frame)
                bearable = []
            elif len(bearable) == _MOST_ON_ONE:
                await self._throw_known(user, bearable, None)
                bearable = []
        if bearable:
            await self._throw_known(user, bearable, None)

    async def _throw_known(self, user: str, bearable: list[Hostile], last: Hostile | None) -> None:
        stream = await self._connect()
        await RawClient(stream).hello(user)
        frames = [frame.data for frame in bearable]
        # Behind those that a connection bears stands one whose answer shows that it did.
        fence = secrets.randbits(32) | 1 << 62
        frames.append(unchecked({"type": "fence", "id": fence}))
        if last is not None:
            frames.append(last.data)
        answers = await self._throw(stream, b"".join(frames))
        assert fence.to_bytes(8, "big") in answers, [frame.what for frame in bearable]
        self.thrown += len(bearable) + (last is not None)
        self.ended += last is not None

    async def _connect(self) -> trio.abc.Stream:
        stream = await connect(self._address)
        if self._context is None:
            return stream
        return await open_tls(stream, self._context, self._address.host)

    async def _throw(self, stream: trio.abc.Stream, data: bytes) -> bytes:
        """Send all there is, say that nothing more comes, and return all that is answered."""
        answers = bytearray()

        async def listen() -> None:
            with suppress(trio.BrokenResourceError):
                async for more in stream:
                    answers.extend(more)

        with trio.fail_after(GUARD):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(data)
                    if isinstance(stream, trio.SocketStream):
                        await stream.send_eof()
                    elif isinstance(stream, trio.SSLStream):
                        await stream.transport_stream.send_eof()
        await trio.aclose_forcefully(stream)
        return bytes(answers)


async def throw_all(thrower: Thrower, number: int, seed: int) -> None:
    """Throw so many frames, half of them as strangers and half as people who are known."""
    strangers, known = number // 2, number - number // 2
    async with trio.open_nursery() as nursery:
        for worker in range(WORKERS):
            mutators = [
                Mutator(seed + worker, limit=HANDSHAKE_LIMIT),
                Mutator(seed + WORKERS + worker),
            ]
            share = [len(range(worker, many, WORKERS)) for many in (strangers, known)]
            nursery.start_soon(thrower.as_stranger, mutators[0].take(share[0]))
            nursery.start_soon(thrower.as_person, f"mallory{worker}", mutators[1].take(share[1]))

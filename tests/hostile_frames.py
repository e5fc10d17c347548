"""Mutation fuzzer for protocol frames, deterministic for a seed.

`Mutator` corrupts valid frames: their bytes, length, CBOR, keys and values. It also makes
well-formed frames with hostile values. What it yields includes a length prefix, which need not
match the body.
"""

from __future__ import annotations

import random
from itertools import islice
from typing import TYPE_CHECKING

import cbor2

from tchat.core.protocol.framing import FRAME_LIMIT, HANDSHAKE_LIMIT, PREFIX
from tests.core.examples import ANSWERS, REQUESTS
from tests.helpers import (
    GROUP,
)
from tests.hostile_cbor import (
    BY_KIND,
    LARGEST,
    MOST,
    WORDS,
    Hostile,
    a_map,
    costly_answers,
    costly_requests,
    framed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# ---------------------------------------------------------------------------- hostile values


def _evil_request(r: random.Random) -> dict[str, object]:
    number = r.choice([0, 1, r.randrange(1000), 2**31, 2**62, LARGEST])
    name = r.choice(WORDS)
    me = f"mallory{r.randrange(3)}"
    talks = [f"@{me},{name}", "@alice,bob", "@", "@,", f"@{name}", f"@{me},x{number}"]
    group = r.choice([GROUP, *(f"den{n}" for n in range(30)), *WORDS, *talks])
    asks: dict[str, object] = {"id": r.choice([0, 1, LARGEST]), "n": number, "group": group}
    digest = r.randbytes(r.choice([0, 31, 32, 32, 33]))
    frames: list[dict[str, object]] = [
        {"type": r.choice(["dance", "", "x" * 500, "hello ", "\x1b[2J"]), "id": number},
        {"type": "dance", "id": r.choice([-1, 2**63, MOST, "1", None, 1.5])},
        {"type": "join", **asks},
        {"type": "join", **asks, "invite": r.randbytes(r.choice([0, 15, 16, 17, 1000]))},
        {"type": "leave", **asks},
        {"type": r.choice(["approve", "deny", "kick", "transfer_admin"]), **asks, "name": name},
        {"type": "invite", **asks, "digest": digest, "lasts": number, "name": name},
        {"type": "invite", **asks, "digest": digest, "lasts": r.choice([0, 1000, LARGEST])},
        {"type": "post", **asks, "text": name},
        {"type": "post", **asks, "text": r.choice(["", " ", "x" * 16_385, "é" * 8192])},
        {"type": "share", **asks, "name": name, "size": number, "sha256": digest},
        {"type": "post", **asks, "text": "re", "reply": number},
        {"type": r.choice(["edit", "delete"]), **asks, "target": number, "text": name},
        {"type": r.choice(["ban", "unban"]), **asks, "name": name},
        {"type": "set_topic", **asks, "text": r.choice([name, "x" * 201, "\n" * 200])},
        {"type": "set_policy", **asks, "policy": r.choice(["open", "approval", name])},
        {"type": "history_request", "id": 10, "group": group, "before": number},
        {"type": "search", "id": 11, "text": r.choice([*WORDS, 'a"*', "b OR c", "x" * 201])}
        | {"group": group, "skip": number},
        {"type": "search", "id": 11, "text": name, "skip": r.choice([0, 20, 1000, LARGEST])},
        {"type": "groups_request", "id": number},
        {"type": "away", "id": 12, "text": r.choice([name, "x" * 101, ""])},
        {"type": "away", "id": 12},
        {"type": "attach", "id": 5, "group": group, "after": 0}
        | {"recent": r.choice([0, 1, 1000, LARGEST])},
        {"type": "attach", "id": 5, "group": group, "after": r.choice([2**62, LARGEST, 7])},
        {"type": "detach", "group": group},
        {"type": "seen", "group": group, "seq": r.choice([0, 2**40, LARGEST])},
        {"type": "upload", "id": 6, "group": group, "size": number},
        {"type": "download", "id": 7, "group": group, "number": number},
        {"type": "unlink", "id": 8, "key": digest},
        {"type": r.choice(["link", "keys"]), "id": number},
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
    name = r.choice(WORDS)
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
        {
            "type": "key_list",
            "re": number,
            "keys": [{"key": r.choice([b"", bytes(32)]), "since": number}],
        },
        {
            "type": "presence",
            "group": group,
            "online": [r.choice([{"name": name, "away": name}, {"name": group}, {}, name])] * 3,
            "offline": [name],
            "reset": True,
        },
        {
            "type": "activity",
            "group": r.choice([group, "@alice,bob", "@", f"@{name},bob"]),
            "seq": number,
            "by": name,
        },
        {"type": "read_position", "group": group, "seq": number},
        {"type": "subscription_ended", "group": group, "code": name, "text": name},
        {"type": "snapshot", "group": group, "seq": number, "more": r.choice([True, False])}
        | {"data": r.choice([b"", r.randbytes(40), b"\xa0", bytes(50_000)])},
        {
            "type": "history_page",
            "re": number,
            "first": number,
            "last": r.choice([0, number, LARGEST]),
        }
        | {"frames": r.choice([b"", r.randbytes(40), b"\xff" * 8, b"\0\0\0\1\xa0"])},
        {"type": "search_results", "re": number, "older": True}
        | {"hits": [{"group": group, "seq": number, "at": number, "actor": name, "text": name}]},
        {"type": "group_list", "re": number}
        | {
            "groups": [
                {"name": group, "standing": standing, "last": number, "read": number, "place": 1}
            ]
            * 3
        },
        {"type": "group_list", "re": number, "groups": [group, {"name": group}]},
        {"type": "membership", "group": group, "standing": standing, "by": name}
        | {"reason": r.choice(["approved", "kicked", "banned", "closed"]), "more": number},
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
    """Infinite iterator of hostile frames for a server, or for clients.

    No body is longer than `limit`. One in `rarity` frames is as expensive to decode as possible.
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
        """Return an iterator of the next `number` frames."""
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
        what, value = self._random.choice(self._random.choice(BY_KIND))
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
        what, value = self._random.choice(self._random.choice(BY_KIND))
        pairs[index] = (pairs[index][0], value)
        return Hostile(f"{what} for another value", framed(a_map(*pairs)))

    def _missing_key(self) -> Hostile:
        pairs = self._pairs()
        del pairs[self._random.randrange(len(pairs))]
        return Hostile("a key missing", framed(a_map(*pairs)))

    def _another_key(self) -> Hostile:
        what, value = self._random.choice(self._random.choice(BY_KIND))
        pairs = [*self._pairs(), (cbor2.dumps("more"), value)]
        self._random.shuffle(pairs)
        return Hostile(f"{what} in a key more", framed(a_map(*pairs)))

    def _wrong_key(self) -> Hostile:
        what, key = self._random.choice(self._random.choice(BY_KIND))
        pairs = [*self._pairs(), (key, b"\x00")]
        self._random.shuffle(pairs)
        return Hostile(f"{what} for a key", framed(a_map(*pairs)))

    def _key_twice(self) -> Hostile:
        pairs = self._pairs()
        pairs.append(self._random.choice(pairs))
        return Hostile("a key twice", framed(a_map(*pairs)))

    def _not_a_map(self) -> Hostile:
        what, value = self._random.choice(self._random.choice(BY_KIND))
        return Hostile(f"{what} instead of a map", framed(value))

    def _with_intent(self) -> Hostile:
        item = self._evil(self._random)
        return Hostile(f"well-formed {str(item['type'])[:20]}", framed(cbor2.dumps(item)))

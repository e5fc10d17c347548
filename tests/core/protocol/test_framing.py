"""Frames in a stream of bytes: splitting, limits, malformed CBOR, unknown types."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tchat.core.group.feature import Event, Unknown
from tchat.core.group.messages import Post
from tchat.core.protocol.frames import Ping, Seen, UnknownType, decode, encode
from tchat.core.protocol.framing import (
    FRAME_LIMIT,
    HANDSHAKE_LIMIT,
    PREFIX,
    FrameBuffer,
    skip_frames,
    split_frames,
    unpack,
)
from tchat.core.protocol.schema import Frame
from tchat.core.vocabulary import TO_CLIENT, TO_SERVER
from tchat.errors import Code, ProtocolError
from tests.cddl import unchecked
from tests.core.examples import EVERY_TYPE, FRAMES

PING = cbor2.dumps({"type": "ping"})
KEY = b"\xa1\x61k"  # a map of one pair, whose value is to follow

bodies = st.lists(st.binary(max_size=40), max_size=8)


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(PREFIX, "big") + body


def post_of(size: int) -> Post:
    """Return a post whose frame has a body of `size` bytes."""
    filler = size - len(encode(Post(1, 1, "ops", "x" * 2**10))) + PREFIX + 2**10
    return Post(1, 1, "ops", "x" * filler)


# ------------------------------------------------------------------ a stream, cut anywhere


@given(bodies, st.data())
def test_frames_survive_any_splitting_of_the_stream(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(framed, sent))
    buffer, received = FrameBuffer(), list[bytes]()
    while stream:
        taken = data.draw(st.integers(1, len(stream)))
        buffer.feed(stream[:taken])
        received += buffer
        stream = stream[taken:]
    assert received == sent


def test_frames_survive_a_stream_byte_by_byte() -> None:
    buffer, received = FrameBuffer(), list[Frame]()
    for byte in b"".join(map(encode, FRAMES)):
        buffer.feed(bytes([byte]))
        received += [decode(body, EVERY_TYPE) for body in buffer]
    assert received == FRAMES


def test_partial_frame_is_kept_back() -> None:
    buffer = FrameBuffer()
    buffer.feed(encode(Ping())[:-1])
    assert buffer.pop() is None


def test_empty_body_is_a_frame_but_malformed() -> None:
    buffer = FrameBuffer()
    buffer.feed(bytes(PREFIX))
    assert buffer.pop() == b""
    assert buffer.pop() is None


@given(bodies, st.binary(max_size=40))
def test_rest_returns_the_bytes_after_the_frames(sent: list[bytes], raw: bytes) -> None:
    buffer = FrameBuffer()
    buffer.feed(b"".join(map(framed, sent)) + raw)
    for body in sent:
        assert buffer.pop() == body
    assert buffer.rest() == raw
    assert buffer.rest() == b""
    assert buffer.pop() is None


def test_frame_is_a_length_prefix_and_a_map() -> None:
    assert encode(Ping()) == b"\x00\x00\x00\x0b" + b"\xa1\x64type\x64ping"


# ------------------------------------------------------------------ limits


def test_frame_limits_are_those_of_the_protocol() -> None:
    assert (FRAME_LIMIT, HANDSHAKE_LIMIT) == (65_536, 4096)


@pytest.mark.parametrize("limit", [0, 1, HANDSHAKE_LIMIT, FRAME_LIMIT])
def test_body_of_the_limit_is_accepted(limit: int) -> None:
    buffer = FrameBuffer(limit)
    buffer.feed(framed(bytes(limit)))
    assert buffer.pop() == bytes(limit)


@pytest.mark.parametrize("length", [HANDSHAKE_LIMIT + 1, FRAME_LIMIT, 2**31, 2**32 - 1])
def test_length_above_the_limit_is_refused_at_once(length: int) -> None:
    buffer = FrameBuffer(HANDSHAKE_LIMIT)
    buffer.feed(length.to_bytes(PREFIX, "big"))
    with pytest.raises(ProtocolError) as caught:
        buffer.pop()
    assert caught.value.code == Code.FRAME_TOO_LARGE


def test_default_buffer_accepts_the_largest_frame() -> None:
    assert FrameBuffer().limit == FRAME_LIMIT


def test_frames_before_a_too_long_one_are_received() -> None:
    buffer = FrameBuffer(10)
    buffer.feed(framed(b"fine") + framed(bytes(11)))
    assert buffer.pop() == b"fine"
    with pytest.raises(ProtocolError):
        buffer.pop()


def test_limit_can_be_raised_after_the_handshake() -> None:
    buffer = FrameBuffer(HANDSHAKE_LIMIT)
    buffer.feed(framed(b"hello") + framed(bytes(FRAME_LIMIT)))
    assert buffer.pop() == b"hello"
    buffer.limit = FRAME_LIMIT
    assert buffer.pop() == bytes(FRAME_LIMIT)


def test_frame_of_the_limit_can_be_sent() -> None:
    assert len(encode(post_of(FRAME_LIMIT))) == PREFIX + FRAME_LIMIT


def test_frame_above_the_limit_cannot_be_sent() -> None:
    with pytest.raises(ProtocolError) as caught:
        encode(post_of(FRAME_LIMIT + 1))
    assert caught.value.code == Code.FRAME_TOO_LARGE


# ------------------------------------------------------------------ bytes that are no frame

NOT_FRAMES = {
    "nothing": b"",
    "a list": b"\x80",
    "a number": b"\x01",
    "a text": b"\x64ping",
    "null": b"\xf6",
    "a break": b"\xff",
    "a map cut short": PING[:-1],
    "a byte behind the map": PING + b"\x00",
    "a map behind the map": PING + PING,
    "a bignum": KEY + b"\xc2\x49\x01" + bytes(8),
    "a shared value (tag 28)": KEY + b"\xd8\x1c\x80",
    "a cycle (tags 28 and 29)": b"\xd8\x1c" + KEY + b"\xd8\x1d\x00",
    "a regular expression (tag 35)": KEY + b"\xd8\x23\x67(a+)+$b",
    "a fraction (tag 30)": KEY + b"\xd8\x1e\x82\x01\x00",
    "a string reference (tag 256)": KEY + b"\xd9\x01\x00\x82\x63abc\xd8\x19\x00",
    "self-described CBOR (tag 55799)": b"\xd9\xd9\xf7" + PING,
    "an unknown tag": KEY + b"\xda\x00\x0f\x42\x3f\x01",
    "the largest tag": KEY + b"\xdb" + b"\xff" * 8 + b"\x01",
    "lists 17 deep": KEY + b"\x81" * 16 + b"\x00",
    "maps 17 deep": KEY * 17 + b"\x00",
    "lists as deep as a frame holds": b"\x81" * FRAME_LIMIT,
    "a map of indefinite length": b"\xbf\x61k\x00\xff",
    "a list of indefinite length": KEY + b"\x9f\xff",
    "a text of indefinite length": KEY + b"\x7f\x61a\xff",
    "bytes of indefinite length": KEY + b"\x5f\x41a\xff",
    "a key twice": b"\xa2\x61k\x00\x61k\x01",
    "a key twice, in two encodings": b"\xa2\x61k\x00\x78\x01k\x01",
    "an inner key twice": KEY + b"\xa2\x61k\x00\x61k\x01",
    "a number for a key": b"\xa1\x01\x02",
    "a list for a key": b"\xa1\x80\x00",
    "a map for a key": b"\xa1\xa0\x00",
    "not a number for a key": b"\xa1\xf9\x7e\x00\x00",
    "text that is not UTF-8": KEY + b"\x62\xff\xfe",
    "a key that is not UTF-8": b"\xa1\x62\xff\xfe\x00",
    "UTF-8 longer than need be": KEY + b"\x62\xc0\x80",
    "half a surrogate pair": KEY + b"\x63\xed\xa0\x80",
    "a code point beyond Unicode": KEY + b"\x64\xf4\x90\x80\x80",
    "2^64-1 bytes, it says": KEY + b"\x5b" + b"\xff" * 8,
    "2^64-1 letters, it says": KEY + b"\x7b" + b"\xff" * 8,
    "2^64-1 values, it says": KEY + b"\x9b" + b"\xff" * 8,
    "2^64-1 pairs, it says": b"\xbb" + b"\xff" * 8,
    "2^32 values, it says": KEY + b"\x9b" + bytes(3) + b"\x01" + bytes(4),
    "a reserved length": KEY + b"\x1c",
    "a reserved simple value": KEY + b"\xf8\x1f",
}


@pytest.mark.parametrize("body", NOT_FRAMES.values(), ids=NOT_FRAMES)
def test_invalid_bytes_are_malformed(body: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        unpack(body)
    assert caught.value.code == Code.MALFORMED


def test_nesting_is_limited_to_16_levels() -> None:
    deep = unpack(KEY + b"\x81" * 15 + b"\x00")["k"]
    for _ in range(15):
        [deep] = deep
    assert deep == 0


TAGGED = {
    "a number": b"\x00",
    "an empty list": b"\x80",
    "two numbers": b"\x82\x01\x02",
    "a map": b"\xa1\x44\x7f\x00\x00\x00\x08",
    "4 bytes": b"\x44\x7f\x00\x00\x01",
    "16 bytes": b"\x50" + bytes(15) + b"\x01",
    "a word": b"\x61a",
    "a day": cbor2.dumps("2026-11-22"),
    "a moment": cbor2.dumps("2026-11-22T10:02:00Z"),
    "a mail": cbor2.dumps("Content-Type: text/plain\n\nhello"),
}


@pytest.mark.parametrize("content", TAGGED.values(), ids=TAGGED)
def test_every_cbor_tag_is_refused(content: bytes) -> None:
    for tag in (*range(1100), 43_000, 55_799, 2**16 - 1, 2**32 - 1, 2**64 - 1):
        head = bytes([0xDB]) + tag.to_bytes(8, "big")
        with pytest.raises(ProtocolError):
            unpack(KEY + head + content)


# ------------------------------------------------------------------ maps that are no frame

NOT_A_SEQ = {
    "missing": {},
    "null": {"seq": None},
    "undefined": {"seq": cbor2.undefined},
    "not a number": {"seq": float("nan")},
    "infinity": {"seq": float("inf")},
    "a float": {"seq": 1.0},
    "true": {"seq": True},
    "a simple value": {"seq": cbor2.CBORSimpleValue(99)},
    "negative": {"seq": -1},
    "2^63": {"seq": 2**63},
    "-2^64": {"seq": -(2**64)},
    "a text": {"seq": "1"},
    "bytes": {"seq": b"1"},
    "a list": {"seq": [1]},
    "a map": {"seq": {}},
}


@pytest.mark.parametrize("pair", NOT_A_SEQ.values(), ids=NOT_A_SEQ)
def test_integers_range_from_0_to_2_63(pair: dict[str, object]) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(unchecked({"type": "seen", "group": "ops", **pair})[PREFIX:], TO_SERVER)
    assert caught.value.code == Code.MALFORMED


@pytest.mark.parametrize("seq", [0, 1, 2**63 - 1])
def test_smallest_and_largest_integer_are_accepted(seq: int) -> None:
    assert decode(encode(Seen("ops", seq))[PREFIX:], TO_SERVER) == Seen("ops", seq)


@pytest.mark.parametrize("word", [None, 7, b"ping", True, ["ping"], {"ping": 1}, 1.5])
def test_type_must_be_a_text(word: object) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(unchecked({"type": word})[PREFIX:], TO_SERVER)
    assert caught.value.code == Code.MALFORMED


def test_unknown_type_keeps_its_request_id() -> None:
    with pytest.raises(UnknownType) as caught:
        decode(unchecked({"type": "dance", "id": 7})[PREFIX:], TO_SERVER)
    assert (caught.value.code, caught.value.re) == (Code.UNKNOWN_TYPE, 7)
    assert "'dance'" in caught.value.sentence


@pytest.mark.parametrize("request_id", [None, -1, True, "7", 1.0, [7]])
def test_unknown_type_with_a_bad_id_has_none(request_id: object) -> None:
    with pytest.raises(UnknownType) as caught:
        decode(unchecked({"type": "dance", "id": request_id})[PREFIX:], TO_SERVER)
    assert caught.value.re is None


def test_long_unknown_type_is_shortened() -> None:
    with pytest.raises(UnknownType) as caught:
        decode(unchecked({"type": "x" * 1000})[PREFIX:], TO_SERVER)
    assert len(caught.value.sentence) < 100


@pytest.mark.parametrize("word", ["welcome", "ok", "event"])
def test_server_does_not_know_its_own_answers(word: str) -> None:
    with pytest.raises(UnknownType):
        decode(unchecked({"type": word})[PREFIX:], TO_SERVER)


# ------------------------------------------------------------------ whatever comes


def is_understood_or_refused(body: bytes) -> bool:
    """Return whether `body` is decoded to a frame that can be encoded, or is refused."""
    try:
        frame = decode(body, EVERY_TYPE)
    except ProtocolError as error:
        return error.code in (Code.MALFORMED, Code.UNKNOWN_TYPE)
    if isinstance(frame, Event) and isinstance(frame.body, Unknown):
        return True  # an event of unknown kind cannot be encoded again
    return decode(unchecked(frame.to_map())[PREFIX:], EVERY_TYPE) == frame


@st.composite
def damaged_frames(draw: st.DrawFn) -> bytes:
    """Generate valid frames with some bytes changed, removed, doubled or inserted."""
    body = bytearray(encode(draw(st.sampled_from(FRAMES)))[PREFIX:])
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(start + 4, len(body))))
        body[start:end] = draw(st.just(bytes(body[start:end]) * 2) | st.binary(max_size=4))
    return bytes(body)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.just(cbor2.undefined),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@st.composite
def misshapen_frames(draw: st.DrawFn) -> bytes:
    """Generate valid frames with some keys changed or missing."""
    item = draw(st.sampled_from(FRAMES)).to_map()
    keys = draw(st.lists(st.sampled_from(sorted(item)), min_size=1, max_size=2, unique=True))
    for key in keys:
        del item[key]
        if draw(st.booleans()):
            item[key] = draw(values)
    return cbor2.dumps(item)


@given(st.binary(max_size=200))
@example(PING)
def test_random_bytes_are_a_frame_or_refused(body: bytes) -> None:
    assert is_understood_or_refused(body)


@given(damaged_frames())
def test_damaged_frames_are_frames_or_refused(body: bytes) -> None:
    assert is_understood_or_refused(body)


@given(misshapen_frames())
def test_misshapen_frames_are_frames_or_refused(body: bytes) -> None:
    assert is_understood_or_refused(body)


def test_no_type_is_used_in_both_directions() -> None:
    assert not TO_SERVER.keys() & TO_CLIENT.keys()


# ------------------------------------------------------------------ frames on disk


@given(bodies)
def test_packed_frames_can_be_split(sent: list[bytes]) -> None:
    assert list(split_frames(b"".join(map(framed, sent)))) == sent


@given(bodies, st.data())
def test_packed_frames_can_be_skipped(sent: list[bytes], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(sent)))
    packed = b"".join(map(framed, sent))
    assert skip_frames(packed, count) == b"".join(map(framed, sent[count:]))


def test_map_keys_must_be_text() -> None:
    with pytest.raises(ProtocolError):
        unpack(cbor2.dumps({"type": "ping", b"x": 1}))


def test_failed_decoding_does_not_affect_later_frames() -> None:
    good = unchecked({"type": "ping", "list": [1, [2, [3]]]})[PREFIX:]
    for bad in (good[:-1], good + b"\x00", b"\x81" * 40, b"\xd8\x1c\x80", b"\xa1\x61a\x9f", b""):
        with pytest.raises(ProtocolError):
            unpack(bad)
        assert unpack(good) == {"type": "ping", "list": [1, [2, [3]]]}

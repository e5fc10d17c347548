"""Framing: each frame is a 4-byte big-endian length and one CBOR map (RFC 8949), strictly checked.

Nothing is trusted before it is validated, and the cheapest checks come first. The length is
compared with the limit before a byte of the frame is stored; the decoder rejects tags (which in
CBOR can compile regular expressions and build cycles), deep nesting, indefinite lengths and
duplicate keys; the result must be one map without trailing bytes. `schema` checks the map's shape.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import TYPE_CHECKING, Any, Never

import cbor2

from tchat.errors import Code, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FRAME_LIMIT = 64 * 1024
"""Longest frame, in bytes, without its length prefix."""

HANDSHAKE_LIMIT = 4 * 1024
"""Longest frame before the other side is authenticated, in bytes."""

ITEM_LIMIT = 1000
"""Most CBOR items in a frame that a client sends: keys and values at all levels."""

PREFIX = 4
_LENGTH = struct.Struct(">I")
_NESTING = 16
_ONLY_TEXT = {str}
_NOTHING = BytesIO()
# The tags that cbor2 decodes itself; the hook rejects all others.
_TAGS = (*range(6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)


def _refuse_tag(*_: object) -> Never:
    raise ValueError("tags are not part of this protocol")


_NO_TAGS = dict.fromkeys(_TAGS, _refuse_tag)


def pack(item: Mapping[str, object]) -> bytes:
    """Return one frame for a socket or the disk: length prefix and CBOR map."""
    try:
        encoder = _idle_encoders.pop()
    except IndexError:
        encoder = cbor2.CBOREncoder(BytesIO())
    body = encoder.encode_to_bytes(item)
    _idle_encoders.append(encoder)
    if len(body) > FRAME_LIMIT:
        raise ProtocolError(Code.FRAME_TOO_LARGE, f"A frame of {len(body)} bytes is too long.")
    return _LENGTH.pack(len(body)) + body


def check_items(body: bytes, most: int = ITEM_LIMIT) -> None:
    """Raise `ProtocolError` (malformed) for a body of more than `most` items.

    A short frame can encode tens of thousands of containers. To allocate and free them takes a
    hundred times as long as for any legitimate frame, so the items are counted before decoding.
    Counting reads only the head of each item (RFC 8949, section 3); decoding validates the items.
    """
    if len(body) <= most:
        return  # an item takes a byte at least
    at, left = 0, 1
    for _ in range(most + 1):
        if not left or at >= len(body):
            return
        major, value = body[at] >> 5, body[at] & 31
        at += 1
        if value >= 24:
            end = at + (1 << value - 24)
            value, at = int.from_bytes(body[at:end], "big"), end
        left -= 1
        if major in (2, 3):
            at += value
        elif major in (4, 5):
            left += value * (major - 3)
    raise ProtocolError(Code.MALFORMED, f"A frame holds more than {most} items.")


def unpack(body: bytes) -> dict[str, Any]:
    """Return the map in one frame's body, or raise `ProtocolError` (malformed)."""
    source = BytesIO(body)
    try:
        decoder = _idle_decoders.pop()
    except IndexError:
        decoder = _make_decoder()
    try:
        decoder.fp = source
        item = decoder.decode()
    except (cbor2.CBORError, ValueError, RecursionError) as error:
        raise ProtocolError(Code.MALFORMED, "A frame does not hold valid CBOR.") from error
    if source.tell() != len(body):
        raise ProtocolError(Code.MALFORMED, "A frame has trailing bytes.")
    decoder.fp = _NOTHING  # the decoder must not keep the frame, whose text may be erased
    _idle_decoders.append(decoder)
    if type(item) is not dict or not _ONLY_TEXT.issuperset(map(type, item)):
        raise ProtocolError(Code.MALFORMED, "A frame must be a map with text keys.")
    return item


# Encoders and decoders are used again, because creating one takes as long as its work. Whoever uses
# one takes it out, so threads do not share any. One that raised an error is not put back: it may be
# in the middle of an item.
_idle_encoders: list[cbor2.CBOREncoder] = []
_idle_decoders: list[cbor2.CBORDecoder] = []


def _make_decoder() -> cbor2.CBORDecoder:
    return cbor2.CBORDecoder(
        BytesIO(),
        tag_hook=_refuse_tag,
        semantic_decoders=_NO_TAGS,
        max_depth=_NESTING,
        allow_indefinite=False,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
    )


class FrameBuffer:
    """Split a byte stream into frame bodies, independent of chunk boundaries.

    Feed it the received chunks and iterate: it yields every complete body and keeps the rest. It
    raises `ProtocolError` (frame_too_large) at the first length above `limit`, so it never buffers
    more than one frame and one chunk.
    """

    __slots__ = ("_at", "_bytes", "limit")

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self.limit = limit
        self._bytes = b""
        self._at = 0  # start of the bytes that are not consumed yet

    def feed(self, data: bytes | bytearray) -> None:
        """Add received bytes."""
        self._bytes = self._bytes[self._at :] + data if self._bytes else bytes(data)
        self._at = 0

    def __iter__(self) -> Iterator[bytes]:
        while (body := self.pop()) is not None:
            yield body

    def pop(self) -> bytes | None:
        """Return the next complete body; None if more bytes are needed."""
        data, start = self._bytes, self._at + PREFIX
        if len(data) < start:
            return None
        (length,) = _LENGTH.unpack_from(data, self._at)
        if length > self.limit:
            raise ProtocolError(Code.FRAME_TOO_LARGE, f"A frame of {length} bytes is too long.")
        end = start + length
        if len(data) < end:
            return None
        if len(data) == end:
            self._bytes, self._at = b"", 0
        else:
            self._at = end
        return data[start:end]

    def rest(self) -> bytes:
        """Remove and return the bytes after the last frame: unframed data that follows it."""
        data, self._bytes, self._at = self._bytes[self._at :], b"", 0
        return data


def skip_frames(frames: bytes, count: int) -> bytes:
    """Return packed `frames` without the first `count` of them. Nothing is decoded."""
    start = 0
    for _ in range(count):
        start += PREFIX + int.from_bytes(frames[start : start + PREFIX], "big")
    return frames[start:]


def split_frames(frames: bytes) -> Iterator[bytes]:
    """Yield the bodies of packed frames, which must all be complete."""
    start = 0
    while start < len(frames):
        end = start + PREFIX + int.from_bytes(frames[start : start + PREFIX], "big")
        yield frames[start + PREFIX : end]
        start = end

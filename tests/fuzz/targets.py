"""The targets of the fuzzer: each takes bytes, and fails if a promise of tchat does not hold.

Errors that a decoder is allowed to raise are expected; anything else is a fault.
"""

from __future__ import annotations

import hashlib
import tempfile
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio
import trio.testing

from tchat.client.bounds import read_state
from tchat.client.replica import GapError, Replica
from tchat.core.group.feature import Event, Unknown
from tchat.core.group.snapshots import freeze, thaw, thaw_whole
from tchat.core.protocol.frames import (
    Attached,
    MembershipChange,
    PresenceUpdate,
    ReadPosition,
    Snapshot,
    decode,
    encode,
)
from tchat.core.protocol.framing import PREFIX, FrameBuffer
from tchat.core.text import (
    FILE_NAME_LIMIT,
    NAME_LIMIT,
    TEXT_LIMIT,
    check_name,
    check_text,
    clean_line,
    clean_text,
    fold,
    safe_filename,
)
from tchat.core.vocabulary import TO_CLIENT, decode_request
from tchat.errors import ProtocolError, Refused
from tchat.net.link import Link
from tchat.transfer.endpoints import receive_file
from tchat.transfer.partial_file import BrokenPiece, PartialFile
from tchat.ui.tui.decoder import InputDecoder

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE_SIZE = 300


def framing(data: bytes) -> None:
    """Split a stream into frames: cut into single bytes, it gives the same frames."""
    whole, pieces = FrameBuffer(), FrameBuffer()
    try:
        whole.feed(data)
        bodies = list(whole)
    except ProtocolError:
        return
    found: list[bytes] = []
    for number in data:
        pieces.feed(bytes([number]))
        found += pieces
    assert found == bodies


def frames(data: bytes) -> None:
    """Decode a frame of a client and of a server: what is accepted is encoded to what it was."""
    with suppress(ProtocolError):
        frame = decode_request(data)
        assert decode_request(encode(frame)[PREFIX:]) == frame
    with suppress(ProtocolError):
        frame = decode(data, TO_CLIENT)
        if not (isinstance(frame, Event) and isinstance(frame.body, Unknown)):  # it loses its name
            assert decode(encode(frame)[PREFIX:], TO_CLIENT) == frame


def text(data: bytes) -> None:
    """Sanitize text, names and file names: nothing that controls a terminal is left."""
    typed = data.decode(errors="surrogateescape")
    cleaned = clean_text(typed)
    assert clean_text(cleaned) == cleaned
    for shown in (cleaned.replace("\n", "").replace("\t", ""), clean_line(typed)):
        assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in shown)
        assert not any("\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069" for c in shown)
    name = safe_filename(typed)
    assert name == safe_filename(name)
    assert "/" not in name
    assert not name.startswith((".", "-"))
    assert 0 < len(name.encode()) <= FILE_NAME_LIMIT
    with suppress(Refused):
        valid = check_name(typed)
        assert check_name(valid) == valid
        assert len(valid) <= NAME_LIMIT
        assert fold(fold(valid)) == fold(valid)
    with suppress(Refused, UnicodeEncodeError):
        check_text(cleaned)
        assert len(cleaned.encode()) <= TEXT_LIMIT


def keys(data: bytes) -> None:
    """Decode what a terminal sends: cut into single bytes, it gives the same keys."""
    whole, pieces = InputDecoder(), InputDecoder()
    expected = [*whole.feed(data), *whole.flush()]
    found = [item for number in data for item in pieces.feed(bytes([number]))]
    found += pieces.flush()
    assert found == expected


def snapshots(data: bytes) -> None:
    """Thaw a state from a server and from the disk: what is accepted freezes to the same state."""
    with suppress(ProtocolError):
        group = thaw(data, 7)
        assert thaw(freeze(group), 7) == group
    with suppress(ProtocolError):
        thaw_whole(data, 7)


def replica(data: bytes) -> None:
    """Apply what a server sends about a group: the log stays ordered and without gaps."""
    buffer, group = FrameBuffer(), Replica("ops", recent=10)
    with suppress(ProtocolError, GapError, Refused):
        buffer.feed(data)
        for body in buffer:
            _apply(group, decode(body, TO_CLIENT))
    seqs = [event.seq for event in group.log]
    assert seqs == list(range(group.first, group.first + len(seqs)))


def _apply(group: Replica, frame: object) -> None:
    match frame:
        case Attached():
            group.apply_attached(frame)
        case Snapshot():
            if (state := group.collect_snapshot(frame)) is not None:
                group.restore(read_state(state, frame.seq))
        case Event():
            group.apply_event(frame)
        case MembershipChange():
            group.apply_membership(frame)
        case PresenceUpdate():
            group.apply_presence(frame)
        case ReadPosition():
            group.apply_read_position(frame.seq)


def transfers(data: bytes) -> None:
    """Receive a file: nothing but the file that its digests describe is complete."""
    with tempfile.TemporaryDirectory() as directory:
        trio.run(_receive, data, Path(directory) / "part")


async def _receive(data: bytes, path: Path) -> None:
    here, there = trio.testing.memory_stream_pair()
    part = PartialFile(path, _FILE_SIZE)
    part.open()
    await there.send_all(data)
    await there.send_eof()
    with suppress(ProtocolError, Refused, BrokenPiece, trio.BrokenResourceError):
        await receive_file(Link(here), part, lambda _: None)
    if part.is_complete:
        assert hashlib.sha256(await trio.Path(path).read_bytes()).digest() == part.digest
    assert part.offset <= _FILE_SIZE
    part.close()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "framing": framing,
    "frames": frames,
    "text": text,
    "keys": keys,
    "snapshots": snapshots,
    "replica": replica,
    "transfers": transfers,
}

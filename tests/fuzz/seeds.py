"""What the fuzzer starts from: `python -m tests.fuzz.seeds DIR` writes that of a target.

That is its corpus, and examples of what the decoder accepts.
"""

from __future__ import annotations

import hashlib
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from tchat.core.group.feature import Event
from tchat.core.group.rules import apply
from tchat.core.group.snapshots import freeze, freeze_whole
from tchat.core.group.state import Group
from tchat.core.protocol.frames import (
    Attached,
    Piece,
    Snapshot,
    StartAt,
    encode,
    encode_all,
)
from tchat.core.protocol.framing import PREFIX
from tests.core.examples import ANSWERS, EVENTS, REQUESTS
from tests.fuzz.corpus import kept_inputs
from tests.hostile_text import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FILE = bytes(range(150)) * 2


def _framing() -> Iterator[bytes]:
    for one, two in pairwise(REQUESTS):
        yield encode_all([one, two])


def _frames() -> Iterator[bytes]:
    for frame in (*REQUESTS, *ANSWERS):
        yield encode(frame)[PREFIX:]


def _text() -> Iterator[bytes]:
    for case in HOSTILE:
        if len(case.text) < 200:
            yield case.text.encode(errors="surrogateescape")


def _keys() -> Iterator[bytes]:
    yield from (
        b"hello\r",
        b"\x1b[200~one\rtwo\x1b[201~",
        b"\x1b[1;5A\x1bOP\x1b",
        b"\xc3\xbc\xff\xf0",
    )
    yield from (
        b"\x1b]11;rgb:00/00/00\x1b\\",
        b"\x1b[<0;1;1M\x1b[M !!",
        b"\x1b[5;7R",
        b"one\rtwo\r",
    )


def _state() -> Group:
    group = Group.unwritten("ops")
    for event in EVENTS:
        if event.seq == group.seq + 1:
            apply(group, event)
    return group


def _snapshots() -> Iterator[bytes]:
    group = _state()
    yield freeze(group)
    yield freeze_whole(group)


def _replica() -> Iterator[bytes]:
    snapshot = freeze(_state())
    events = [frame for frame in ANSWERS if isinstance(frame, Event)]
    yield encode_all(
        [
            Attached(1, "ops", "member", 0),
            Snapshot("ops", 0, snapshot, more=False),
            *events,
        ]
    )
    yield encode_all(ANSWERS)


def _transfers() -> Iterator[bytes]:
    piece = Piece(len(_FILE), hashlib.sha256(_FILE).digest())
    yield encode_all([StartAt(0), piece]) + _FILE
    yield encode_all([StartAt(0), piece]) + _FILE[:100]


_SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "framing": _framing,
    "frames": _frames,
    "text": _text,
    "keys": _keys,
    "snapshots": _snapshots,
    "replica": _replica,
    "transfers": _transfers,
}


def write_seeds(directory: Path) -> None:
    """Write the corpus and the examples of the target that a directory is named after."""
    directory.mkdir(parents=True, exist_ok=True)
    for data in (*kept_inputs(directory.name), *_SEEDS[directory.name]()):
        (directory / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    write_seeds(Path(sys.argv[1]))

"""Encode and decode a group's folded state as one CBOR item, a snapshot.

Two forms of it exist. A *shared* snapshot is what a client begins with: the map of `Group`, without
the numbers of clients (`counts`), which are the server's own business. A *whole* snapshot has these
too: it is what a server keeps beside the log and resumes from. It stands for a part of the log that
nobody reads again, so it is held to more than its shape: `MADE_WITH` says by which rules it was
made, and a SHA-256 digest that it is what was kept. Neither form contains anything of what messages
say.
"""

from __future__ import annotations

import hashlib
import unicodedata

import cbor2

from tchat.core.group.state import RULES, Group
from tchat.core.protocol.framing import unpack
from tchat.core.protocol.schema import Shape, record
from tchat.errors import Code, ProtocolError

PIECE_LIMIT = 48 * 1024
"""Bytes of a snapshot in one frame."""

SNAPSHOT_LIMIT = 16 * 1024 * 1024
"""Longest snapshot that is taken from a server, in bytes."""

MADE_WITH = f"rules {RULES}, unicode {unicodedata.unidata_version}"
"""What a whole snapshot depends on besides the log; made with another, the state may differ."""

_DIGEST_SIZE = hashlib.sha256().digest_size


@record
class _ClientNumbers(Shape):
    """The numbers of one client that were done: the highest, and a big-endian mask below it."""

    person: str
    client: bytes
    highest: int
    done: bytes


@record
class _Whole(Shape):
    """A shared snapshot, and the numbers of all clients."""

    state: bytes
    clients: tuple[_ClientNumbers, ...]


def freeze(group: Group) -> bytes:
    """Return a group's shared snapshot."""
    frozen: bytes = cbor2.dumps(group.to_map())
    return frozen


def thaw(data: bytes, seq: int) -> Group:
    """Return the state in a shared snapshot, as of event `seq`. Raises `ProtocolError`."""
    group = Group.from_map(unpack(data))
    group.seq = seq
    return group


def freeze_whole(group: Group) -> bytes:
    """Return a group's whole snapshot, for `thaw_whole`."""
    clients = tuple(
        _ClientNumbers(person, client, highest, _to_bytes(done))
        for (person, client), (highest, done) in group.counts.items()
    )
    frozen: bytes = cbor2.dumps(_Whole(freeze(group), clients).to_map())
    return _digest(group.seq, frozen) + frozen


def thaw_whole(data: bytes, seq: int) -> Group:
    """Return the state in a whole snapshot that was made at event `seq`.

    Raises `ProtocolError` for anything else.
    """
    digest, frozen = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
    if digest != _digest(seq, frozen):
        raise ProtocolError(Code.MALFORMED, "A snapshot is not what was kept.")
    whole = _Whole.from_map(unpack(frozen))
    group = thaw(whole.state, seq)
    group.counts = {
        (one.person, one.client): (one.highest, int.from_bytes(one.done, "big"))
        for one in whole.clients
    }
    return group


def _digest(seq: int, frozen: bytes) -> bytes:
    return hashlib.sha256(seq.to_bytes(8, "big") + frozen).digest()


def _to_bytes(mask: int) -> bytes:
    return mask.to_bytes((mask.bit_length() + 7) // 8, "big")

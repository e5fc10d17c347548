"""Encode and decode a group's folded state as one CBOR item, a snapshot.

There are two forms. A *shared* snapshot is sent to clients: the map of `Group`, without the fields
that only the server needs, such as the command numbers of clients (`counts`). A *whole*
snapshot contains these too; a server stores it beside the log and starts from it, without reading
the earlier events again. So the server verifies it: `MADE_WITH` names the version of the rules that
made it, and a SHA-256 digest detects damage. Neither form contains the texts of messages.
"""

from __future__ import annotations

import hashlib
import unicodedata

import cbor2

from tchat.core.fingerprints import SHA256_SIZE
from tchat.core.group.state import RULES, Denial, Group
from tchat.core.protocol.framing import check_items, unpack
from tchat.core.protocol.schema import Shape, record
from tchat.errors import Code, ProtocolError

PIECE_LIMIT = 48 * 1024
"""Most bytes of a snapshot in one frame."""

SNAPSHOT_LIMIT = 16 * 1024 * 1024
"""Longest snapshot that a client accepts, in bytes."""

STATE_BUDGET = 15 * 1024 * 1024
"""What the bounds of a state (`compaction`) keep each shared snapshot below, in bytes."""

MADE_WITH = f"rules {RULES}, unicode {unicodedata.unidata_version}"
"""The versions that made a whole snapshot; other versions may fold the log to another state."""


@record
class _ClientNumbers(Shape):
    """The committed numbers of one client: the highest, and a big-endian mask as in `counts`."""

    person: str
    client: bytes
    highest: int
    done: bytes


@record
class _Whole(Shape):
    """A shared snapshot, the command numbers of all clients, and the other fields of a server."""

    state: bytes
    clients: tuple[_ClientNumbers, ...]
    forgotten: int
    joined: dict[str, int]
    held: dict[str, bytes]
    banned_keys: dict[str, tuple[bytes, ...]]
    denied: dict[str, Denial]


def freeze(group: Group) -> bytes:
    """Return a group's shared snapshot."""
    frozen: bytes = cbor2.dumps(group.to_map())
    return frozen


def thaw(data: bytes, seq: int, most: int | None = None, most_items: int | None = None) -> Group:
    """Return the state in a shared snapshot, as of event `seq`. Raises `ProtocolError`.

    With `most`, a snapshot is refused in which any list has more entries. This is checked before a
    state is made of it: whoever chooses the numbers of files and messages can choose them so that
    the hash table of a dict takes quadratic time. With `most_items`, one with more items at all
    levels is refused before it is decoded: an empty list has one byte there, and a hundred here.
    """
    if most_items is not None:
        check_items(data, most_items)
    group = _thaw(data, seq, most)
    group.reindex()
    return group


def _thaw(data: bytes, seq: int, most: int | None = None) -> Group:
    """Return the state in a shared snapshot, without indexes."""
    item = unpack(data)
    lists = [value for value in item.values() if isinstance(value, list | dict)]
    if most is not None and any(len(value) > most for value in lists):
        raise ProtocolError(Code.MALFORMED, "A snapshot has too many entries.")
    group = Group.from_map(item)
    group.seq = seq
    return group


def freeze_whole(group: Group) -> bytes:
    """Return a group's whole snapshot, for `thaw_whole`."""
    clients = tuple(
        _ClientNumbers(person, client, highest, _to_bytes(done))
        for (person, client), (highest, done) in group.counts.items()
    )
    rest = (group.joined, group.held, group.banned_keys, group.denied)
    whole = _Whole(freeze(group), clients, group.forgotten, *rest)
    frozen: bytes = cbor2.dumps(whole.to_map())
    return _digest(group.seq, frozen) + frozen


def thaw_whole(data: bytes, seq: int) -> Group:
    """Return the state in a whole snapshot that was made at event `seq`.

    Raises `ProtocolError` if it is damaged or belongs to another seq.
    """
    digest, frozen = data[:SHA256_SIZE], data[SHA256_SIZE:]
    if digest != _digest(seq, frozen):
        raise ProtocolError(Code.MALFORMED, "A stored snapshot is damaged.")
    whole = _Whole.from_map(unpack(frozen))
    group = _thaw(whole.state, seq)
    group.counts = {
        (one.person, one.client): (one.highest, int.from_bytes(one.done, "big"))
        for one in whole.clients
    }
    group.forgotten = whole.forgotten
    group.joined, group.held = whole.joined, whole.held
    group.banned_keys, group.denied = whole.banned_keys, whole.denied
    group.reindex()
    return group


def _digest(seq: int, frozen: bytes) -> bytes:
    return hashlib.sha256(seq.to_bytes(8, "big") + frozen).digest()


def _to_bytes(mask: int) -> bytes:
    return mask.to_bytes((mask.bit_length() + 7) // 8, "big")

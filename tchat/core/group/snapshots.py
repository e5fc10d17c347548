"""A group's state as one piece of data: what a replay of its log leads to, without the replay.

Flat lists side by side, so that the checks of `Shape` are enough for what comes from a stranger.
What is known about clients (`counts`) is the server's own business and is left out of what others
get.

A *whole* state has it too: that is what a server keeps for itself, and goes on from. It stands for
a part of the log that nobody reads again, so it is held to more than its shape: `MADE_WITH` says by
which rules it was made, and a digest that it is what was kept. Neither form has anything in it of
what messages say.
"""

from __future__ import annotations

import hashlib
import unicodedata

import cbor2

from tchat.core.group.commands import Policy  # noqa: TC001  # read at run time, by `Shape`
from tchat.core.group.state import RULES, File, Group, Invitation, JoinRequest
from tchat.core.protocol.framing import unpack
from tchat.core.protocol.schema import Shape, record
from tchat.core.text import fold
from tchat.errors import Code, ProtocolError

PIECE_LIMIT = 48 * 1024
"""Bytes of a snapshot in one frame."""

SNAPSHOT_LIMIT = 16 * 1024 * 1024
"""Longest snapshot that is taken from a server, in bytes."""

MADE_WITH = f"rules {RULES}, unicode {unicodedata.unidata_version}"
"""What a whole state depends on besides the log; with another of these it may be another state."""

_DIGEST_SIZE = hashlib.sha256().digest_size


@record
class _State(Shape):
    """The map on the wire; `protocol.cddl` says the same."""

    name: str
    at: int
    floor: int
    topic: str
    policy: Policy
    numbered: int
    members: tuple[str, ...]
    requests: tuple[str, ...]
    request_keys: tuple[bytes, ...]
    kicked: tuple[str, ...]
    kicked_at: tuple[int, ...]
    banned: tuple[str, ...]
    keys: tuple[bytes, ...]
    keys_of: tuple[str, ...]
    invites: tuple[bytes, ...]
    invites_at: tuple[int, ...]
    invites_by: tuple[str, ...]
    invites_until: tuple[int, ...]
    invites_for: tuple[str, ...]
    files: tuple[int, ...]
    files_named: tuple[str, ...]
    files_sized: tuple[int, ...]
    files_hashed: tuple[bytes, ...]
    files_by: tuple[str, ...]
    files_at: tuple[int, ...]
    edited: tuple[int, ...]
    edits: tuple[int, ...]
    admin: str | None = None


@record
class _Whole(Shape):
    """A frozen state, and what it knows about clients: the mask of each in big-endian bytes."""

    state: bytes
    people: tuple[str, ...]
    clients: tuple[bytes, ...]
    highest: tuple[int, ...]
    done: tuple[bytes, ...]


def freeze(group: Group) -> bytes:
    """Return a group's state, without `counts`, as one CBOR item."""
    requests, invites = group.requests.values(), group.invites.values()
    files = group.files.values()
    edits = [(target, seq) for target, seqs in group.edits.items() for seq in seqs]
    state = _State(
        name=group.name,
        at=group.at,
        floor=group.floor,
        topic=group.topic,
        policy=group.policy,
        numbered=group.numbered,
        members=tuple(group.members.values()),
        requests=tuple(request.name for request in requests),
        request_keys=tuple(request.key or b"" for request in requests),
        kicked=tuple(group.kicked),
        kicked_at=tuple(group.kicked.values()),
        banned=tuple(group.banned.values()),
        keys=tuple(group.keys),
        keys_of=tuple(group.keys.values()),
        invites=tuple(group.invites),
        invites_at=tuple(invitation.seq for invitation in invites),
        invites_by=tuple(invitation.by for invitation in invites),
        invites_until=tuple(invitation.expires for invitation in invites),
        invites_for=tuple(invitation.name or "" for invitation in invites),
        files=tuple(file.number for file in files),
        files_named=tuple(file.name for file in files),
        files_sized=tuple(file.size for file in files),
        files_hashed=tuple(file.sha256 for file in files),
        files_by=tuple(file.by for file in files),
        files_at=tuple(file.at for file in files),
        edited=tuple(target for target, _ in edits),
        edits=tuple(seq for _, seq in edits),
        admin=group.admin,
    )
    frozen: bytes = cbor2.dumps(state.to_map())
    return frozen


def thaw(data: bytes, seq: int) -> Group:
    """Return the state that `freeze` made, as of event `seq`. Raises `ProtocolError`."""
    state = _State.from_map(unpack(data))
    try:
        group = _thaw(state)
    except ValueError as error:
        raise ProtocolError(Code.MALFORMED, "The lists of a snapshot do not match.") from error
    group.seq = seq
    return group


def freeze_whole(group: Group) -> bytes:
    """Return a group's state with all that is in it, for `thaw_whole`."""
    counts = group.counts.values()
    whole = _Whole(
        state=freeze(group),
        people=tuple(person for person, _ in group.counts),
        clients=tuple(client for _, client in group.counts),
        highest=tuple(highest for highest, _ in counts),
        done=tuple(_to_bytes(done) for _, done in counts),
    )
    frozen: bytes = cbor2.dumps(whole.to_map())
    return _digest(group.seq, frozen) + frozen


def thaw_whole(data: bytes, seq: int) -> Group:
    """Return the state that `freeze_whole` made of a group at event `seq`.

    Raises `ProtocolError` for anything else.
    """
    digest, frozen = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
    if digest != _digest(seq, frozen):
        raise ProtocolError(Code.MALFORMED, "A state is not what was kept.")
    whole = _Whole.from_map(unpack(frozen))
    group = thaw(whole.state, seq)
    clients = zip(whole.people, whole.clients, strict=True)
    counts = zip(whole.highest, map(_from_bytes, whole.done), strict=True)
    try:
        group.counts = dict(zip(clients, counts, strict=True))
    except ValueError as error:
        raise ProtocolError(Code.MALFORMED, "The lists of a state do not match.") from error
    return group


def _digest(seq: int, frozen: bytes) -> bytes:
    return hashlib.sha256(seq.to_bytes(8, "big") + frozen).digest()


def _to_bytes(mask: int) -> bytes:
    return mask.to_bytes((mask.bit_length() + 7) // 8, "big")


def _from_bytes(mask: bytes) -> int:
    return int.from_bytes(mask, "big")


def _thaw(state: _State) -> Group:
    edits: dict[int, tuple[int, ...]] = {}
    for target, edit in zip(state.edited, state.edits, strict=True):
        edits[target] = (*edits.get(target, ()), edit)
    requests = zip(state.requests, state.request_keys, strict=True)
    return Group(
        name=state.name,
        at=state.at,
        floor=state.floor,
        admin=state.admin,
        topic=state.topic,
        policy=state.policy,
        members={fold(name): name for name in state.members},
        requests={fold(name): JoinRequest(name, key or None) for name, key in requests},
        kicked=dict(zip(state.kicked, state.kicked_at, strict=True)),
        banned={fold(name): name for name in state.banned},
        keys=dict(zip(state.keys, state.keys_of, strict=True)),
        invites=_invites(state),
        files={file.number: file for file in _files(state)},
        numbered=state.numbered,
        edits=edits,
    )


def _invites(state: _State) -> dict[bytes, Invitation]:
    parts = (state.invites_at, state.invites_by, state.invites_until, state.invites_for)
    return {
        digest: Invitation(seq, by, until, name or None)
        for digest, seq, by, until, name in zip(state.invites, *parts, strict=True)
    }


def _files(state: _State) -> list[File]:
    kept = (state.files_named, state.files_sized, state.files_hashed)
    return [
        File(*file) for file in zip(state.files, *kept, state.files_by, state.files_at, strict=True)
    ]

"""Events: what has happened in a group, numbered 1, 2, 3 … and never changed.

An event is a header, the same for all, and a body that says what happened. On the wire and on
disk it is one flat map: header keys and body keys side by side, `kind` naming the body. Bodies
of a kind that this version does not know are kept as `Unknown`: they count, and change nothing.

One thing is taken out of a log: the text of a message that was deleted. Its event stays, with its
number and all of its header, and says `erased` from then on; so the log has no gap, and nothing
that was counted is forgotten.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from tchat.core.group.commands import Policy  # noqa: TC001  # read at run time, by `Shape`
from tchat.core.protocol.framing import pack, unpack
from tchat.core.protocol.schema import Frame, Shape, record
from tchat.errors import Code, ProtocolError


class Body(Shape):
    """What happened; `kind` is its word on the wire."""

    __slots__ = ()
    kind: ClassVar[str]


@record
class Created(Body):
    """The actor founded the group and is its admin. Begins a new life of a closed group.

    Here and below, `key` is the public key (Ed25519, 32 bytes) that the actor came with; logs
    from before keys have none.
    """

    kind = "created"
    key: bytes | None = None


@record
class Requested(Body):
    """The actor asks to join."""

    kind = "requested"
    key: bytes | None = None


@record
class Approved(Body):
    """The actor, the admin, let `name` in: a member from now on."""

    kind = "approved"
    name: str


@record
class Joined(Body):
    """The actor is a member from now on: the group is open, or `by` gave an invite, now used."""

    kind = "joined"
    by: str | None = None
    invite: bytes | None = None
    key: bytes | None = None


@record
class Denied(Body):
    """The actor, the admin, turned the request of `name` down."""

    kind = "denied"
    name: str


@record
class Withdrawn(Body):
    """The actor does not ask to join any more."""

    kind = "withdrawn"


@record
class Left(Body):
    """The actor is no longer a member."""

    kind = "left"


@record
class Kicked(Body):
    """The actor, the admin, ended the membership of `name`."""

    kind = "kicked"
    name: str


@record
class AdminTransferred(Body):
    """The actor, until now the admin, made `name` the admin."""

    kind = "admin_transferred"
    name: str


@record
class Invited(Body):
    """The actor, the admin, lets whoever shows the token with this SHA-256 join, once.

    It holds until `expires` (ms since the Unix epoch), and for `name` alone if that is given.
    """

    kind = "invited"
    invite: bytes
    expires: int
    name: str | None = None


@record
class Posted(Body):
    """The actor said `text` (UTF-8, at most 16 KiB), in reply to event `reply` if that is given.

    A text that begins with "/me " says what the actor does.
    """

    kind = "posted"
    text: str
    reply: int | None = None


@record
class Edited(Body):
    """The actor says `text` in the message that is event `target`, in place of what it said."""

    kind = "edited"
    target: int
    text: str


@record
class Deleted(Body):
    """The actor took the message away that is event `target`."""

    kind = "deleted"
    target: int


@record
class Erased(Body):
    """Here was what the actor said, or how it was edited, until it was deleted."""

    kind = "erased"


@record
class Banned(Body):
    """The actor, the admin, ended what `name` was to the group, and bars them from it."""

    kind = "banned"
    name: str


@record
class Unbanned(Body):
    """The actor, the admin, lets `name` ask to join again."""

    kind = "unbanned"
    name: str


@record
class TopicSet(Body):
    """The actor, the admin, said what the group is about: `text`, which may be empty."""

    kind = "topic_set"
    text: str


@record
class PolicySet(Body):
    """The actor, the admin, said who may join."""

    kind = "policy_set"
    policy: Policy


@record
class FileShared(Body):
    """The actor shared a file: the group's `number`-th, `size` bytes with that SHA-256."""

    kind = "file_shared"
    number: int
    name: str
    size: int
    sha256: bytes


@record
class FileRemoved(Body):
    """The actor, who had shared it or is the admin, took file `number` from the shelf."""

    kind = "file_removed"
    number: int


@record
class Unknown(Body):
    """A body of a kind that a newer version wrote."""

    kind = "unknown"
    word: str = ""


BODIES: dict[str, type[Body]] = {
    body.kind: body
    for body in (
        Created,
        Requested,
        Approved,
        Joined,
        Denied,
        Withdrawn,
        Left,
        Kicked,
        AdminTransferred,
        Invited,
        Posted,
        FileShared,
        FileRemoved,
        Edited,
        Deleted,
        Erased,
        Banned,
        Unbanned,
        TopicSet,
        PolicySet,
    )
}


@record
class Event(Frame):
    """One entry of a group's log.

    `group` is the group's name as it is shown, `seq` counts its events without gaps, `at` is in
    milliseconds since the Unix epoch and never decreases, `actor` is who did it. `client` and
    `n` name the request behind it, so that a repeated request is recognised.
    """

    type = "event"
    group: str
    seq: int
    at: int
    actor: str
    client: bytes
    n: int
    body: Body

    def to_map(self) -> dict[str, object]:
        """Return header and body as one flat map."""
        return {
            "type": "event",
            "kind": self.body.kind,
            "group": self.group,
            "seq": self.seq,
            "at": self.at,
            "actor": self.actor,
            "client": self.client,
            "n": self.n,
            **self.body.to_map(),
        }

    @classmethod
    def from_map(cls, item: Any) -> Event:  # noqa: ANN401  # a decoded map, checked here
        """Return the event that a decoded frame describes."""
        header = _Header.from_map(item)
        known = BODIES.get(header.kind)
        body = known.from_map(item) if known else Unknown(header.kind)
        return cls(header.group, header.seq, header.at, header.actor, header.client, header.n, body)


@record
class _Header(Shape):
    type: str
    kind: str
    group: str
    seq: int
    at: int
    actor: str
    client: bytes
    n: int


def encode_event(event: Event) -> bytes:
    """Return the event as the one frame that disk and every member get."""
    return pack(event.to_map())


def decode_event(body: bytes) -> Event:
    """Return the event in a frame's body, as a store keeps it."""
    item = unpack(body)
    if item.get("type") != Event.type:
        raise ProtocolError(Code.MALFORMED, "The log holds a frame that is not an event.")
    return Event.from_map(item)


def erase_event(body: bytes) -> bytes:
    """Return, in place of the event in a frame's body, the frame of one that says `erased`."""
    return encode_event(replace(decode_event(body), body=Erased()))

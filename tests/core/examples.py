"""One right frame of each sort, with every optional key in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.commands import (
    Approve,
    Deny,
    Join,
    Kick,
    Leave,
    Post,
    Share,
    TransferAdmin,
)
from tchat.core.events import (
    AdminTransferred,
    Approved,
    Body,
    Created,
    Denied,
    Event,
    FileShared,
    Kicked,
    Left,
    Posted,
    Requested,
    Withdrawn,
)
from tchat.core.frames import (
    TO_CLIENT,
    TO_SERVER,
    Attach,
    Attached,
    Detach,
    Digest,
    Download,
    Failed,
    Goodbye,
    Membership,
    Ok,
    Ping,
    Pong,
    Presence,
    Seen,
    Stored,
    Ticket,
    Upload,
)
from tchat.core.handshake import Hello, Ready, Transfer, Welcome

if TYPE_CHECKING:
    from tchat.core.schema import Frame

CLIENT = b"\x01\x23\x45\x67\x89\xab\xcd\xef"
SHA256 = bytes(range(32))
TICKET = bytes(range(16))

REQUESTS: list[Frame] = [
    Hello(1, "alice", CLIENT),
    Transfer(1, TICKET),
    Join(1, 1, "ops"),
    Leave(2, 2, "ops"),
    Approve(3, 3, "ops", "bob"),
    Deny(4, 4, "ops", "bob"),
    Kick(5, 5, "ops", "bob"),
    TransferAdmin(6, 6, "ops", "bob"),
    Post(7, 7, "ops", "hello everyone 👋"),
    Share(8, 8, "ops", "report.pdf", 1_200_000, SHA256),
    Attach(9, "ops", 0),
    Detach("ops"),
    Seen("ops", 12),
    Upload(10, "ops", 1_200_000),
    Download(11, "ops", 3),
    Ping(),
    Digest(SHA256),
]

BODIES: list[Body] = [
    Created(),
    Requested(),
    Approved("bob"),
    Denied("bob"),
    Left(),
    Withdrawn(),
    Kicked("bob"),
    AdminTransferred("bob"),
    Posted("hello everyone 👋"),
    FileShared(3, "report.pdf", 1_200_000, SHA256),
]

EVENTS: list[Event] = [
    Event("ops", seq, 1_795_341_720_000, "alice", CLIENT, seq, body)
    for seq, body in enumerate(BODIES, start=1)
]

ANSWERS: list[Frame] = [
    Welcome(1, "alice"),
    Ready(1, 1_200_000),
    *EVENTS,
    Ok(1, 12),
    Failed("not_admin", "Only the admin may do this, and that is alice.", 5),
    Attached(9, "ops", "member", 12, 8, 10, "alice", kicked=True),
    Ticket(10, TICKET),
    Presence("ops", ("alice", "bob"), ("carol",), reset=True),
    Membership("ops", "outsider", "kicked", "alice"),
    Goodbye("shutting_down", "The server is stopping."),
    Pong(),
    Stored(SHA256),
]

FRAMES = REQUESTS + ANSWERS

EVERY_TYPE = TO_SERVER | TO_CLIENT
"""Both directions in one vocabulary."""

OPTIONAL = {"ok": {"seq"}, "error": {"re"}, "attached": {"admin"}}
"""The keys that may be absent, by the type of their frame."""


def name_of(frame: Frame) -> str:
    """Return a frame's type, or the kind of an event: an id for its tests."""
    item = frame.to_map()
    return str(item.get("kind", item["type"]))

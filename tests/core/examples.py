"""A valid example of every frame and event, with every optional key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.feature import Body, Event
from tchat.core.group.features import encode_event
from tchat.core.group.files import FileRemoved, FileShared, RemoveFile, Share
from tchat.core.group.membership import (
    AdminTransferred,
    Approve,
    Approved,
    Ban,
    Banned,
    Created,
    Denied,
    Deny,
    DenyAll,
    Invite,
    Invited,
    Join,
    Joined,
    Kick,
    Kicked,
    Leave,
    Left,
    Requested,
    TransferAdmin,
    Unban,
    Unbanned,
    Withdrawn,
)
from tchat.core.group.messages import (
    Delete,
    Deleted,
    Edit,
    Edited,
    Erased,
    Pin,
    Pinned,
    Post,
    Posted,
    Unpin,
    Unpinned,
)
from tchat.core.group.operation import Closed, Expired, Missing
from tchat.core.group.settings import PolicySet, SetPolicy, SetTopic, TopicSet
from tchat.core.protocol.frames import (
    IN_TRANSFER,
    Activity,
    AlreadyStored,
    Attach,
    Attached,
    Away,
    Detach,
    DigestRequired,
    Download,
    Failed,
    FileList,
    FileListRequest,
    Goodbye,
    GroupList,
    GroupsRequest,
    GroupSummary,
    Have,
    HistoryPage,
    HistoryRequest,
    KeyAdded,
    KeyList,
    KeyRemoved,
    KeysRequest,
    LinkCode,
    LinkRequest,
    MembershipChange,
    NameKey,
    Ok,
    OnlineMember,
    Piece,
    Ping,
    Pong,
    PresenceUpdate,
    ReadPosition,
    Search,
    SearchHit,
    SearchResults,
    Seen,
    Snapshot,
    StartAt,
    Stored,
    StoredFileInfo,
    SubscriptionEnded,
    Ticket,
    Unlink,
    Upload,
)
from tchat.core.protocol.handshake import (
    VERSION,
    Challenge,
    Hello,
    Proof,
    Ready,
    TransferHello,
    Welcome,
)
from tchat.core.vocabulary import TO_CLIENT, TO_SERVER

if TYPE_CHECKING:
    from tchat.core.protocol.schema import Frame

CLIENT = b"\x01\x23\x45\x67\x89\xab\xcd\xef"
STAMP = bytes(range(8))
SHA256 = bytes(range(32))
HEAD = bytes(range(64, 96))
TICKET = TOKEN = bytes(range(16))
KEY = NONCE = bytes(range(32, 64))
SIGNATURE = bytes(range(64))

REQUESTS: list[Frame] = [
    Hello(VERSION, "alice", CLIENT, KEY, NONCE),
    Hello(VERSION, "alice", CLIENT, KEY, NONCE, upcoming=19),
    Proof(SIGNATURE, "K7QM-2XJ4-9DTR"),
    TransferHello(VERSION, TICKET),
    Join(1, 1, "ops", TOKEN, create=False),
    Leave(2, 2, "ops"),
    Approve(3, 3, "ops", "bob"),
    Deny(4, 4, "ops", "bob"),
    DenyAll(4, 18, "ops"),
    Kick(5, 5, "ops", "bob"),
    TransferAdmin(6, 6, "ops", "bob"),
    Invite(7, 7, "ops", SHA256, 86_400_000, "bob"),
    Post(7, 7, "ops", "hello everyone 👋", 5, stamp=STAMP),
    Share(8, 8, "ops", "report.pdf", 1_200_000, SHA256),
    RemoveFile(8, 9, "ops", 3, bytes(32)),
    Edit(8, 10, "ops", 11, "hello, everyone 👋", stamp=STAMP),
    Delete(8, 11, "ops", 11, stamp=STAMP),
    Pin(8, 16, "ops", 11, stamp=STAMP),
    Unpin(8, 17, "ops"),
    Ban(8, 12, "ops", "bob"),
    Unban(8, 13, "ops", "bob"),
    SetTopic(8, 14, "ops", "What runs, and what does not."),
    SetPolicy(8, 15, "ops", "open"),
    Attach(9, "ops", 0, 200, log=bytes(range(16)), digest=bytes(range(16, 32))),
    Away(9, "at lunch"),
    Detach("ops"),
    Seen("ops", 12),
    Upload(10, "ops", 1_200_000, HEAD, SHA256),
    Download(11, "ops", 3),
    FileListRequest(11, "ops", 41),
    HistoryRequest(11, "ops", 400),
    Search(11, "hello", "ops", 20),
    GroupsRequest(11),
    LinkRequest(12),
    KeysRequest(13),
    Unlink(14, KEY),
    Ping(),
]

BODIES: list[Body] = [
    Created(KEY),
    Requested(KEY),
    Approved("bob"),
    Joined("alice", SHA256, KEY),
    Denied("bob"),
    Denied("bob", 1_795_345_320_000),
    Left(),
    Closed(),
    Expired(4),
    Missing(3),
    Withdrawn(),
    Kicked("bob"),
    AdminTransferred("bob"),
    Invited(SHA256, 1_795_428_120_000, "bob"),
    Posted("hello everyone 👋", 5),
    FileShared(3, "report.pdf", 1_200_000, SHA256),
    FileRemoved(3),
    Edited(11, "hello, everyone 👋"),
    Deleted(11),
    Erased(),
    Pinned(11),
    Unpinned(),
    Banned("bob"),
    Unbanned("bob"),
    TopicSet("What runs, and what does not."),
    PolicySet("open"),
]

EVENTS: list[Event] = [
    Event("ops", seq, 1_795_341_720_000, "alice", CLIENT, seq, body)
    for seq, body in enumerate(BODIES, start=1)
]

ANSWERS: list[Frame] = [
    Challenge(VERSION, NONCE),
    Welcome(VERSION, "alice", 50_000, 50, 1_795_345_320_000),
    *EVENTS,
    Ok(1, 12),
    Failed("not_admin", "Only the admin, alice, may do this.", 5, 1200),
    Attached(
        *(9, "ops", "member", 12, 8, 10, 3, "alice"),
        kicked=True,
        joined=4,
        banned=True,
        wait=7,
        log=bytes(range(16)),
        digest=bytes(range(16, 32)),
        diverged=True,
    ),
    Ticket(10, TICKET),
    DigestRequired(10),
    AlreadyStored(10),
    FileList(
        11,
        (
            StoredFileInfo(40, 0, (), 1803117720000),
            StoredFileInfo(3, 2, ("bob", "carol")),
        ),
        older=True,
    ),
    HistoryPage(11, 200, 399, b"".join(map(encode_event, EVENTS))),
    SearchResults(
        11, (SearchHit("ops", 11, 1795341720000, "alice", "hello everyone 👋"),), older=True
    ),
    GroupList(
        11,
        (
            GroupSummary("ops", "member", 12, 10, 1),
            GroupSummary("@alice,bob", "member", 3, 0, 2),
        ),
    ),
    LinkCode(12, "K7QM-2XJ4-9DTR", 600_000),
    KeyList(
        13,
        (
            NameKey(KEY, 1795341720000),
            NameKey(SHA256, 1795341730000),
        ),
    ),
    PresenceUpdate(
        "ops",
        (
            OnlineMember("alice"),
            OnlineMember("bob", "at lunch"),
        ),
        ("carol",),
        reset=True,
    ),
    Snapshot("ops", 12, b"\xa1", more=True),
    MembershipChange("ops", "outsider", "kicked", "alice"),
    Activity("@alice,bob", 3, "alice"),
    ReadPosition("ops", 12),
    SubscriptionEnded("ops", "log_damaged", "Part of this group's log is damaged."),
    KeyAdded(bytes(31) + b"\x09", 1_700_000_000_000),
    KeyRemoved(bytes(31) + b"\x09"),
    Goodbye("shutting_down", "The server is stopping."),
    Pong(),
]

TRANSFER: list[Frame] = [
    Ready(VERSION, 1_200_000),
    Have(1_048_600, SHA256, doubt=True),
    StartAt(1_048_600),
    Piece(151_400, SHA256),
    Stored(SHA256),
    Failed("file_changed", "The file was damaged in transit."),
    Ping(),
]
"""The frames of a connection that carries a file."""

FRAMES = REQUESTS + ANSWERS + TRANSFER

EVERY_TYPE = TO_SERVER | TO_CLIENT | IN_TRANSFER
"""All directions in one vocabulary."""

OPTIONAL = {
    "hello": {"upcoming"},
    "proof": {"link"},
    "welcome": {"interval", "burst", "now"},
    "join": {"invite", "create"},
    "invite": {"name"},
    "post": {"reply", "stamp"},
    "edit": {"stamp"},
    "delete": {"stamp"},
    "pin": {"stamp"},
    "remove_file": {"sha256"},
    "attach": {"recent", "log", "digest"},
    "away": {"text"},
    "search": {"group"},
    "upload": {"sha256"},
    "file_list_request": {"before"},
    "ok": {"seq"},
    "error": {"re", "wait"},
    "attached": {"admin", "joined", "banned", "wait", "log", "digest", "diverged"},
    "created": {"key"},
    "denied": {"until"},
    "requested": {"key"},
    "joined": {"by", "invite", "key"},
    "invited": {"name"},
    "posted": {"reply"},
    "missing": {"count"},
}
"""The keys that may be absent, by the type of their frame, or the kind of their event."""


def optional_in(frame: Frame) -> set[str]:
    """Return the keys that may be absent from a frame."""
    return OPTIONAL.get(name_of(frame), set())


def name_of(frame: Frame) -> str:
    """Return a frame's type, or the kind of an event: an id for its tests."""
    item = frame.to_map()
    return str(item.get("kind", item["type"]))

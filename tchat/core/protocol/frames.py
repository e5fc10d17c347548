"""Frames of chat and transfer connections: requests, answers, notices, pieces of files.

A frame is one message on a connection. A *request* carries an `id` chosen by the client, and its
answer repeats the id as `re`; *notices* arrive without a request. A file is transferred on a
separate connection, with the *transfer* frames, after `ready`. Commands, which append to a
group's log, and events, its entries, are defined with their rules in `core.group`.

A log may be far longer than anybody reads. A client without any events of a group gets a snapshot
and the latest events (`attach` with `recent`). It requests older ones a page at a time
(`history_request`) when somebody scrolls back, and finds old messages by their words (`search`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from tchat.core.protocol.converters import INT_LIMIT
from tchat.core.protocol.framing import pack, unpack
from tchat.core.protocol.handshake import Ready
from tchat.core.protocol.schema import Clean, Frame, Shape, record
from tchat.core.text import check_text, clean_limited
from tchat.errors import Code, ProtocolError, TchatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Read = Callable[[Mapping[str, Any]], Frame]

Standing = Literal["member", "waiting", "outsider"]
"""Whether a person is a member of a group, waits for approval, or is neither."""

Reason = Literal[
    "created",
    "requested",
    "approved",
    "joined",
    "denied",
    "kicked",
    "banned",
    "unbanned",
    "left",
    "closed",
]
"""Why somebody's standing in a group has changed."""

AWAY_LIMIT = 100
"""Longest reason for being away, in code points."""


def clean_away(text: str) -> str:
    """Return a reason for being away, sanitized. Raises `Refused`."""
    cleaned = clean_limited(text, AWAY_LIMIT, "A reason for being away")
    check_text(cleaned)
    return cleaned


# ------------------------------------------------------------------ requests: following groups


@record
class Attach(Frame):
    """Subscribe to a group's log after event `after`. Answered by `Attached`.

    With `recent`, a member whose client has no events of the group gets a snapshot and that many of
    the latest events, or all unread ones if these are more. For a member who has never read the
    group, those since their admission are unread; if `recent` is 0, they get the whole log. With
    `unread` false, the `recent` latest events are sent and no more, however many are unread.

    `log` and `digest` are the identity and the running digest, up to `after`, of the log that the
    client has (see `core.group.log_digest`), as far as it knows them.
    """

    type = "attach"
    id: int
    group: str
    after: int
    recent: int | None = None
    unread: bool | None = None
    log: bytes | None = None
    digest: bytes | None = None


@record
class Detach(Frame):
    """End the subscription to a group. Not answered."""

    type = "detach"
    group: str


@record
class Seen(Frame):
    """Read receipt: the person has seen the group's events up to `seq`. Not answered.

    The person's other clients that follow the group get `ReadPosition`.
    """

    type = "seen"
    group: str
    seq: int


@record
class HistoryRequest(Frame):
    """Ask for a page of the events of a group before event `before`. Answered by `HistoryPage`."""

    type = "history_request"
    id: int
    group: str
    before: int


@record
class Search(Frame):
    """Search for messages with all words of `text`, in `group` or in all groups of the person.

    Answered by `SearchResults`, without the newest `skip` matches.
    """

    type = "search"
    id: int
    text: str
    group: str | None = None
    skip: int = 0


@record
class GroupsRequest(Frame):
    """Ask for the person's groups, including those they asked to join. Answered by `GroupList`."""

    type = "groups_request"
    id: int


@record
class Away(Frame):
    """Mark the person as away, with `text` as the reason; without `text`, as back.

    Answered by `Ok`. The mark is also removed when the person's last connection ends.
    """

    type = "away"
    id: int
    text: Annotated[str, Clean(clean_away)] | None = None


@record
class Ping(Frame):
    """Keepalive. Answered by `Pong`, but not in a transfer."""

    type = "ping"


# ------------------------------------------------------------------ requests: files


@record
class Upload(Frame):
    """Ask to upload a file of `size` bytes, in order to share it in a group.

    `head` is the SHA-256 of its first piece. `sha256`, that of the whole file, is sent only after
    `DigestRequired`. Answered by `Ticket`, `DigestRequired` or `AlreadyStored`.
    """

    type = "upload"
    id: int
    group: str
    size: int
    head: bytes
    sha256: bytes | None = None


@record
class Download(Frame):
    """Ask to download the group's file with that number. Answered by `Ticket`."""

    type = "download"
    id: int
    group: str
    number: int


@record
class FileListRequest(Frame):
    """Ask for the group's stored files with numbers below `before`. Answered by `FileList`."""

    type = "file_list_request"
    id: int
    group: str
    before: int | None = None


# ------------------------------------------------------------------ requests: keys


@record
class LinkRequest(Frame):
    """Ask for a code that adds another key to the person's name. Answered by `LinkCode`."""

    type = "link"
    id: int


@record
class KeysRequest(Frame):
    """Ask for the keys of the person's name. Answered by `KeyList`."""

    type = "keys"
    id: int


@record
class Unlink(Frame):
    """Remove a key (32 bytes), not the one in use, from the person's name. Answered by `Ok`."""

    type = "unlink"
    id: int
    key: bytes


# ------------------------------------------------------------------ answers


@record
class Ok(Frame):
    """Request `re` succeeded. `seq` is its last event, absent if it appended none."""

    type = "ok"
    re: int
    seq: int | None = None


@record
class Failed(Frame):
    """Request `re` failed and changed nothing; without `re`, the error concerns the connection.

    If `wait` is given, the request may be repeated after that many milliseconds.
    """

    type = "error"
    code: str
    text: str
    re: int | None = None
    wait: int | None = None


@record
class Attached(Frame):
    """The person's standing in the group and, for members, the positions in its log.

    `seq` is the last event, `counted` the highest `n` that the group has from this client, `read`
    the last event that this person has seen on any device, `first` the first event that is sent
    now. `joined` is the event that admitted the person: earlier events do not count as unread, even
    if `read` is 0; it is absent in direct conversations. People who are not members get
    the `admin`'s name, `kicked` if they were kicked or banned, and `banned` if the ban still
    stands. If their request was denied, they may ask again after `wait` ms.

    `log` is the identity of the log, and `digest` its running digest before event `first`. If the
    events of the client are not those of this log (any more), `diverged` is true, and nothing is
    sent: the client drops what it has of the group, and attaches from the beginning.
    """

    type = "attached"
    re: int
    group: str
    standing: Standing
    seq: int = 0
    counted: int = 0
    read: int = 0
    first: int = 0
    admin: str | None = None
    kicked: bool = False
    joined: int | None = None
    banned: bool | None = None
    wait: int | None = None
    log: bytes | None = None
    digest: bytes | None = None
    diverged: bool | None = None


@record
class HistoryPage(Frame):
    """The events `first` to `last`, as consecutive frames; none if there are no earlier ones."""

    type = "history_page"
    re: int
    first: int
    last: int
    frames: bytes


@record
class SearchHit(Shape):
    """A message that was found: event `seq` of `group`, with the start of its current text."""

    group: str
    seq: int
    at: int
    actor: str
    text: str


@record
class SearchResults(Frame):
    """Messages that were found, the newest first; `older` says whether there are more."""

    type = "search_results"
    re: int
    hits: tuple[SearchHit, ...]
    older: bool = False


@record
class GroupSummary(Shape):
    """One of a person's groups: its last event, and the last event that the person has read.

    `place` orders the groups by when the person joined them, or asked to, and the conversations by
    when they began. It is the same on all devices.
    """

    name: str
    standing: Standing
    last: int
    read: int
    place: int


@record
class GroupList(Frame):
    """A person's groups, the most recently used first."""

    type = "group_list"
    re: int
    groups: tuple[GroupSummary, ...]


@record
class Ticket(Frame):
    """Permission for one transfer: single-use, valid for a short time, for a new connection."""

    type = "ticket"
    re: int
    ticket: bytes


@record
class DigestRequired(Frame):
    """The server may have the file already: repeat the request with the whole file's SHA-256."""

    type = "digest_required"
    re: int


@record
class AlreadyStored(Frame):
    """The server has the file already, and keeps it for a day so that this person can share it."""

    type = "already_stored"
    re: int


@record
class StoredFileInfo(Shape):
    """A stored file. `until` is when it expires (ms since the Unix epoch), absent if never.

    `fetched` people have downloaded it; `by` names some of them.
    """

    number: int
    fetched: int
    by: tuple[str, ...]
    until: int | None = None


@record
class FileList(Frame):
    """Stored files, the newest first; `older` says whether there are more."""

    type = "file_list"
    re: int
    files: tuple[StoredFileInfo, ...]
    older: bool = False


@record
class LinkCode(Frame):
    """A single-use code that adds one key to the person's name, valid for `lasts` milliseconds."""

    type = "link_code"
    re: int
    code: str
    lasts: int


@record
class NameKey(Shape):
    """A key of a name, and the time when it was added (ms since the Unix epoch)."""

    key: bytes
    since: int


@record
class KeyList(Frame):
    """The keys of a name, the oldest first."""

    type = "key_list"
    re: int
    keys: tuple[NameKey, ...]


@record
class Pong(Frame):
    """The answer to a keepalive."""

    type = "pong"


# ------------------------------------------------------------------ notices


@record
class Snapshot(Frame):
    """A piece of the group's snapshot as of event `seq`; `more` says whether another follows."""

    type = "snapshot"
    group: str
    seq: int
    data: bytes
    more: bool


@record
class OnlineMember(Shape):
    """A member who is online and, if away, the reason."""

    name: str
    away: str | None = None


@record
class PresenceUpdate(Frame):
    """Members who came online, went away or came back, and those who went offline.

    With `reset`, clients clear the presence first: members who are not listed since are offline.
    """

    type = "presence"
    group: str
    online: tuple[OnlineMember, ...]
    offline: tuple[str, ...]
    reset: bool = False


@record
class MembershipChange(Frame):
    """The person's standing in the group has changed, or their ban was lifted; `by` did it.

    Sent to all clients of the person, whether they follow the group or not, except the one whose
    own command founded the group, joined it or asked to join: that one gets its answer.
    """

    type = "membership"
    group: str
    standing: Standing
    reason: Reason
    by: str


@record
class Activity(Frame):
    """Event `seq` of a group that this client is not subscribed to is meant for the person.

    `by` caused it: a direct message, a mention, or a request to join for the admin. The client may
    attach. In a direct conversation, the person's own messages count, too: they may be from another
    device, or the first one, before which an `attach` subscribes to nothing.
    """

    type = "activity"
    group: str
    seq: int
    by: str


@record
class SubscriptionEnded(Frame):
    """The server cannot go on sending a group's events, for the reason `code`; others go on.

    The client may attach again later, after minutes; it still has the events that it got.
    """

    type = "subscription_ended"
    group: str
    code: str
    text: str


@record
class ReadPosition(Frame):
    """The person has read the group's events up to `seq` on another device."""

    type = "read_position"
    group: str
    seq: int


@record
class KeyAdded(Frame):
    """A key was added to the person's name with a link code, `since` ms since the Unix epoch."""

    type = "key_added"
    key: bytes
    since: int


@record
class KeyRemoved(Frame):
    """A key was removed from the person's name, by another of its keys or the server's operator."""

    type = "key_removed"
    key: bytes


@record
class Goodbye(Frame):
    """The server closes this connection; `code` and `text` say why."""

    type = "goodbye"
    code: str
    text: str


# ------------------------------------------------------------------ transfers


@record
class Have(Frame):
    """The receiver has the file's bytes up to `offset` already, and resumes there.

    `sha256` is the running digest of its whole pieces. `doubt` says that the bytes after them did
    not match their digest in the last attempt, so the sender has to verify its own copy first.
    """

    type = "have"
    offset: int
    sha256: bytes
    doubt: bool = False


@record
class StartAt(Frame):
    """The sender begins at `offset`: the receiver's, or 0 if the receiver has another file."""

    type = "from"
    offset: int


@record
class Piece(Frame):
    """The next `size` bytes of the file follow, unframed.

    `sha256` is the running digest: of the file from its beginning to the end of this piece.
    """

    type = "piece"
    size: int
    sha256: bytes


@record
class Stored(Frame):
    """The receiver has the whole file on its disk."""

    type = "stored"
    sha256: bytes


# ------------------------------------------------------------------ encoding and decoding


def by_type(*frames: type[Frame]) -> dict[str, Read]:
    """Return a vocabulary: the decoder of each frame that one side accepts, by its type."""
    return {frame.type: frame.from_map for frame in frames}


IN_TRANSFER = by_type(Ready, Have, StartAt, Piece, Stored, Failed, Ping)
"""Frames that either side of a transfer accepts."""


class UnknownType(ProtocolError):
    """The type of a frame is unknown. This is answered with an error and is never fatal.

    `re` is the `id` of the request, if it has one.
    """

    def __init__(self, word: str, re: int | None) -> None:
        super().__init__(Code.UNKNOWN_TYPE, f"The frame type {word!r} is unknown.")
        self.re = re


def encode(frame: Frame) -> bytes:
    """Return a frame as bytes. Raises `ProtocolError` (frame_too_large)."""
    return pack(frame.to_map())


def encode_all(frames: Iterable[Frame]) -> bytes:
    """Return several frames as bytes, one after the other."""
    return b"".join(map(encode, frames))


def failed(error: TchatError, re: int | None = None) -> Failed:
    """Return the frame that reports an error to the other side."""
    return Failed(error.code, error.sentence, re, getattr(error, "wait", None))


def decode(body: bytes, vocabulary: Mapping[str, Read]) -> Frame:
    """Return the frame in `body`. Raises `ProtocolError` (malformed) or `UnknownType`."""
    item = unpack(body)
    word = item.get("type")
    if not isinstance(word, str):
        raise ProtocolError(Code.MALFORMED, "A frame has no type.")
    read = vocabulary.get(word)
    if read is None:
        number = item.get("id")
        natural = type(number) is int and 0 <= number < INT_LIMIT
        raise UnknownType(word[:32], number if natural else None)
    return read(item)

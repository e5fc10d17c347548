"""Frames of chat and transfer connections: requests, answers, notices, pieces of files.

A frame is one message on a connection. *Requests* carry an `id` of the client's choice, and their
answer names it as `re`; *notices* come without being asked for. The frames of a *transfer* travel
on a connection of its own, once it is `ready`. Commands, which change a group's log, and events,
which are its log, stand with their rules in `core.group`.

A log may be far longer than anybody reads. A client that has nothing of a group gets its snapshot
and its latest events (`attach` with `recent`); older ones come a page at a time (`history_request`)
as somebody scrolls back, and what was said long ago is found by its words (`search`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from tchat.core.protocol.framing import pack, unpack
from tchat.core.protocol.handshake import Ready
from tchat.core.protocol.schema import INT_LIMIT, Clean, Frame, Shape, record
from tchat.core.text import check_text, clean_limited
from tchat.errors import Code, ProtocolError, TchatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Read = Callable[[Mapping[str, Any]], Frame]

Standing = Literal["member", "waiting", "outsider"]
"""What a person is to a group."""

AWAY_LIMIT = 100
"""Longest reason for being away, in code points."""


def clean_away(text: str) -> str:
    """Return a reason for being away as it is shown. Raises `Refused`."""
    cleaned = clean_limited(text, AWAY_LIMIT, "A reason for being away")
    check_text(cleaned)
    return cleaned


# ------------------------------------------------------------------ requests: following groups


@record
class Attach(Frame):
    """Subscribe to a group's log after event `after`. Answered by `Attached`.

    With `recent`, a member who has nothing of the group gets its snapshot and that many of the
    latest events, or more if there are more unread ones; a member who has read nothing of it yet
    has missed nothing, unless `recent` is 0.
    """

    type = "attach"
    id: int
    group: str
    after: int
    recent: int | None = None


@record
class Detach(Frame):
    """End the subscription to a group. Not answered."""

    type = "detach"
    group: str


@record
class Seen(Frame):
    """Read receipt: the person has seen the group's events up to `seq`. Not answered."""

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
    """Ask for messages that have all the words of `text`, in all of one's groups or in one.

    Answered by `SearchResults`. `skip` is how many of the newest were found before.
    """

    type = "search"
    id: int
    text: str
    group: str | None = None
    skip: int = 0


@record
class GroupsRequest(Frame):
    """Ask for the groups of which one is a member, or asks to be. Answered by `GroupList`."""

    type = "groups_request"
    id: int


@record
class Away(Frame):
    """Set one's presence to away, with a reason; without a text, to back. Answered by `Ok`.

    Holds until then, or until the last connection of the person ends.
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

    `head` is the SHA-256 of its first piece, `sha256` that of all of it, once it was required.
    Answered by `Ticket`, `DigestRequired` or `AlreadyStored`.
    """

    type = "upload"
    id: int
    group: str
    size: int
    head: bytes
    sha256: bytes | None = None


@record
class Download(Frame):
    """Ask to download the group's file of that number. Answered by `Ticket`."""

    type = "download"
    id: int
    group: str
    number: int


@record
class FileListRequest(Frame):
    """Ask which of the group's files are stored, `before` a number. Answered by `FileList`."""

    type = "file_list_request"
    id: int
    group: str
    before: int | None = None


# ------------------------------------------------------------------ requests: keys


@record
class LinkRequest(Frame):
    """Ask for a code that adds another key to one's name. Answered by `LinkCode`."""

    type = "link"
    id: int


@record
class KeysRequest(Frame):
    """Ask for the keys of one's name. Answered by `KeyList`."""

    type = "keys"
    id: int


@record
class Unlink(Frame):
    """Remove a key (32 bytes), not the one in use, from one's name. Answered by `Ok`."""

    type = "unlink"
    id: int
    key: bytes


@record
class Release(Frame):
    """Remove all keys from a name. Accepted from the operator only, on the server's own machine."""

    type = "release"
    id: int
    name: str


# ------------------------------------------------------------------ answers


@record
class Ok(Frame):
    """Request `re` is done. `seq` is its last event, absent when it changed nothing."""

    type = "ok"
    re: int
    seq: int | None = None


@record
class Failed(Frame):
    """Request `re` (or, without it, this connection) met an error. Nothing was changed.

    After `wait` milliseconds, if that is given, the same request may be allowed.
    """

    type = "error"
    code: str
    text: str
    re: int | None = None
    wait: int | None = None


@record
class Attached(Frame):
    """Where the person stands in the group and, for members, where its log stands.

    `seq` is the last event, `counted` the highest `n` that the group has from this client, `read`
    the last event that this person has seen on any device, `first` the first event that is sent
    now. Others get the `admin`'s name, and whether they were `kicked` or banned.
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


@record
class HistoryPage(Frame):
    """The events `first` to `last`, packed as frames one after the other; none at the start."""

    type = "history_page"
    re: int
    first: int
    last: int
    frames: bytes


@record
class SearchHit(Shape):
    """A message that was found: event `seq` of `group`, with the beginning of what it says now."""

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
    """One of a person's groups: its `last` event, and the last one that the person has `read`."""

    name: str
    standing: Standing
    last: int
    read: int


@record
class GroupList(Frame):
    """A person's groups, those used last first."""

    type = "group_list"
    re: int
    groups: tuple[GroupSummary, ...]


@record
class Ticket(Frame):
    """Permission for one transfer: to be shown on a connection of its own, once, soon."""

    type = "ticket"
    re: int
    ticket: bytes


@record
class DigestRequired(Frame):
    """The server may have the file already: ask once more, with the SHA-256 of all of it."""

    type = "digest_required"
    re: int


@record
class AlreadyStored(Frame):
    """The server has the file, and holds it for a day for this person to share."""

    type = "already_stored"
    re: int


@record
class StoredFileInfo(Shape):
    """A file that is stored `until` a time (ms since the Unix epoch), or without an end.

    It was `fetched` by so many people, of whom `by` names some.
    """

    number: int
    fetched: int
    by: tuple[str, ...]
    until: int | None = None


@record
class FileList(Frame):
    """Files that are stored, the newest first; `older` says whether there are more."""

    type = "file_list"
    re: int
    files: tuple[StoredFileInfo, ...]
    older: bool = False


@record
class LinkCode(Frame):
    """A code that adds one key to the person's name, once, within `lasts` milliseconds."""

    type = "link_code"
    re: int
    code: str
    lasts: int


@record
class NameKey(Shape):
    """A key of a name, and `since` when it belongs to it (ms since the Unix epoch)."""

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
    """A piece of the group's snapshot as of event `seq`; `more` of it follows. See `snapshots`."""

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

    After `reset`, everybody who is not named is offline.
    """

    type = "presence"
    group: str
    online: tuple[OnlineMember, ...]
    offline: tuple[str, ...]
    reset: bool = False


@record
class MembershipChange(Frame):
    """The person's standing in the group has changed, by the hand of `by`."""

    type = "membership"
    group: str
    standing: Standing
    reason: Literal["approved", "joined", "denied", "kicked", "banned", "left", "closed"]
    by: str


@record
class ConversationStarted(Frame):
    """Somebody has written to the person: their conversation of two may be attached."""

    type = "conversation_started"
    group: str


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

    `sha256` is the running digest of its whole pieces. With `doubt`, the bytes after them did not
    match their digest the last time: the sender is to check its own copy first.
    """

    type = "have"
    offset: int
    sha256: bytes
    doubt: bool = False


@record
class StartAt(Frame):
    """The sender begins at `offset`: the receiver's, or 0 if that had another file."""

    type = "from"
    offset: int


@record
class Piece(Frame):
    """The next `size` bytes of the file follow, unframed.

    `sha256` is that of the whole file from its beginning to the end of this piece.
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
    """Return a vocabulary: the reader of each frame that one side accepts, by its word."""
    return {frame.type: frame.from_map for frame in frames}


IN_TRANSFER = by_type(Ready, Have, StartAt, Piece, Stored, Failed, Ping)
"""What either side of a transfer accepts."""


class UnknownType(ProtocolError):
    """A frame of a type that this side does not know: answered with an error, never fatal.

    `re` is the `id` of the request, if it has one.
    """

    def __init__(self, word: str, re: int | None) -> None:
        super().__init__(Code.UNKNOWN_TYPE, f"Frames of type {word!r} are not known here.")
        self.re = re


def encode(frame: Frame) -> bytes:
    """Return a frame as it goes to a socket. Raises `ProtocolError` (frame_too_large)."""
    return pack(frame.to_map())


def encode_all(frames: Iterable[Frame]) -> bytes:
    """Return several frames as they go to a socket, one after the other."""
    return b"".join(map(encode, frames))


def failed(error: TchatError, re: int | None = None) -> Failed:
    """Return the frame that tells the other side of an error."""
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

"""Every frame that is not an event or a command, and the two directions of the conversation.

Frames about what was before: a group's state and log, what was said, and where.

A log may be far longer than anybody reads. One who comes to a group for the first time since the
program started gets its state, in snapshots, and its latest events; those before come a page at a
time, as somebody reads on towards the past; and what was said long ago is found by its words.

Frames on a connection that carries a file, once it is `ready`: what is had, and what follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tchat.core.group.commands import COMMANDS
from tchat.core.group.events import Event
from tchat.core.protocol.framing import ITEM_LIMIT, check_items, pack, unpack
from tchat.core.protocol.handshake import HELLOS, WELCOMES, Ready
from tchat.core.protocol.schema import INT_LIMIT, Frame, record
from tchat.errors import Code, ProtocolError, TchatError

if TYPE_CHECKING:
    from collections.abc import Iterable


@record
class Have(Frame):
    """The receiver has the file's bytes up to `offset` already.

    `sha256` is that of all bytes of its whole pieces. With `doubt`, what came behind them the last
    time was not what its digest said: the sender is to look at its own copy first.
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
    """The receiver has the file on its disk, whole."""

    type = "stored"
    sha256: bytes


@record
class HistoryRequest(Frame):
    """Ask for the events of a group's log before event `before`. Answered by `HistoryPage`."""

    type = "history_request"
    id: int
    group: str
    before: int


@record
class Search(Frame):
    """Ask for messages that have all the words of `text`, in one's groups or in one of them.

    Answered by `SearchResults`. `skip` is how many of the newest were found before.
    """

    type = "search"
    id: int
    text: str
    group: str | None = None
    skip: int = 0


@record
class GroupsRequest(Frame):
    """Ask in which groups one is, or asks to be. Answered by `GroupList`."""

    type = "groups_request"
    id: int


@record
class Snapshot(Frame):
    """A piece of the group's state as of event `seq`; `more` of it follows. See `snapshots`."""

    type = "snapshot"
    group: str
    seq: int
    data: bytes
    more: bool


@record
class HistoryPage(Frame):
    """The events `first` to `last`, packed as they would come by themselves; none at the start."""

    type = "past"
    re: int
    first: int
    last: int
    frames: bytes


@record
class SearchResults(Frame):
    """Messages that were found, the newest first: five lists side by side.

    Each is event `seq` of its group, and has in `texts` what it says now, cut short if it is long.
    `older` says whether there are more.
    """

    type = "found"
    re: int
    groups: tuple[str, ...]
    seqs: tuple[int, ...]
    ats: tuple[int, ...]
    actors: tuple[str, ...]
    texts: tuple[str, ...]
    older: bool = False


@record
class GroupList(Frame):
    """A person's groups, four lists side by side: the last event of each, and the last one seen."""

    type = "group_list"
    re: int
    groups: tuple[str, ...]
    standings: tuple[str, ...]
    seqs: tuple[int, ...]
    reads: tuple[int, ...]


Standing = Literal["member", "waiting", "outsider"]
"""What a person is to a group."""


# ------------------------------------------------------------------ client to server


@record
class Attach(Frame):
    """Follow a group's log from the event behind `after`. Answered by `Attached`.

    A member who has nothing of it and says `recent` gets the group's state as it is, and of the
    log only that many of the latest events, though at least all that he has not seen; one who has
    seen none yet has missed none, unless `recent` is 0.
    """

    type = "attach"
    id: int
    group: str
    after: int
    recent: int | None = None


@record
class Detach(Frame):
    """Follow the group no longer. Not answered."""

    type = "detach"
    group: str


@record
class Seen(Frame):
    """The person has seen the group's events up to `seq`. Not answered."""

    type = "seen"
    group: str
    seq: int


@record
class Upload(Frame):
    """Ask to send a file of `size` bytes to the group's server.

    `head` is the SHA-256 of its first piece, `sha256` that of all of it, once it was asked for.
    Answered by `Ticket`, or `DigestRequired`, or `AlreadyStored`.
    """

    type = "upload"
    id: int
    group: str
    size: int
    head: bytes
    sha256: bytes | None = None


@record
class Download(Frame):
    """Ask for the group's file of that number. Answered by `Ticket`."""

    type = "download"
    id: int
    group: str
    number: int


@record
class FileListRequest(Frame):
    """Ask which of the group's files are there, `before` a number. Answered by `FileList`."""

    type = "shelf_request"
    id: int
    group: str
    before: int | None = None


@record
class Away(Frame):
    """Let the others see that one is away, and why; without a text, that one is back.

    Holds until that, or until the last connection of the person ends. Answered by `Ok`.
    """

    type = "away"
    id: int
    text: str | None = None


@record
class LinkRequest(Frame):
    """Ask for a code that adds another key to one's name. Answered by `LinkCode`."""

    type = "link"
    id: int


@record
class KeysRequest(Frame):
    """Ask which keys one's name belongs to. Answered by `KeyList`."""

    type = "keys"
    id: int


@record
class Unlink(Frame):
    """Take a key (32 bytes), not the one in use, from one's name. Answered by `Ok`."""

    type = "unlink"
    id: int
    key: bytes


@record
class Release(Frame):
    """Free a name of all its keys. Taken only from the operator, on the server's own machine."""

    type = "release"
    id: int
    name: str


@record
class Ping(Frame):
    """Are you there? Answered by `Pong`."""

    type = "ping"


# ------------------------------------------------------------------ server to client


@record
class Ok(Frame):
    """Request `re` is done. `seq` is its last event, absent when it changed nothing."""

    type = "ok"
    re: int
    seq: int | None = None


@record
class Failed(Frame):
    """Request `re` (or, without it, this connection) met an error. Nothing was changed.

    After `wait` milliseconds, if that is given, the same may be allowed.
    """

    type = "error"
    code: str
    text: str
    re: int | None = None
    wait: int | None = None


@record
class Attached(Frame):
    """What the person is to the group and, for members, where its log stands.

    `seq` is the last event, `counted` the highest `n` the group has from this client, `read` the
    last event that this person has seen on any device, `first` the first event that is sent now.
    Others learn who the `admin` is, and whether they are out because they were `kicked` or banned.
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
class Ticket(Frame):
    """Permission for one transfer: to be shown on a connection of its own, once, soon."""

    type = "ticket"
    re: int
    ticket: bytes


@record
class DigestRequired(Frame):
    """The server may have the file already: ask once more, with the SHA-256 of all of it."""

    type = "alike"
    re: int


@record
class AlreadyStored(Frame):
    """The server has the file and keeps it for a day for this person to share."""

    type = "held"
    re: int


@record
class FileList(Frame):
    """Files that are there, the newest first: four lists side by side.

    Each is there `until` a time (ms since the Unix epoch; 0 if no end is set) and was `fetched` by
    so many people, of whom `by` names some, one name a line. `older` says whether there are more.
    """

    type = "shelf"
    re: int
    numbers: tuple[int, ...]
    until: tuple[int, ...]
    fetched: tuple[int, ...]
    by: tuple[str, ...]
    older: bool = False


@record
class LinkCode(Frame):
    """A code that adds one key to the person's name, once, within `lasts` milliseconds."""

    type = "link_code"
    re: int
    code: str
    lasts: int


@record
class KeyList(Frame):
    """The keys of a name, and since when (ms since the Unix epoch) each belongs to it."""

    type = "key_list"
    re: int
    keys: tuple[bytes, ...]
    since: tuple[int, ...]


@record
class PresenceUpdate(Frame):
    """Members who came online or went; after `reset`, all others are offline.

    `away` has beside each of the `online` why that one is away, or nothing for one who is not; it
    may be empty if nobody is.
    """

    type = "presence"
    group: str
    online: tuple[str, ...]
    offline: tuple[str, ...]
    reset: bool = False
    away: tuple[str, ...] = ()


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
    """The person's conversation with somebody has begun: it may be attached."""

    type = "summons"
    group: str


@record
class Goodbye(Frame):
    """The server closes this connection; `code` and `text` say why."""

    type = "goodbye"
    code: str
    text: str


@record
class Pong(Frame):
    """I am here."""

    type = "pong"


def failed(error: TchatError, re: int | None = None) -> Failed:
    """Return what an error says on the wire."""
    return Failed(error.code, error.sentence, re, getattr(error, "wait", None))


def by_type(*frames: type[Frame]) -> dict[str, type[Frame]]:
    """Return a vocabulary: the frames that one side accepts, by their word on the wire."""
    return {frame.type: frame for frame in frames}


ABOUT_KEYS = (LinkRequest, KeysRequest, Unlink)
ABOUT_FILES = (Upload, Download, FileListRequest)
ABOUT_THE_PAST = (HistoryRequest, Search, GroupsRequest)
TO_SERVER = by_type(
    *HELLOS,
    *COMMANDS,
    *ABOUT_KEYS,
    *ABOUT_FILES,
    *ABOUT_THE_PAST,
    Attach,
    Away,
    Detach,
    Seen,
    Ping,
)
TO_OPERATOR = by_type(Release)
ANSWERS = (
    *(Ok, Failed, Attached, Ticket, DigestRequired, AlreadyStored, FileList, LinkCode, KeyList),
    *(HistoryPage, SearchResults, GroupList),
)
NEWS = (Event, Snapshot, PresenceUpdate, MembershipChange, ConversationStarted, Goodbye, Pong)
TO_CLIENT = by_type(*WELCOMES, *ANSWERS, *NEWS)
IN_TRANSFER = by_type(Ready, Have, StartAt, Piece, Stored, Failed, Ping)


class UnknownType(ProtocolError):
    """A frame of a type that this side does not know: to be answered, not to be died of."""

    def __init__(self, word: str, re: int | None) -> None:
        super().__init__(Code.UNKNOWN_TYPE, f"Frames of type {word!r} are not known here.")
        self.re = re


def encode(frame: Frame) -> bytes:
    """Return a frame as it goes to a socket."""
    return pack(frame.to_map())


def encode_all(frames: Iterable[Frame]) -> bytes:
    """Return several frames as they go to a socket, one behind the other."""
    return b"".join(map(encode, frames))


def decode_request(body: bytes) -> Frame:
    """Return the frame that a client has sent; see `decode`."""
    if len(body) > ITEM_LIMIT:  # a shorter one cannot have as many items
        check_items(body)
    return decode(body, TO_SERVER)


def decode(body: bytes, vocabulary: dict[str, type[Frame]]) -> Frame:
    """Return the frame in `body`, or raise `ProtocolError` or `UnknownType`."""
    item = unpack(body)
    word = item.get("type")
    if not isinstance(word, str):
        raise ProtocolError(Code.MALFORMED, "A frame has no type.")
    known = vocabulary.get(word)
    if known is None:
        number = item.get("id")
        natural = type(number) is int and 0 <= number < INT_LIMIT
        raise UnknownType(word[:32], number if natural else None)
    return known.from_map(item)

"""Frames that a server accepts and frames that a client accepts, and their decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.feature import Event
from tchat.core.group.features import COMMANDS, read_event
from tchat.core.protocol.frames import (
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
    HistoryPage,
    HistoryRequest,
    KeyAdded,
    KeyList,
    KeyRemoved,
    KeysRequest,
    LinkCode,
    LinkRequest,
    MembershipChange,
    Ok,
    Ping,
    Pong,
    PresenceUpdate,
    ReadPosition,
    Search,
    SearchResults,
    Seen,
    Snapshot,
    SubscriptionEnded,
    Ticket,
    Unlink,
    Upload,
    by_type,
    decode,
)
from tchat.core.protocol.framing import ITEM_LIMIT, check_items
from tchat.core.protocol.handshake import HELLOS, WELCOMES

if TYPE_CHECKING:
    from tchat.core.protocol.schema import Frame

TO_SERVER = by_type(
    *HELLOS,
    *COMMANDS,
    *(Attach, Detach, Seen, HistoryRequest, Search, GroupsRequest, Away, Ping),
    *(Upload, Download, FileListRequest),
    *(LinkRequest, KeysRequest, Unlink),
)
"""Frames that a server accepts from a client."""

ANSWERS = (
    *(Ok, Failed, Attached, HistoryPage, SearchResults, GroupList),
    *(Ticket, DigestRequired, AlreadyStored, FileList),
    *(LinkCode, KeyList),
)
"""Frames that answer a request."""

NOTICES = (
    *(Snapshot, PresenceUpdate, MembershipChange, Activity, ReadPosition, KeyAdded),
    *(KeyRemoved, Goodbye, Pong, SubscriptionEnded),
)
"""Frames that a client receives without a request, besides events."""

ANSWERED_BY: dict[type[Frame], tuple[type[Frame], ...]] = {
    **dict.fromkeys(COMMANDS, (Ok,)),
    Attach: (Attached,),
    HistoryRequest: (HistoryPage,),
    Search: (SearchResults,),
    GroupsRequest: (GroupList,),
    Away: (Ok,),
    Upload: (Ticket, DigestRequired, AlreadyStored),
    Download: (Ticket,),
    FileListRequest: (FileList,),
    LinkRequest: (LinkCode,),
    KeysRequest: (KeyList,),
    Unlink: (Ok,),
}
"""The answers that each request can have, besides `Failed`."""

TO_CLIENT = {**by_type(*WELCOMES, *ANSWERS, *NOTICES), Event.type: read_event}
"""Frames that a client accepts from a server."""


def decode_request(body: bytes) -> Frame:
    """Decode a frame from a client. Raises `ProtocolError` or `UnknownType`."""
    if len(body) > ITEM_LIMIT:  # a shorter one cannot have as many items
        check_items(body)
    return decode(body, TO_SERVER)

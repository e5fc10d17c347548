"""The table of all features: every command and event of a group, and the encoding of events.

An event has a header, the same for all kinds, and a body. On the wire and on disk it is one flat
map with the keys of both; `kind` selects the type of the body. An event is encoded once, and the
same bytes go to the disk and to every member.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tchat.core.group import files, membership, messages, operation, settings
from tchat.core.group.feature import Event, Unknown
from tchat.core.group.files import FileShared
from tchat.core.group.messages import Erased
from tchat.core.protocol.framing import PREFIX, pack, unpack
from tchat.core.protocol.schema import Shape, record
from tchat.errors import Code, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tchat.core.group.feature import Body, Command

_FEATURES = (membership, messages, files, settings)

COMMANDS: tuple[type[Command], ...] = tuple(c for module in _FEATURES for c in module.COMMANDS)
"""Every command that a client may send to a group."""

EVENTS: tuple[type[Body], ...] = tuple(
    event for module in (*_FEATURES, operation) for event in module.EVENTS
)
"""Every body that an event may have."""

LOG_LINES: dict[str, str] = {line.word: line.text for event in EVENTS for line in event.log_lines}
"""The template of every line that a server may log for an event, by its stable id."""

_BODIES: dict[str, type[Body]] = {event.kind: event for event in EVENTS}


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


def read_event(item: Mapping[str, Any]) -> Event:
    """Return the event that a decoded map describes. Raises `ProtocolError` (malformed).

    A body of a kind that this version does not know becomes `Unknown`.
    """
    header = _Header.from_map(item)
    known = _BODIES.get(header.kind)
    body = known.from_map(item) if known else Unknown(header.kind)
    return Event(header.group, header.seq, header.at, header.actor, header.client, header.n, body)


def encode_event(event: Event) -> bytes:
    """Return the event as a frame; the disk and all members get the same bytes."""
    return pack(event.to_map())


def decode_event(body: bytes) -> Event:
    """Decode an event from the body of a stored frame. Raises `ProtocolError`."""
    item = unpack(body)
    if item.get("type") != Event.type:
        raise ProtocolError(Code.MALFORMED, "The log holds a frame that is not an event.")
    return read_event(item)


def erase_event(body: bytes) -> bytes:
    """Return the frame that replaces an erased event; `body` is the body of the event's frame.

    It is never longer: an event whose body has nothing to erase stays as it is.
    """
    event = decode_event(body)
    if not event.body.to_map():
        return len(body).to_bytes(PREFIX, "big") + body
    number = event.body.number if isinstance(event.body, FileShared | Erased) else None
    return encode_event(replace(event, body=Erased(number)))

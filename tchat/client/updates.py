"""What a session tells whoever listens to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tchat.client.connector import NewServer
    from tchat.client.replica import Replica
    from tchat.core.group.events import Event
    from tchat.core.protocol.frames import MembershipChange


@dataclass(frozen=True, slots=True)
class ServerMet:
    """The server was never met before; its key is remembered from now on."""

    met: NewServer


@dataclass(frozen=True, slots=True)
class Connected:
    """The session is connected, as `user`; `again` after the first time."""

    user: str
    again: bool


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection broke, for `reason`; the next try is in `retry_in` seconds."""

    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class EventReceived:
    """An event of a group. `unseen` unless the person saw it before, on any device."""

    replica: Replica
    event: Event
    unseen: bool


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The replica has every event there was when it was attached; what follows is live."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class StandingChanged:
    """What the person is to the group: see `replica.standing`. `news` if somebody changed it."""

    replica: Replica
    news: MembershipChange | None


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """See `replica.online` and `replica.away`."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class PastLoaded:
    """These events, in order, are in front of the replica's log now."""

    replica: Replica
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class ConversationOpened:
    """Somebody writes to the person: their conversation of two is followed from now on."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class PendingChanged:
    """See `replica.pending`."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class JournalDamaged:
    """Something that was typed before this program started is lost; `sentence` says what."""

    sentence: str


Update = (
    ServerMet
    | Connected
    | Disconnected
    | EventReceived
    | CaughtUp
    | StandingChanged
    | PresenceChanged
    | PastLoaded
    | ConversationOpened
    | PendingChanged
    | JournalDamaged
)

"""Updates from a session to a user interface or a bot: connection, events, presence, history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tchat.core.text import clean_line

if TYPE_CHECKING:
    from tchat.client.pending_message import PendingMessage
    from tchat.client.replica import Replica
    from tchat.core.group.feature import Event
    from tchat.core.protocol.frames import MembershipChange, NameKey
    from tchat.errors import Refused


@dataclass(frozen=True, slots=True)
class NewServer:
    """The server is new, and the pin of its key is saved: trust on first use (TOFU)."""

    pin: bytes


@dataclass(frozen=True, slots=True)
class KeyRotated:
    """The server has rotated its key, and the pin of the new one is saved."""

    pin: bytes


@dataclass(frozen=True, slots=True)
class Connected:
    """The session is connected as `user`; `again` if it was connected before.

    `clock_change` is by how many ms that has set the session's clock.
    """

    user: str
    again: bool
    clock_change: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection broke for `reason`; the next attempt is in `retry_in` seconds."""

    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class EventReceived:
    """An event of a group. It is `unseen` unless it was read before this program began."""

    replica: Replica
    event: Event
    unseen: bool


@dataclass(frozen=True, slots=True)
class PositionMoved:
    """The server has sent the read position: after an attach, or after it moved on another device.

    `anew` says that the replica was empty, so that all its events are still to come.
    """

    replica: Replica
    position: int
    anew: bool = False


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Catch-up is complete: the replica has every event up to its `head`; later ones are live."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class StandingChanged:
    """`replica.standing` has changed; `news` says who did it, if it happened while connected."""

    replica: Replica
    news: MembershipChange | None


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """`replica.online` or `replica.away` has changed."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class HistoryLoaded:
    """These events were put in front of the replica's log, in order."""

    replica: Replica
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Trimmed:
    """The replica's log begins with event `first` now: it had become long (see `retention`)."""

    replica: Replica
    first: int


LOG_REPLACED = (
    "The server was restored from a backup. What was said here since that backup is lost; the rest"
    " is loaded again."
)
_LOG_DAMAGED = (
    "Some messages are damaged on the server, whose operator has been told. The group goes on"
    " without them; scroll back for the others."
)


@dataclass(frozen=True, slots=True)
class LogReplaced:
    """The server has another log of the group than before: it was restored from a backup.

    The replica is empty, and is loaded again. If `is_damaged`, it is the same log, but some of it
    cannot be read, so that the group is loaded without it.
    """

    replica: Replica
    is_damaged: bool = False

    @property
    def sentence(self) -> str:
        """What to tell the person."""
        return _LOG_DAMAGED if self.is_damaged else LOG_REPLACED


@dataclass(frozen=True, slots=True)
class GroupUnusable:
    """This client does not follow the group any more, because of what the server sends of it.

    If the group is damaged on the server (log_damaged), it is tried again after some minutes.
    """

    replica: Replica
    refusal: Refused


@dataclass(frozen=True, slots=True)
class Addressed:
    """Event `seq`, by `by`, is meant for the person, in a group that is not followed here.

    A direct message, also one of the person's own from another device; a mention; or a request to
    join, if the person is the admin.
    """

    group: str
    seq: int
    by: str


@dataclass(frozen=True, slots=True)
class GroupJoined:
    """The person has become a member of a group that is not followed here, on another device."""

    group: str


@dataclass(frozen=True, slots=True)
class KeyLinked:
    """A key was added to the person's name, on another device."""

    key: NameKey


@dataclass(frozen=True, slots=True)
class KeyUnlinked:
    """A key, which is not this device's, was removed from the person's name."""

    key: bytes


@dataclass(frozen=True, slots=True)
class PendingChanged:
    """`replica.pending` has changed."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class AllAnswered:
    """The last unanswered request has got its answer, or failed."""


@dataclass(frozen=True, slots=True)
class JournalDamaged:
    """The journal was damaged, and unsent messages may be lost; `sentence` says so."""

    sentence: str


@dataclass(frozen=True, slots=True)
class UnsentElsewhere:
    """`count` messages of `person` to another `server`, or of another person, are not sent yet.

    This client leaves them alone. `server` is the name of the server as people know it.
    """

    person: str
    server: str
    count: int

    @property
    def sentence(self) -> str:
        """Say so, and what to do."""
        messages = "A message" if self.count == 1 else f"{self.count} messages"
        verb = "is" if self.count == 1 else "are"
        return clean_line(
            f"{messages} of {self.person} to {self.server} {verb} not sent yet: join there as"
            f" {self.person} to send {'it' if self.count == 1 else 'them'}."
        )


@dataclass(frozen=True, slots=True)
class RefusalFound:
    """A message that another client of this person left unsent was refused; it is pending here."""

    pending: PendingMessage
    failure: Refused


@dataclass(frozen=True, slots=True)
class HeldFound:
    """Another client of this person ended before it had entered a group; its message is held here.

    It is sent once the person is a member of the group.
    """

    pending: PendingMessage


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """The server has refused a message, which is kept: the person has to decide about it."""

    group: str


Update = (
    NewServer
    | KeyRotated
    | Connected
    | Disconnected
    | EventReceived
    | PositionMoved
    | CaughtUp
    | StandingChanged
    | PresenceChanged
    | AllAnswered
    | HistoryLoaded
    | Trimmed
    | LogReplaced
    | GroupUnusable
    | Addressed
    | GroupJoined
    | KeyLinked
    | KeyUnlinked
    | PendingChanged
    | JournalDamaged
    | UnsentElsewhere
    | RefusalFound
    | HeldFound
    | MessageRefused
)

"""What the server's operator does in a group: close it, appoint an admin, erase a person's texts.

`Missing` is written by no command: `tchat admin salvage` puts it in the place of lost events.

No client can send these commands: they are no frames of the protocol, and only the author
`OPERATOR`, whose name nobody can claim, may give them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.feature import Body, Command, LogLine, Name
from tchat.core.group.files import FileRemoved
from tchat.core.group.membership import AdminTransferred
from tchat.core.group.messages import Deleted
from tchat.core.group.settings import TopicSet
from tchat.core.protocol.schema import record
from tchat.core.text import fold, quote_name
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from tchat.core.group.feature import Context, Event
    from tchat.core.group.state import Group


@record
class Close(Command):
    """Close the group: nobody is a member any more, and all its events are erased."""

    type = "close"
    allowed = "operator"
    erases = True

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Close the group, if it has members."""
        if not group.members:
            raise Refused(Code.NO_SUCH_GROUP, f"There is no group {quote_name(self.group)}.")
        return [Closed()]


@record
class Closed(Body):
    """The operator closed the group; it may be founded anew."""

    kind = "closed"
    changes_standing = changes_files = True
    log_lines = (LogLine("group_closed", "{user} closed the group {group}"),)

    def apply(self, group: Group, event: Event) -> None:
        """Reset the group."""
        group.reset()

    def sentence(self, event: Event, reader: object) -> str:
        """Return who closed the group."""
        return f"{event.actor} closed the group"


@record
class Appoint(Command):
    """Make a member the admin."""

    type = "appoint"
    allowed = "operator"
    name: Name

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Transfer the admin role, unless the member has it."""
        if not group.members:
            raise Refused(Code.NO_SUCH_GROUP, f"There is no group {quote_name(self.group)}.")
        member = group.members.get(fold(self.name))
        if member is None:
            raise Refused(Code.NO_SUCH_MEMBER, f"{quote_name(self.name)} is not a member.")
        return [] if group.is_admin(member) else [AdminTransferred(member)]


@record
class EraseTexts(Command):
    """Erase events of a person, by their seqs, and remove the files that the person shared.

    If `topic` is true, the topic is theirs, and is removed.
    """

    type = "erase_texts"
    allowed = "operator"
    in_direct = True
    erases = True
    name: Name
    seqs: tuple[int, ...]
    topic: bool

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Remove topic and files, then delete the events as if they were messages."""
        person = fold(self.name)
        topic: list[Body] = [TopicSet("")] if self.topic and group.topic else []
        files = [n for n, file in group.files.items() if fold(file.by) == person]
        return [*topic, *map(FileRemoved, files), *map(Deleted, self.seqs)]


@record
class Expire(Command):
    """End the retention of all messages up to event `upto`."""

    type = "expire"
    allowed = "operator"
    erases = True
    in_direct = True
    upto: int

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Let the messages expire."""
        return [Expired(min(self.upto, group.seq))]


@record
class Expired(Body):
    """The messages up to event `upto` are older than the server keeps them, and are erased.

    An edit expires by its own age; without its message, nobody sees it.
    """

    kind = "expired"
    log_lines = (LogLine("messages_expired", "removed the messages of {group} up to event {upto}"),)
    upto: int

    def apply(self, group: Group, event: Event) -> None:
        """Forget the edits of these messages, and unpin one of them."""
        for message in [message for message in group.edits if message <= self.upto]:
            del group.edits[message]
        if group.pinned is not None and group.pinned <= self.upto:
            group.pinned = None

    def sentence(self, event: Event, reader: object) -> str:
        """Return that old messages are gone."""
        return f"{event.actor} removed older messages: this server keeps them only for a time"


@record
class Missing(Body):
    """An event that was lost when the server's data was damaged.

    The first of a run has their `count`. The header is that of the lost event as far as it is
    known, so that its command is still recognized.
    """

    kind = "missing"
    count: int | None = None

    def sentence(self, event: Event, reader: object) -> str:
        """Return how many messages are missing, once for all of a run."""
        if not self.count:
            return ""
        what = "1 message is" if self.count == 1 else f"{self.count} messages are"
        return f"{what} missing here: the server's data was damaged"


COMMANDS: tuple[type[Command], ...] = (Close, Appoint, EraseTexts, Expire)
"""Commands that no client can send."""

EVENTS: tuple[type[Body], ...] = (Closed, Expired, Missing)

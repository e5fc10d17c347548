"""Messages: post, reply, edit, delete, pin.

The log is append-only with one exception: when a message is deleted, its text and the texts of its
edits are erased, and when a group is closed, all its events. The event stays with its complete
header, and its body becomes `erased`. So the log has no gaps, and deduplication still finds the
command's number.

The state contains no texts, only the seqs of a message's edits. The rules depend only on a text's
size and on whether it is blank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.compaction import recent_edits
from tchat.core.group.feature import (
    Body,
    Command,
    Event,
    LogLine,
    MessageText,
    TargetedCommand,
)
from tchat.core.group.log_digest import stamp_of
from tchat.core.group.mentions import mentioned
from tchat.core.group.state import MessageEdits
from tchat.core.protocol.schema import record
from tchat.core.text import check_text, fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Collection

    from tchat.core.group.feature import Context, Reader
    from tchat.core.group.state import Group

MOST_EDITS = 100
"""Most edits of one message that the state remembers, because it stores the seq of each."""


# ------------------------------------------------------------------ post, reply


@record
class Post(Command):
    """Post a message, optionally in reply to the message with seq `reply`.

    It is refused if that is not the event with this `stamp` (see `log_digest`).
    """

    type = "post"
    allowed = "member"
    in_direct = True
    text: MessageText
    reply: int | None = None
    stamp: bytes | None = None

    @property
    def message_text(self) -> str:
        """The text of the message."""
        return self.text

    @property
    def refers_to(self) -> int | None:
        """The seq of the message that it replies to, if it has to be the one with the stamp."""
        return None if self.stamp is None else self.reply

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Append the message."""
        check_text(self.text)
        if self.refers_to is not None:
            _require_stamp(context, self.stamp)
        if self.reply is not None and not max(group.floor, 1) <= self.reply <= group.seq:
            raise _no_such_message()
        return [Posted(self.text, self.reply)]


@record
class Posted(Body):
    """The actor posted `text` (UTF-8, at most 16 KiB), in reply to event `reply` if that is given.

    A text that begins with "/me " is shown as an action of the actor.
    """

    kind = "posted"
    text: str
    reply: int | None = None

    @property
    def message_text(self) -> str:
        """The text of the message."""
        return self.text

    def apply(self, group: Group, event: Event) -> None:
        """In a direct conversation, update the spelling of the actor's name."""
        _note_spelling(group, event)

    def addressees(self, group: Group, people: Collection[str]) -> Collection[str]:
        """Return those whom the text mentions; in a direct conversation, both people."""
        return people if group.direct else mentioned(self.text, people)


# ------------------------------------------------------------------ edit


@record
class Edit(TargetedCommand):
    """Replace the text of the message with seq `target` (author)."""

    type = "edit"
    allowed = "member"
    in_direct = True
    text: MessageText

    @property
    def message_text(self) -> str:
        """The text of the message."""
        return self.text

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Append the new text, if the message is the author's own and has not too many edits."""
        message = require_message(group, context, self.stamp)
        if fold(message.actor) != fold(context.name):
            raise Refused(Code.NOT_AUTHOR, f"Only {message.actor} may edit this message.")
        if len(group.edits_of(message.seq)) >= MOST_EDITS:
            raise Refused(
                Code.EDITED_OFTEN,
                f"This message has been edited {MOST_EDITS} times, the limit.",
            )
        check_text(self.text)
        return [Edited(self.target, self.text)]


@record
class Edited(Body):
    """The actor replaced the text of the message with seq `target` by `text`."""

    kind = "edited"
    target: int
    text: str

    @property
    def message_text(self) -> str:
        """The text of the message."""
        return self.text

    def apply(self, group: Group, event: Event) -> None:
        """Record the seq of the edit, so that it can be erased together with the message."""
        known = group.edits.pop(self.target, None)  # put back last: the order is that of the edits
        seqs = recent_edits(known.seqs, event.seq) if known else ()
        group.edits[self.target] = MessageEdits(self.target, (*seqs, event.seq))
        _note_spelling(group, event)

    def addressees(self, group: Group, people: Collection[str]) -> Collection[str]:
        """Return those whom the new text mentions."""
        return () if group.direct else mentioned(self.text, people)

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return the sentence for front ends that cannot update lines already printed."""
        return f"{event.actor} edited a message: {self.text}"


# ------------------------------------------------------------------ delete


@record
class Delete(TargetedCommand):
    """Delete the message with seq `target`, also from the disk (author, admin)."""

    type = "delete"
    allowed = "member"
    in_direct = True
    erases = True

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Append the deletion, if the message is the author's own or the author is the admin."""
        message = require_message(group, context, self.stamp)
        if fold(message.actor) != fold(context.name) and not group.is_admin(context.name):
            who = message.actor if group.direct else f"{message.actor} or the admin"
            raise Refused(Code.NOT_AUTHOR, f"Only {who} may delete this message.")
        return [Deleted(self.target)]


@record
class Deleted(Body):
    """The actor deleted the message with seq `target`."""

    kind = "deleted"
    target: int

    def apply(self, group: Group, event: Event) -> None:
        """Remove the edits of the message from the state, and unpin it."""
        group.edits.pop(self.target, None)
        if group.pinned == self.target:
            group.pinned = None
        _note_spelling(group, event)

    def erased(self, before: Group) -> tuple[int, ...]:
        """Return the message and every edit of it that the state knows."""
        return (self.target, *before.edits_of(self.target))

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return the sentence for front ends that cannot update lines already printed."""
        return f"{event.actor} deleted a message"


@record
class Erased(Body):
    """Replaces the body of a deleted message, of its edits, and of all events of a closed group.

    `number` is that of a shared file: it is not given to another one if the group is founded anew.
    """

    kind = "erased"
    number: int | None = None

    def apply(self, group: Group, event: Event) -> None:
        """Remember the number of the file, and the spelling of the actor as `Posted` does.

        Erasing an event must not change the state that the log leads to.
        """
        group.numbered = max(group.numbered, self.number or 0)
        _note_spelling(group, event)


# ------------------------------------------------------------------ pin, unpin


@record
class Pin(TargetedCommand):
    """Pin the message with seq `target`, replacing the pinned one (admin)."""

    type = "pin"
    allowed = "admin"

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Append the pin, unless the message is pinned already."""
        message = require_message(group, context, self.stamp)
        return [Pinned(message.seq)] if message.seq != group.pinned else []


@record
class Pinned(Body):
    """The actor, the admin, pinned the message with seq `target`."""

    kind = "pinned"
    log_lines = (LogLine("message_pinned", "{user} pinned message {target} of {group}"),)
    target: int

    def apply(self, group: Group, event: Event) -> None:
        """Store the seq of the message, not its text."""
        group.pinned = self.target

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who pinned a message."""
        return f"{event.actor} pinned a message"


@record
class Unpin(Command):
    """Unpin the pinned message (admin)."""

    type = "unpin"
    allowed = "admin"

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Append the change, if a message is pinned."""
        if group.pinned is None:
            raise Refused(Code.NO_SUCH_MESSAGE, "No message is pinned.")
        return [Unpinned()]


@record
class Unpinned(Body):
    """The actor, the admin, unpinned the pinned message."""

    kind = "unpinned"
    log_lines = (LogLine("message_unpinned", "{user} unpinned the pinned message of {group}"),)

    def apply(self, group: Group, event: Event) -> None:
        """Clear the pin."""
        group.pinned = None

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who unpinned the message."""
        return f"{event.actor} unpinned the pinned message"


# ------------------------------------------------------------------ shared rules


def require_message(group: Group, context: Context, stamp: bytes | None) -> Event:
    """Return the message that a command is about. Raises `Refused` (no_such_message, log_replaced).

    Deleted messages are refused, and so are messages from before the group was founded anew.
    """
    _require_stamp(context, stamp)
    target = context.target
    if target is None or target.seq < group.floor or not isinstance(target.body, Posted):
        raise _no_such_message()
    return target


def _require_stamp(context: Context, stamp: bytes | None) -> None:
    """Raise `Refused` if a command means another event than the one that now has the seq."""
    if stamp is None or (context.target is not None and stamp_of(context.target) == stamp):
        return
    raise Refused(
        Code.LOG_REPLACED,
        "The message that this is about is lost: the server was restored from a backup. Nothing was"
        " changed.",
    )


def _no_such_message() -> Refused:
    return Refused(Code.NO_SUCH_MESSAGE, "There is no such message, or it was deleted.")


def _note_spelling(group: Group, event: Event) -> None:
    if group.direct and fold(event.actor) in group.members:  # and not the operator
        group.members[fold(event.actor)] = event.actor


COMMANDS: tuple[type[Command], ...] = (Post, Edit, Delete, Pin, Unpin)
EVENTS: tuple[type[Body], ...] = (
    Posted,
    Edited,
    Deleted,
    Erased,
    Pinned,
    Unpinned,
)

"""Decide a command, unless it is a duplicate of one already executed; apply events.

A group is an ordered log of events, and its state is a fold over that log. Two pure functions
define its behaviour, without a clock, a disk or a network:

- `decide(group, author, command, now)` returns the events that a command adds to the log, or raises
  `Refused`. It changes nothing.
- `apply(group, event)` applies one event to the state. It never fails, because `decide` allowed the
  event when it was written, perhaps under older rules. So `decide` returns every consequence of a
  command as a separate event (when the admin leaves, `admin_transferred` and then `left`), and
  `apply` derives none.

Idempotency: every command carries the client's random id and a number. The group remembers the
numbers of committed commands, so a repeated command is always recognized, and `decide` returns no
events for it. If it has forgotten the client (`compaction`), it cannot know whether the command is
a repeat, and refuses it: nothing is executed twice.

The rules themselves are defined beside their commands and events, in one module for each feature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.compaction import compact, is_due
from tchat.core.group.feature import DEFAULT_LIMITS, Context, Event
from tchat.core.group.state import OPERATOR
from tchat.core.text import fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from tchat.core.group.feature import Command, GroupLimits
    from tchat.core.group.state import Author, Group


def decide(
    group: Group,
    author: Author,
    command: Command,
    now: int,
    limits: GroupLimits = DEFAULT_LIMITS,
    target: Event | None = None,
    timer: int = 0,
) -> list[Event]:
    """Return the events that `command` adds to the log, in order; none if it is a repeat.

    `now` is in milliseconds since the Unix epoch; if the clock went back, the events get the time
    of the last event. `target` is the event that the command `refers_to`, if the log has it.
    `timer` is the time by which periods are measured, if the command needs it. Raises `Refused`.
    """
    if group.has_done(author, command.n):
        return []
    if group.may_have_forgotten(author, command.n):
        raise Refused(
            Code.OUTCOME_UNKNOWN,
            "This was sent a long time ago, and the group no longer knows whether it arrived; look"
            " for it before you send it again.",
        )
    if not command.in_direct and group.direct:
        raise Refused(Code.DIRECT, "This cannot be done in a direct conversation.")
    if command.allowed == "member":
        group.require_member(author.name)
    elif command.allowed == "admin":
        group.require_admin(author.name)
    elif command.allowed == "operator":
        _require_operator(author)
    at = max(now, group.at)
    bodies = command.decide(group, Context(author, at, limits, target, max(timer, at)))
    name = group.name if group.members else command.group
    return [
        Event(name, group.seq + offset, at, author.name, author.client, command.n, body)
        for offset, body in enumerate(bodies, start=1)
    ]


def _require_operator(author: Author) -> None:
    """Raise `Refused` (not_admin) unless the author is the server's operator."""
    if author.name != OPERATOR:
        raise Refused(Code.NOT_ADMIN, "Only the server's operator may do this.")


def apply(group: Group, event: Event) -> None:
    """Apply the next event to the state."""
    group.seq = event.seq
    group.at = event.at
    group.count(fold(event.actor), event.client, event.n)
    event.body.apply(group, event)
    if is_due(event.seq):
        compact(group)

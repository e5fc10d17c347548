"""Decide commands, each only once (deduplication), and apply events, by the rules of features.

A group is an ordered log of events, and its state is a fold over that log. Two functions say all
there is to say about it, and neither knows a clock, a disk or a network:

- `decide(group, author, command, now)` returns the events that a command adds to the log, or raises
  `Refused`. It changes nothing.
- `apply(group, event)` takes one event into the state, and never fails: whether the event was
  allowed was decided when it was written, perhaps by an older version of the rules. Whatever
  follows from a command is therefore written out as events (an admin who leaves causes
  `admin_transferred`, then `left`) and never left to `apply` to guess.

Idempotency: every command carries the client's random id and its number. The group remembers which
numbers were done, so a command that is sent again is recognized for ever, and `decide` answers it
with no events.

The rules themselves stand beside their commands and events, in one module for each feature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.feature import DEFAULT_LIMITS, Context, Event
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
) -> list[Event]:
    """Return the events that `command` adds to the log, in order; none if it was done before.

    `now` is in milliseconds since the Unix epoch; a clock that went back does not take the log with
    it. `target` is the event that a `TargetedCommand` names, if the log has it. Raises `Refused`.
    """
    if group.has_done(author, command.n):
        return []
    if group.direct and not command.in_direct:
        raise Refused(Code.DIRECT, "This cannot be done in a conversation of two.")
    if command.allowed == "admin":
        group.require_admin(author.name)
    elif command.allowed == "member":
        group.require_member(author.name)
    at = max(now, group.at)
    bodies = command.decide(group, Context(author, at, limits, target))
    name = group.name if group.members else command.group
    return [
        Event(name, group.seq + offset, at, author.name, author.client, command.n, body)
        for offset, body in enumerate(bodies, start=1)
    ]


def apply(group: Group, event: Event) -> None:
    """Take the next event into the state."""
    group.seq = event.seq
    group.at = event.at
    group.count(fold(event.actor), event.client, event.n)
    event.body.apply(group, event)

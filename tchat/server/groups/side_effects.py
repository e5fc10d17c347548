"""Index updates derived from a batch of events, and committed in the same transaction.

Besides a group's log, the store has indexes of people's standings and of files, and it erases
texts. Attributes of the events (`core.group.feature`) say which indexes they change; the changes
are computed here from the states before and after a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.files import FileRemoved, FileShared
from tchat.core.group.membership import Created
from tchat.core.group.operation import Expired
from tchat.core.text import fold
from tchat.store.base import FileEntry, SideEffects

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tchat.core.group.feature import Body, Event
    from tchat.core.group.state import Group
    from tchat.core.protocol.frames import Standing


def side_effects_of(
    before: Group, after: Group, events: Sequence[Event], older_edits: Collection[int] = ()
) -> SideEffects:
    """Return the index updates for the events between two states of a group.

    `older_edits` are the edits of a deleted message that the state may have forgotten.
    """
    standings: dict[str, Standing] = {}
    added: tuple[FileEntry, ...] = ()
    removed: tuple[int, ...] = ()
    bodies = [event.body for event in events if event.body.has_side_effects]
    if any(body.changes_standing for body in bodies):
        standings = _changed_standings(before, after, events)
    if _starts_conversation(before, after):
        standings = dict.fromkeys(after.members, "member")
    if any(body.changes_files for body in bodies):
        added, removed = _changed_files(before, after, bodies)
    erased = tuple(seq for body in bodies for seq in body.erased(before))
    if erased:
        erased = tuple(dict.fromkeys((*erased, *older_edits)))
    name = after.name if any(isinstance(body, Created) for body in bodies) else None
    # A leave has a batch of its own, so all events before this batch are from before the closing.
    closed_after = before.seq if before.members and not after.members else 0
    expired_to = max((body.upto for body in bodies if isinstance(body, Expired)), default=0)
    return SideEffects(standings, added, removed, erased, name, closed_after, expired_to)


def _changed_files(
    before: Group, after: Group, bodies: Sequence[Body]
) -> tuple[tuple[FileEntry, ...], tuple[int, ...]]:
    """Return the files that were added and the numbers of those that were removed, in order.

    Only the files that the events name can have changed, unless the group was closed or founded.
    """
    named = {body.number for body in bodies if isinstance(body, FileShared | FileRemoved)}
    was_closed = bool(before.members) and not after.members
    is_all = was_closed or any(isinstance(body, Created) for body in bodies)
    numbers = sorted({*before.files, *after.files} if is_all else named)
    both = [(number, before.files.get(number), after.files.get(number)) for number in numbers]
    added = tuple(
        FileEntry(number, new.sha256, new.size, fold(new.by), new.at)
        for number, old, new in both
        if new is not None and new is not old
    )
    return added, tuple(number for number, old, new in both if old is not None and new is not old)


def _starts_conversation(before: Group, after: Group) -> bool:
    """Return whether a direct conversation began between the two states."""
    return after.direct and before.seq == 0 < after.seq


def _changed_standings(before: Group, after: Group, events: Sequence[Event]) -> dict[str, Standing]:
    """Return the new standing of everybody whose standing the events have changed.

    Only the people whom the events name can have another one, unless the group was closed.
    """
    changes = [event.body.standing_change(event) for event in events if event.body.changes_standing]
    people = {change.person for change in changes if change is not None}
    if before.members and not after.members:
        people.update(before.members, before.requests)
    return {
        person: after.standing(person)
        for person in people
        if after.standing(person) != before.standing(person)
    }

"""What a turn's events mean outside their group's log; it is committed together with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.events import (
    Approved,
    Banned,
    Created,
    Deleted,
    Denied,
    FileRemoved,
    FileShared,
    Joined,
    Kicked,
    Left,
    Requested,
    Withdrawn,
)
from tchat.core.text import fold
from tchat.store.base import FileEntry, SideEffects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tchat.core.group.events import Event
    from tchat.core.group.state import Group
    from tchat.core.protocol.frames import Standing

# After these the next command meets another audience.
CHANGES_AUDIENCE = (Approved, Joined, Denied, Kicked, Banned, Left, Withdrawn)
_CHANGES_STANDING = {Created, Requested, *CHANGES_AUDIENCE}
_CHANGES_SHELF = {Created, Left, FileShared, FileRemoved}


def effects_of(before: Group, after: Group, events: Sequence[Event]) -> SideEffects:
    """Return who became what to the group, what came on its shelf and went, and what is erased."""
    standings: dict[str, Standing] = {}
    shelved: tuple[FileEntry, ...] = ()
    gone: tuple[int, ...] = ()
    kinds = {type(event.body) for event in events}
    if kinds & _CHANGES_STANDING:
        standings = _standings(before, after)
    if kinds & _CHANGES_SHELF:
        shelved = tuple(
            FileEntry(number, file.sha256, file.size, fold(file.by), file.at)
            for number, file in after.files.items()
            if before.files.get(number) is not file
        )
        gone = tuple(n for n, file in before.files.items() if after.files.get(n) is not file)
    if begins_talk(before, after):
        standings = dict.fromkeys(after.members, "member")
    erased: tuple[int, ...] = ()
    if Deleted in kinds:
        erased = tuple(seq for event in events for seq in _erased_by(before, event))
    name = after.name if Created in kinds else None
    return SideEffects(standings, shelved, gone, erased, name)


def begins_talk(before: Group, after: Group) -> bool:
    """Return whether between the two a conversation of two began."""
    return after.direct and before.seq == 0 < after.seq


def _erased_by(before: Group, event: Event) -> tuple[int, ...]:
    """Return the events in which a deleted message is, or was told anew."""
    match event.body:
        case Deleted(target):
            return (target, *before.edits.get(target, ()))
    return ()


def _standings(before: Group, after: Group) -> dict[str, Standing]:
    people = {*before.members, *before.requests, *after.members, *after.requests}
    return {
        person: after.standing(person)
        for person in people
        if after.standing(person) != before.standing(person)
    }

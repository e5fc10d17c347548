"""Erase a person: their texts, files and keys are gone from the data directory.

What is erased: the texts of their messages and edits, also in direct conversations; the topics
they set; the names and contents of the files they shared; their keys, read positions and downloads;
their memberships of groups. What stays: the header of each erased event, which has their name, and
what others wrote about them or to them.

Everything goes through the logs of the groups, so that members who are connected see the messages
disappear. Texts are overwritten where they are, and in the end the database is rewritten without
its unused parts. During that, which takes about a second for 100 MB, messages wait.

The name stays reserved. Direct conversations go on existing for the other person, and whoever had
the name next would be a member of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tchat.core.group.direct import is_direct
from tchat.core.group.features import decode_event
from tchat.core.group.files import FileShared
from tchat.core.group.membership import Leave
from tchat.core.group.messages import Edited, Posted
from tchat.core.group.operation import EraseTexts
from tchat.core.group.settings import TopicSet
from tchat.core.protocol.framing import split_frames
from tchat.core.text import check_name, fold
from tchat.errors import Code, Refused
from tchat.server.operations.group_commands import Commander
from tchat.server.retention import erase_files

if TYPE_CHECKING:
    from tchat.core.group.feature import Event
    from tchat.server.context import ServerContext
    from tchat.server.operations.reports import Report

_AT_ONCE = 100
"""How many events one command erases: others must not wait long for it."""


@dataclass(slots=True)
class _Texts:
    """What a person wrote in one group; `topic` says whether the last topic is theirs."""

    seqs: list[int] = field(default_factory=list)
    messages: int = 0
    files: int = 0
    topic: bool = False

    def add(self, event: Event, person: str) -> None:
        """Add an event, if it has a text of the person (folded)."""
        is_theirs = fold(event.actor) == person
        match event.body:
            case Posted() | Edited() if is_theirs:
                self.messages += isinstance(event.body, Posted)
                self.seqs.append(event.seq)
            case FileShared() if is_theirs:
                self.files += 1
                self.seqs.append(event.seq)
            case TopicSet():
                self.topic = is_theirs
                if is_theirs and event.body.text:
                    self.seqs.append(event.seq)


async def erase_person(context: ServerContext, name: str) -> Report:
    """Erase a person. Repeating it finishes an erasure that was interrupted.

    Raises `Refused`: no_such_name if there is nothing about them; busy or storage_full if the texts
    are erased, but copies of them are left in unused parts of the database.
    """
    name = check_name(name, "username")
    person, store = fold(name), context.store
    known = await store.maintenance.name_of(person)
    if known is None and not await _is_in_logs(context, person):
        raise Refused(
            Code.NO_SUCH_NAME, f"Nobody has the name {name}; 'tchat admin people' lists all."
        )
    name = known or name
    await _shut_out(context, name)
    groups: list[str] = []
    messages = files = 0
    standings = await store.groups_of(person)
    for group in await store.maintenance.groups():
        found = await _find_texts(context, group, person)
        if found.seqs or group in standings:
            groups.append(group)
        messages += found.messages
        files += found.files
        await _erase_in(context, group, name, found)
        if group in standings and not is_direct(group):
            await Commander(context, name).give(Leave(0, 0, group))
    await store.maintenance.forget(person, groups)
    await store.blobs.trim_uploads(person, -1, ())
    await erase_files(store, context.log)
    context.log.line("person_erased", name=name)
    await _compact(context, name)
    return {"name": name, "groups": len(groups), "messages": messages, "files": files}


async def _shut_out(context: ServerContext, name: str) -> None:
    """Reserve the name, and end everything that the person is doing.

    First of all: nobody can claim the name and read as the person what is not erased yet, and the
    person can add nothing to what is found below.
    """
    await context.accounts.erase(name)
    context.disconnect_keys(name, None, "The server's operator has erased this name.")
    await context.registry.settle()
    await context.tickets.wait_for_end(fold(name))


async def _is_in_logs(context: ServerContext, person: str) -> bool:
    """Return whether a person is or was in a group, though nobody has claimed the name."""
    if await context.store.groups_of(person):
        return True
    for group in await context.store.maintenance.groups():
        if (await _find_texts(context, group, person)).seqs:
            return True
    return False


async def _compact(context: ServerContext, name: str) -> None:
    """Remove copies of the texts from unused parts of the database. Raises `Refused`."""
    try:
        await context.store.maintenance.compact()
    except Refused as refusal:
        raise Refused(
            refusal.code,
            f"{name} is erased, but copies of the texts may be left in the data directory:"
            f" {refusal.sentence} Then erase {name} again.",
        ) from refusal


async def _find_texts(context: ServerContext, group: str, person: str) -> _Texts:
    found, after = _Texts(), 0
    while (page := await context.store.read(group, after)) is not None:
        for body in split_frames(page.frames):
            found.add(decode_event(body), person)
        after = page.last
    return found


async def _erase_in(context: ServerContext, group: str, name: str, found: _Texts) -> None:
    commander = Commander(context)
    for start in range(0, len(found.seqs), _AT_ONCE):
        seqs = tuple(found.seqs[start : start + _AT_ONCE])
        topic = found.topic and not start  # later, somebody else may have set another one
        await commander.give(EraseTexts(0, 0, group, name, seqs, topic))

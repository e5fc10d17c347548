"""Erase a person: their texts, files and keys are gone from the data directory.

What is erased: the texts of their messages and edits, also in direct conversations; the topics
they set; the names and contents of the files they shared; their keys, read positions and downloads;
their memberships. What stays: the header of each erased event, which has their name, and what
others wrote about them or to them.

Everything goes through the logs of the groups, so that members who are connected see the messages
disappear. Texts are overwritten where they are, and in the end the database is rewritten without
its unused parts. During that, which takes about a second for 100 MB, messages wait.
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
from tchat.server.retention import sweep

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
    """Erase a person. Raises `Refused` (no_such_name) if there is nothing about them."""
    name = check_name(name, "username")
    person = fold(name)
    store = context.store
    known = await store.maintenance.name_of(person)
    if known is not None and await store.accounts.keys(person):
        await context.accounts.release(known)
    context.presence.disconnect_keys(name, None, "The server's operator has erased this name.")
    groups = messages = files = 0
    standings = await store.groups_of(person)
    for group in await store.maintenance.groups():
        found = await _find_texts(context, group, person)
        groups += bool(found.seqs) or group in standings
        messages += found.messages
        files += found.files
        await _erase_in(context, group, name, found)
        if group in standings and not is_direct(group):
            commander = Commander(context, known or name)
            await commander.give(Leave(1, commander.n, group))
    if known is None and not groups:
        raise Refused(Code.NO_SUCH_NAME, f"Nobody has the name {name}.")
    await store.maintenance.forget(person)
    await store.blobs.trim_uploads(person, -1, ())
    await sweep(store, context.log, context.limits.keep_files, context.clock())
    await store.maintenance.compact()
    context.log.line("person_erased", name=name)
    return {"name": known or name, "groups": groups, "messages": messages, "files": files}


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
        await commander.give(EraseTexts(1, commander.n, group, name, seqs, found.topic))

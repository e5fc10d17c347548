"""Commands of tchat that IRC does not have, as messages to the nickname `*tchat`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tchat.api.groups import Message
from tchat.core.text import size_text
from tchat.errors import Code, Refused
from tchat.irc.formatting import lines_of, snippet
from tchat.irc.names import SERVICE, group_of, nick_of, person_of
from tchat.irc.rendering import target_of
from tchat.net.address import notes_for_elsewhere, split_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tchat.api.groups import Group
    from tchat.irc.session import Session

_RECENT = 200
_FOUND = 20


@dataclass(frozen=True, slots=True)
class _Row:
    usage: str
    meaning: str
    run: Callable[[Session, list[str]], Awaitable[str]]


async def serve(session: Session, text: str) -> list[str]:
    """Run a command, and return the lines of its answer."""
    word, *rest = text.split(maxsplit=1) or ["help"]
    row = ROWS.get(word.lower())
    if row is None:
        return [f"There is no command {snippet(word)}. To list all: /msg {SERVICE} help"]
    words = row.usage.split()[1:]
    needed = sum(not one.startswith("[") for one in words)
    given = rest[0].split(maxsplit=max(len(words) - 1, 0)) if rest else []
    if len(given) < needed:
        return [f"Usage: /msg {SERVICE} {row.usage}"]
    try:
        return lines_of(await row.run(session, given))
    except Refused as refusal:
        return [str(refusal)]


async def invite_lines(session: Session, group: Group, name: str | None) -> list[str]:
    """Make an invite, and return the command line that uses it, after sentences about it."""
    command = await group.invite_command(name)
    whom = nick_of(name) if name else "the first person who runs it"
    host = split_address(session.client.server)[0]
    return [
        "It works once. Keep it secret: send it over a channel that you trust.",
        *notes_for_elsewhere(host),
        f"This command lets {whom} join within a day:",
        command,
    ]


def _group(session: Session, typed: str) -> Group:
    group = session.find_group(typed) or session.find_group(f"#{group_of(typed)}")
    if group is None:
        raise Refused(Code.NOT_MEMBER, f"You are not a member of {typed}.")
    return group


async def _last_message(session: Session, typed: str) -> Message:
    """Return the user's latest message, also if it was written a moment ago. Raises `Refused`."""
    group = _group(session, typed)
    channel = session.find(target_of(group))
    if channel is not None:
        await channel.own.settle()
    for event in reversed(await group.history(limit=_RECENT)):
        if isinstance(event, Message) and event.mine:
            return event
    raise Refused(Code.NO_SUCH_MESSAGE, "You have written no message here lately.")


async def _help(_: Session, __: list[str]) -> str:
    return "\n".join(f"{row.usage}: {row.meaning}" for row in ROWS.values())


async def _create(session: Session, given: list[str]) -> str:
    group = await session.client.join(group_of(given[0]), create=True)
    session.reopen(target_of(group))
    return f"You are in {target_of(group)}. Its admin is {group.admin}."


async def _leave(session: Session, given: list[str]) -> str:
    group = _group(session, given[0])
    await group.leave()
    return f"You left {target_of(group)}."


async def _approve(session: Session, given: list[str]) -> str:
    await _group(session, given[0]).approve(person_of(given[1]))
    return f"{given[1]} is a member now."


async def _deny(session: Session, given: list[str]) -> str:
    await _group(session, given[0]).deny(person_of(given[1]))
    return f"You denied {given[1]}'s request."


async def _deny_all(session: Session, given: list[str]) -> str:
    await _group(session, given[0]).deny_all()
    return "You denied all requests."


async def _requests(session: Session, given: list[str]) -> str:
    return ", ".join(map(nick_of, _group(session, given[0]).requests)) or "Nobody asks to join."


async def _invite(session: Session, given: list[str]) -> str:
    name = person_of(given[1]) if len(given) > 1 else None
    return "\n".join(await invite_lines(session, _group(session, given[0]), name))


async def _files(session: Session, given: list[str]) -> str:
    files = _group(session, given[0]).files
    lines = [f"{one.number} {one.name} ({size_text(one.size)}) by {one.by}" for one in files]
    return "\n".join(lines) or "There are no files."


async def _get(session: Session, given: list[str]) -> str:
    number = int(given[1]) if given[1].isascii() and given[1].isdigit() else 0
    path = await _group(session, given[0]).save_file(number, session.door.downloads)
    return f"Saved as {path}"


async def _send(session: Session, given: list[str]) -> str:
    path = Path(await trio.Path(given[1]).expanduser())
    file = await _group(session, given[0]).send_file(path)
    return f"{file.name} is file {file.number}."


async def _edit(session: Session, given: list[str]) -> str:
    await (await _last_message(session, given[0])).edit(given[1])
    return "Your last message is edited."


async def _delete(session: Session, given: list[str]) -> str:
    await (await _last_message(session, given[0])).delete()
    return "Your last message is deleted."


async def _search(session: Session, given: list[str]) -> str:
    found = await session.client.search(given[0], limit=_FOUND)
    lines = [
        f"{one.at:%Y-%m-%d %H:%M} {target_of(one.group)} <{nick_of(one.who)}> "
        f"{snippet(one.text, 200)}"
        for one in found
    ]
    return "\n".join(lines) or "Nothing was found."


ROWS = {
    row.usage.split()[0]: row
    for row in (
        _Row("help", "list these commands", _help),
        _Row("create GROUP", "found a group, or join it", _create),
        _Row("leave GROUP", "end your membership; /part only closes the channel", _leave),
        _Row("requests GROUP", "list who asks to join", _requests),
        _Row("approve GROUP NAME", "let somebody in who asks to join", _approve),
        _Row("deny GROUP NAME", "deny somebody's request", _deny),
        _Row("denyall GROUP", "deny all requests", _deny_all),
        _Row("invite GROUP [NAME]", "make an invite that skips approval", _invite),
        _Row("files GROUP", "list the files of a group", _files),
        _Row("get GROUP NUMBER", "save a file in your download directory", _get),
        _Row("send GROUP PATH", "share a file of this machine", _send),
        _Row("edit TARGET TEXT", "replace the text of your last message", _edit),
        _Row("delete TARGET", "delete your last message", _delete),
        _Row("search WORDS", "find messages with all these words", _search),
    )
}
"""The commands, by their first words."""

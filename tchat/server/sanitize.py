"""What people typed, as the rules of a group and everybody's terminal want it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tchat.core.group.commands import (
    Approve,
    Ban,
    Command,
    Deny,
    Edit,
    Invite,
    Kick,
    Post,
    SetTopic,
    Share,
    TransferAdmin,
    Unban,
)
from tchat.core.group.direct import check_group, is_direct, pair_of
from tchat.core.group.rules import TOPIC_LIMIT
from tchat.core.text import (
    check_name,
    check_size,
    check_text,
    clean_line,
    clean_text,
    fold,
    safe_filename,
)
from tchat.errors import Code, Refused
from tchat.server.presence import AWAY_LIMIT

if TYPE_CHECKING:
    from tchat.core.group.state import Author


def clean(command: Command) -> Command:
    """Return a command with names and texts that can be shown. Raises `Refused`."""
    match command:
        case Post() | Edit():
            check_size(command.text)  # before the work of cleaning it
            text = clean_text(command.text)
            return command if text == command.text else replace(command, text=text)
        case SetTopic(text=text):
            check_length(text, TOPIC_LIMIT, "A topic")
            return replace(command, text=clean_line(text))
        case Invite(name=None):
            return command
        case Approve() | Deny() | Kick() | Ban() | Unban() | TransferAdmin() | Invite():
            return replace(command, name=check_name(command.name or ""))
        case Share():
            return replace(command, name=safe_filename(command.name))
    return command


def clean_away(text: str | None) -> str | None:
    """Return why somebody is away as it is shown; None for one who is back. Raises `Refused`."""
    if text is None:
        return None
    check_length(text, AWAY_LIMIT, "A word about being away")
    check_text(text)
    return clean_line(text)


def check_length(text: str, most: int, what: str) -> None:
    """Raise `Refused` (text_too_long) unless a text has at most so many characters."""
    if len(text) > most:
        raise Refused(Code.TEXT_TOO_LONG, f"{what} has at most {most} characters.")


def check_own_group(raw: str, author: Author) -> str:
    """Return a group's name as it will be shown, unless it is a conversation of two others.

    Nothing about such a one is to be learned, not even whether it is there. Raises `Refused`.
    """
    name = check_group(raw)
    if is_others(name, author):
        raise Refused(Code.NOT_MEMBER, "This is a conversation of two others.")
    return name


def is_others(name: str, author: Author) -> bool:
    """Return whether a name is that of a conversation of two others."""
    return is_direct(name) and fold(author.name) not in map(fold, pair_of(name))

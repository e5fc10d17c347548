"""Commands about people who are blocked: /block and /unblock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.direct import direct_name
from tchat.core.text import check_name, clean_line, fold, quote_name
from tchat.errors import Code, Refused
from tchat.ui.chat.commands import CommandSpec, name_in
from tchat.ui.chat.completion import other_people
from tchat.ui.chat.notices import unknown_note

if TYPE_CHECKING:
    from tchat.ui.chat.chat import Chat
    from tchat.ui.chat.window import Window


def block(chat: Chat, window: Window, typed: str) -> None:
    """Hide all of a person, under all their names, or list who is blocked."""
    if not typed:
        window.notice(_list(chat))
        return
    name = check_name(name_in(typed), "username")
    if fold(name) == fold(chat.session.user):
        raise Refused(Code.YOURSELF, "You cannot block yourself.")
    if fold(name) in chat.blocked:
        window.notice(f"{name} is blocked already. /unblock {name} lifts the block.")
        return
    is_known = chat.knows(name)
    others = [one for one in chat.block(name) if one != fold(name)]
    conversation = chat.window_for(direct_name(chat.session.user, name))
    if conversation is not None and len(chat.windows) > 1:
        chat.close(conversation)
    used = f" So is {', '.join(map(clean_line, others))}, who has the same key." if others else ""
    window.notice(
        f"{name} is blocked: their messages and their requests to join are hidden.{used}"
        f" /unblock {name} lifts the block.{'' if is_known else unknown_note(name)}"
    )


def unblock(chat: Chat, window: Window, typed: str) -> None:
    """Lift a block, also of the other names that were blocked for the same key."""
    person = fold(name_in(typed))
    if person not in chat.blocked:
        raise Refused(
            Code.NO_SUCH_MEMBER, f"{quote_name(typed)} is not blocked; /block lists who is."
        )
    names = chat.unblock(person)
    ignored = [name for name in names if name in chat.ignored]
    shown = ", ".join(map(clean_line, names))
    are = "is" if len(names) == 1 else "are"
    also = f" /unignore {clean_line(ignored[0])} shows their messages again." if ignored else ""
    window.notice(f"{shown} {are} not blocked any more.{also}")


def blocked(chat: Chat) -> list[str]:
    """Return the folded names of the people who are blocked."""
    return sorted(map(clean_line, chat.blocked))


def _list(chat: Chat) -> str:
    if not chat.blocked:
        return "Nobody is blocked. /block NAME hides all of a person."
    keys = [f"key {digits}" for digits in chat.preferences.blocked_keys]
    names = blocked(chat)
    return f"blocked ({len(names)}): {', '.join([*names, *keys])}"


COMMANDS: tuple[CommandSpec[Chat], ...] = (
    CommandSpec(
        "block",
        "people",
        "hides all of a person, also direct messages and requests, or lists who is blocked",
        block,
        "[NAME]",
        example="mallory",
        choices=other_people,
    ),
    CommandSpec(
        "unblock",
        "people",
        "lifts a block",
        unblock,
        "NAME",
        "unblock whom?",
        example="mallory",
        choices=blocked,
    ),
)

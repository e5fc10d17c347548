"""The commands about windows: which groups and people one has in front of oneself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group import commands as core
from tchat.core.group.direct import direct_name
from tchat.core.text import check_name, check_text, clean_line, clean_text, fold, quote_name
from tchat.errors import Code, Refused
from tchat.ui.chat.commands import TOPICS, help_lines, help_of, named
from tchat.ui.chat.lines import standing_found

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.ui.chat.window import Window


def join(room: Window, typed: str) -> None:
    """Go to another group, which is founded or asked to let one in; or ask again in this one."""
    name = typed.removeprefix("#")
    if name.startswith("@"):
        query(room, name)
    elif name and fold(name) != fold(room.replica.name):
        room.chat.go(room.chat.open(check_name(name, "group name"), asks=True))
    elif room.replica.standing == "member":
        raise Refused(Code.ALREADY_MEMBER, "You are a member already.")
    elif room.replica.standing == "waiting":
        room.notice(standing_found(room.replica, None))
    else:
        room.come(asks=True)


def part(room: Window, _: str) -> None:
    """Close the window; the last one ends the chat."""
    room.chat.close(room)


def leave(room: Window, _: str) -> None:
    """End one's membership, and close the window."""
    if room.direct:
        room.chat.close(room)
        return
    room.leaving = True
    room.start(_leave, room)


async def _leave(room: Window) -> None:
    try:
        await room.session.request(lambda i, n: core.Leave(i, n, room.replica.name))
        await room.chat.settle()  # what others see of it is shown there
    except Refused:
        room.leaving = False
        raise
    room.chat.close(room)
    only = room in room.chat.rooms
    room.notice("you left the group" if only else f"you left {room.title}")


def msg(room: Window, typed: str) -> None:
    """Write to one person."""
    name, _, text = typed.partition(" ")
    if not text.strip():
        raise Refused(Code.MISSING_ARGUMENT, "It is /msg NAME TEXT.")
    person = _person(room, name)
    check_text(text)
    there = room.chat.open(direct_name(room.session.user, person))
    there.say(clean_text(text.strip()), asker=room)


def query(room: Window, typed: str) -> None:
    """Go to the conversation with one person."""
    room.chat.go(room.chat.open(direct_name(room.session.user, _person(room, typed))))


def list_groups(room: Window, _: str) -> None:
    """Show in which groups one is."""
    room.start(_list, room)


async def _list(room: Window) -> None:
    groups = await room.session.my_groups()
    open_rooms = {fold(other.replica.name) for other in room.chat.rooms}
    for group in groups:
        facts: list[str] = [group.standing] if group.standing != "member" else []
        if fold(group.name) in open_rooms:
            facts.append("open")
        elif group.standing == "member" and group.last > group.read:
            facts.append("something new")
        title = room.chat.title_of(group.name)
        room.notice(f"{title} ({', '.join(facts)})" if facts else title)
    if not groups:
        room.notice("you are in no group; /join GROUP founds one, or asks to be let in")


def window(room: Window, typed: str) -> None:
    """Go to a window by its number, or by the beginning of its name."""
    rooms = room.chat.rooms
    meant = [other for number, other in enumerate(rooms, start=1) if typed == str(number)]
    meant += sorted(
        (other for other in rooms if is_begun(other.title, typed)), key=lambda r: len(r.title)
    )
    if not meant:
        number = f"; there {'is one' if len(rooms) == 1 else f'are {len(rooms)}'}"
        raise Refused(Code.MISSING_ARGUMENT, f"There is no window {quote_name(typed)}{number}.")
    room.chat.go(meant[0])


def mute(room: Window, _: str) -> None:
    """Let the room call for attention no more; or again."""
    room.muted = not room.muted
    room.notice("no bell here from now on" if room.muted else "the bell rings here again")


def clear(room: Window, _: str) -> None:
    """Empty the window."""
    room.clear()
    room.chat.face.changed()


def tell_commands(room: Window, typed: str) -> None:
    """Show the commands, those about something, the keys, or all about one command."""
    topic = typed.lower()
    if topic == "keys":
        lines = room.chat.face.key_lines()
    elif not topic or topic in TOPICS:
        lines = help_lines(topic)
    else:
        command = named(typed)
        if command is None:
            raise Refused(Code.UNKNOWN_COMMAND, f"There is no command {clean_line(typed)}.")
        lines = [help_of(command)]
    for line in lines or ["keys are your terminal's own here"]:
        room.notice(line)


def leave_all(room: Window, _: str) -> None:
    """End the chat; one stays a member of everything."""
    room.chat.done.set()


COMMANDS: dict[str, Callable[[Window, str], None]] = {
    "join": join,
    "part": part,
    "leave": leave,
    "msg": msg,
    "query": query,
    "list": list_groups,
    "window": window,
    "mute": mute,
    "clear": clear,
    "help": tell_commands,
    "quit": leave_all,
}
"""What these commands do, by their words; each is given the room and what was typed behind it."""


def _person(room: Window, typed: str) -> str:
    """Return whom somebody means, as their owner writes the name if that is known here."""
    name = check_name(typed.removeprefix("@"), "username")
    return room.chat.people().get(fold(name), name)


def is_begun(title: str, typed: str) -> bool:
    """Return whether a room's title begins like that, with its sign or without."""
    return fold(title).startswith(fold(typed)) or fold(title[1:]).startswith(fold(typed))

"""What Tab offers: commands at the start of a line, then what the command takes, or names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.text import clean_line, fold
from tchat.ui.chat.commands import COMMANDS, CommandSpec, answers, named, words
from tchat.ui.commands.windows import is_begun
from tchat.ui.text.paths import complete_path, complete_paths

if TYPE_CHECKING:
    from tchat.ui.chat.chat import Chat

_NAMES_GROUPS = ("#", "@")


def offers(chat: Chat, before: str) -> tuple[int, list[str]]:
    """Return where the word to complete begins in `before`, and what it could become."""
    if chat.question is not None and answers(chat.question, before):
        return 0, _choices(chat, chat.question, before)
    if before.startswith("/") and " " not in before:
        return 0, [f"{word} " for word in words() if word.startswith(before.lower())]
    start = before.find(" ") + 1
    if before.startswith("/") and not before.startswith("//"):
        command = named(before.partition(" ")[0])
        if command is None:
            return start, []
        in_text = command.takes_text and " " in before[start:]
        if command.choice != "text" and not in_text:
            return start, _choices(chat, command, before[start:])
    return _in_text(chat, before)


def choices(chat: Chat, command: CommandSpec) -> list[str]:
    """Return what a command's argument could be; for paths, the disk knows better."""
    room, me = chat.current, fold(chat.session.user)
    state = room.replica.state
    match command.choice:
        case "request":
            names = [request.name for request in state.requests.values()]
        case "member":
            names = [name for key, name in state.members.items() if key != me]
        case "person" | "message":
            names = [name for key, name in chat.people().items() if key != me]
        case "banned":
            names = list(state.banned.values())
        case "ignored":
            names = sorted(chat.ignored)
        case "policy":
            names = ["open", "approval"]
        case "group" | "window":
            names = [other.title for other in chat.rooms]
        case "found":
            names = [str(number) for number in range(1, len(chat.found) + 1)]
        case _:
            return room.filing.choices(command)
    return [clean_line(name) for name in names]


def _in_text(chat: Chat, before: str) -> tuple[int, list[str]]:
    """Return what a word of a message could become: somebody's name, or a room's."""
    start = max(before.rfind(" "), before.rfind("\n")) + 1
    begun = before[start:]
    if begun.startswith(_NAMES_GROUPS):
        titles = [room.title for room in chat.rooms] + [f"@{n}" for n in chat.current.members()]
        found = _matching(list(dict.fromkeys(titles)), begun)
        return start, [f"{title} " for title in found]
    end = ": " if start == 0 else " "
    return start, [name + end for name in _matching(chat.current.members(), begun)]


def _choices(chat: Chat, command: CommandSpec, begun: str) -> list[str]:
    if command.choice == "path":
        return complete_paths(begun)
    if command.choice == "saving" and " " in begun:
        number, space, place = begun.partition(" ")
        return [number + space + path for path in complete_path(place)]
    if command.choice == "help":
        topics = dict.fromkeys(["keys", *(command.word for command in COMMANDS)])
        return _matching(list(topics), begun)
    offered = choices(chat, command)
    if command.choice in ("group", "window"):
        return [title for title in offered if is_begun(title, begun)]
    found = _matching(offered, begun)
    return [f"{name} " for name in found] if command.takes_text else found


def _matching(names: list[str], begun: str) -> list[str]:
    return [name for name in names if begun and fold(name).startswith(fold(begun))] or (
        [] if begun else names
    )

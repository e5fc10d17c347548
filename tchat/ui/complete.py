"""What Tab offers: commands at the start of a line, then what the command takes, or names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.text import fold
from tchat.ui.commands import Command, Do, parse, words
from tchat.ui.paths import complete_path, complete_paths

if TYPE_CHECKING:
    from tchat.ui.chat import Chat


def offers(chat: Chat, before: str) -> tuple[int, list[str]]:
    """Return where the word to complete begins in `before`, and what it could become."""
    if chat.question is not None:
        return 0, _choices(chat, chat.question, before)
    if before.startswith("/") and " " not in before:
        return 0, [f"{word} " for word in words() if word.startswith(before.lower())]
    start = before.find(" ") + 1
    if before.startswith("/") and not before.startswith("//"):
        command = _command(before)
        return start, [] if command is None else _choices(chat, command, before[start:])
    start = max(before.rfind(" "), before.rfind("\n")) + 1
    end = ": " if start == 0 else " "
    return start, [name + end for name in _matching(chat.members(), before[start:])]


def _command(before: str) -> Command | None:
    typed = parse(before.partition(" ")[0]) if before.split(" ")[0][1:] else None
    return typed.command if isinstance(typed, Do) else None


def _choices(chat: Chat, command: Command, begun: str) -> list[str]:
    if command.choice == "path":
        return complete_paths(begun)
    if command.choice == "saving" and " " in begun:
        number, space, place = begun.partition(" ")
        return [number + space + path for path in complete_path(place)]
    return _matching(chat.choices(command), begun)


def _matching(names: list[str], begun: str) -> list[str]:
    return [name for name in names if begun and fold(name).startswith(fold(begun))] or (
        [] if begun else names
    )

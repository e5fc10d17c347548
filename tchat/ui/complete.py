"""What Tab offers: commands at the start of a line, then what the command takes, or names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tchat.core.text import fold
from tchat.ui.commands import Command, Do, parse, words

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
        return _paths(begun)
    return _matching(chat.choices(command), begun)


def _matching(names: list[str], begun: str) -> list[str]:
    return [name for name in names if begun and fold(name).startswith(fold(begun))] or (
        [] if begun else names
    )


def _paths(begun: str) -> list[str]:
    """Return the files and directories that a path could go on to; hidden ones if asked for."""
    head, _, last = begun.rpartition("/")
    try:
        directory = Path(f"{head}/" if "/" in begun else ".").expanduser()
        found = sorted(path for path in directory.iterdir() if path.name.startswith(last))
        shown = [path for path in found if last.startswith(".") or not path.name.startswith(".")]
        prefix = begun[: len(begun) - len(last)]
        return [f"{prefix}{path.name}{'/' if path.is_dir() else ''}" for path in shown]
    except (OSError, RuntimeError):
        return []

"""Tab completion: commands at the start of a line, then their arguments, names within messages.

A command's row in the table says how its argument is completed: with `choices` or a completer. The
choices and completers that several commands share are here.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from tchat.core.text import clean_line, fold
from tchat.ui.chat.commands import CommandSpec, Offers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.ui.chat.chat import Chat

_GROUP_OR_PERSON = ("#", "@")
_LATEST_MESSAGES = 200
"""In how many of the latest messages those who are offered first have spoken."""


def offers(chat: Chat, before: str) -> Offers:
    """Return the completions of the line up to the cursor."""
    table, question = chat.commands, chat.question
    if isinstance(question, CommandSpec) and table.is_answer(question, before):
        return _argument(chat, question, before, 0)
    if before.startswith("/") and " " not in before:
        return Offers(0, [f"{word} " for word in table.words() if word.startswith(before.lower())])
    if not before.startswith("/") or before.startswith("//"):
        return words_of_message(chat, before)
    start = before.find(" ") + 1
    command = table.find(before[: start - 1])
    return Offers(start, []) if command is None else _argument(chat, command, before, start)


def _argument(chat: Chat, command: CommandSpec[Chat], before: str, start: int) -> Offers:
    """Return the completions of a command's argument, which begins at `start` in the line."""
    begun = before[start:]
    if command.completer is not None:
        found = command.completer(chat, begun)
        return Offers(start + found.start, found.texts)
    return Offers(start, matching(command.choices(chat), begun) if command.choices else [])


def matching(names: list[str], begun: str) -> list[str]:
    """Return the names that begin with the typed text, ignoring case."""
    return [name for name in names if fold(name).startswith(fold(begun))]


# ---------------------------------------------------------------------- completers


def words_of_message(chat: Chat, begun: str) -> Offers:
    """Complete a word of a message: a member's name, #group or @name."""
    start = max(begun.rfind(" "), begun.rfind("\n")) + 1
    word, members = begun[start:], _latest_first(chat, chat.current.members())
    if word.startswith(_GROUP_OR_PERSON):
        titles = window_titles(chat) + [f"@{name}" for name in members]
        return Offers(start, [f"{title} " for title in matching(list(dict.fromkeys(titles)), word)])
    end = ": " if start == 0 else " "
    return Offers(start, [name + end for name in matching(members, word)])


def text(chat: Chat, begun: str) -> Offers:
    """Complete a word of a text argument, like a word within a message."""
    found = words_of_message(chat, f" {begun}")
    return Offers(found.start - 1, found.texts)


def first_then_text(choices: Callable[[Chat], list[str]]) -> Callable[[Chat, str], Offers]:
    """Return the completer of an argument that consists of one of the choices and then a text."""

    def complete(chat: Chat, begun: str) -> Offers:
        if " " in begun:
            return text(chat, begun)
        return Offers(0, [f"{name} " for name in matching(choices(chat), begun)])

    return complete


def window_by_title(chat: Chat, begun: str) -> Offers:
    """Complete the title of a window, typed with or without its # or @."""
    return Offers(0, [title for title in window_titles(chat) if begins_title(title, begun)])


def begins_title(title: str, typed: str) -> bool:
    """Return whether a window's title, with or without its # or @, begins with the typed text."""
    return fold(title).startswith(fold(typed)) or fold(title[1:]).startswith(fold(typed))


# ---------------------------------------------------------------------- choices


def requests(chat: Chat) -> list[str]:
    """Return the names of those who ask to join the current group."""
    return [clean_line(name) for name in chat.current.requests]


def other_members(chat: Chat) -> list[str]:
    """Return the other members of the current group, the last to have spoken first."""
    state = chat.current.replica.state
    return _latest_first(chat, [clean_line(name) for name in state.members.values()])


def other_people(chat: Chat) -> list[str]:
    """Return the other members of all open windows, the last to have spoken here first."""
    return _latest_first(chat, [clean_line(name) for name in chat.people().values()])


def _latest_first(chat: Chat, names: list[str]) -> list[str]:
    """Return the names of others: those who spoke last in the window first, then in their order."""
    latest = islice(chat.current.messages(), _LATEST_MESSAGES)
    places = {name: place for place, name in enumerate(dict.fromkeys(fold(m.who) for m in latest))}
    others = [name for name in names if fold(name) != fold(chat.session.user)]
    return sorted(others, key=lambda name: places.get(fold(name), _LATEST_MESSAGES))


def window_titles(chat: Chat) -> list[str]:
    """Return the titles of all windows, in their order."""
    return [window.title for window in chat.windows]

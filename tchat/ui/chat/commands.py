"""The commands that people type, as one table: `/help` and the README are made from it.

A line that does not begin with a slash is a message, and so is one that begins with two, less
the first. A command is a number, as the original had them, or a word; what follows is its
argument. Without an argument that it needs, it asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Literal

from tchat.errors import Code, Refused

Choice = Literal[
    "none",
    "request",
    "member",
    "banned",
    "person",
    "ignored",
    "group",
    "window",
    "policy",
    "message",
    "found",
    "invite",
    "help",
    "shelf",
    "file",
    "saving",
    "path",
    "transfer",
    "key",
    "text",
]
"""What an argument is one of, or begins with; it says what Tab offers."""

_USAGE = 15
"""Cells for how a command is typed, where they are listed one below the other."""

ARGUMENT_LIMIT = 4096
"""Longest argument of a command that is no message, in code points: enough for any path."""


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One command: its word, the number it has had since the original, and what it needs.

    `argument` is how its argument is written in a list, in brackets if it can do without; what
    it `asks` is asked if one is missing that it needs.
    """

    word: str
    number: int | None
    help: str
    choice: Choice = "none"
    argument: str = ""
    asks: str = ""
    admin: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """How it is typed: "/approve NAME"."""
        return f"/{self.word} {self.argument}".rstrip()

    @property
    def question(self) -> str:
        """What it asks for want of its argument."""
        return self.asks or f"{self.usage}: what?"

    @property
    def needs_argument(self) -> bool:
        """Whether it cannot do without its argument, and asks for it."""
        return bool(self.argument) and not self.argument.startswith("[")

    @property
    def takes_text(self) -> bool:
        """Whether its argument is a message, or has one in it."""
        return "TEXT" in self.argument


TOPICS: dict[str, tuple[CommandSpec, ...]] = {
    "basics": (
        CommandSpec("requests", 1, "who asks to join", admin=True),
        CommandSpec(
            "approve", 2, "let somebody in", "request", "NAME", "approve whom?", admin=True
        ),
        CommandSpec("quit", 3, "leave; you stay a member", aliases=("exit",)),
        CommandSpec("members", 4, "all members"),
        CommandSpec("online", 5, "the members who are online"),
        CommandSpec(
            "transfer", 6, "make another the admin", "member", "NAME", "make whom the admin?", True
        ),
        CommandSpec("admin", 7, "who the admin is"),
        CommandSpec(
            "kick", 8, "end somebody's membership", "member", "NAME", "kick whom?", admin=True
        ),
        CommandSpec(
            "send", 9, "send files or folders to the group", "path", "PATH", "send which file?"
        ),
        CommandSpec("help", None, "what there is; all about it", "help", "[TOPIC]"),
    ),
    "people": (
        CommandSpec(
            "deny", None, "turn a request down", "request", "NAME", "deny whom?", admin=True
        ),
        CommandSpec(
            "ban", None, "end a membership, for good", "person", "NAME", "ban whom?", admin=True
        ),
        CommandSpec(
            "unban", None, "let ask again", "banned", "NAME", "lift whose ban?", admin=True
        ),
        CommandSpec(
            "invite",
            None,
            "a line that lets somebody in",
            "invite",
            "[--for NAME] [--expires 24h]",
            admin=True,
        ),
        CommandSpec(
            "policy", None, "who may join: all, or who is approved", "policy", "[open|approval]"
        ),
        CommandSpec("topic", None, "what the group is about", "text", "[TOPIC]"),
        CommandSpec("who", None, "who is here, and who is away", aliases=("names",)),
        CommandSpec("whois", None, "about somebody", "person", "NAME", "who is who?"),
        CommandSpec("away", None, "say that you are away; without, back", "text", "[WHY]"),
        CommandSpec("ignore", None, "hide what somebody says", "person", "[NAME]"),
        CommandSpec("unignore", None, "show it again", "ignored", "NAME", "ignore whom no more?"),
    ),
    "messages": (
        CommandSpec("msg", None, "write to one person", "person", "NAME TEXT", aliases=("m",)),
        CommandSpec("query", None, "a window with one person", "person", "NAME", aliases=("q",)),
        CommandSpec("me", None, "say what you do", "text", "TEXT"),
        CommandSpec(
            "reply", None, "answer the last message, or NAME's", "message", "[NAME|^N] TEXT"
        ),
        CommandSpec("edit", None, "change your last message", "message", "[^N] [TEXT]"),
        CommandSpec("delete", None, "take away your last, or NAME's", "message", "[NAME|^N]"),
        CommandSpec("resend", None, "send again what was not sent"),
        CommandSpec("discard", None, "forget what was not sent"),
        CommandSpec(
            "search", None, "find messages, in all groups", "text", "WORDS", "search for what?"
        ),
        CommandSpec(
            "jump", None, "go to a message that was found", "found", "N", "go to which one?"
        ),
    ),
    "windows": (
        CommandSpec(
            "join", None, "another group; or ask again", "group", "[GROUP]", aliases=("j",)
        ),
        CommandSpec("part", None, "close this window; you stay a member", aliases=("close",)),
        CommandSpec("leave", None, "end your membership or request"),
        CommandSpec("list", None, "your groups"),
        CommandSpec(
            "window", None, "go to a window", "window", "N", "which window?", aliases=("w",)
        ),
        CommandSpec("mute", None, "no bell for this window; again, a bell"),
        CommandSpec("clear", None, "empty the window; PageUp brings it back"),
    ),
    "files": (
        CommandSpec("files", None, "the newest files; or all, or about one", "shelf", "[N|all]"),
        CommandSpec("get", None, "save a file", "saving", "N [PATH]", "get which file?"),
        CommandSpec(
            "cancel", None, "stop sending or saving a file", "transfer", "N", "stop which one?"
        ),
        CommandSpec(
            "remove", None, "take a file from the group", "file", "N", "remove which file?"
        ),
    ),
    "devices": (
        CommandSpec("link", None, "a code that makes another device yours"),
        CommandSpec("keys", None, "the keys that your name belongs to"),
        CommandSpec("unlink", None, "take a key away", "key", "KEY", "take away which key?"),
    ),
}
"""All commands, by what they are about; those that the original had, by number, come first."""

COMMANDS: tuple[CommandSpec, ...] = tuple(chain.from_iterable(TOPICS.values()))

_BY_WORD = {
    name: command
    for command in COMMANDS
    for name in (command.word, str(command.number), *command.aliases)
    if name != "None"
}


@dataclass(frozen=True, slots=True)
class Say:
    """The line is a message."""

    text: str


@dataclass(frozen=True, slots=True)
class Do:
    """The line is a command; an argument that it needs may still be missing."""

    command: CommandSpec
    argument: str


def parse(line: str) -> Say | Do | None:
    """Return what a typed line means; None for a blank one. Raises `Refused` (unknown_command)."""
    if not line.strip():
        return None
    if not line.startswith("/"):
        return Say(line)
    if line.startswith("//"):
        return Say(line[1:])
    word, argument = _split(line)
    command = _BY_WORD.get(word)
    if command is None:
        raise Refused(
            Code.UNKNOWN_COMMAND,
            f"There is no command /{word}; /help lists them, // sends a slash.",
        )
    argument = argument.strip() if command.argument else ""
    if len(argument) > ARGUMENT_LIMIT and not command.takes_text:
        raise Refused(Code.TEXT_TOO_LONG, f"The argument of /{command.word} is too long.")
    return Do(command, argument)


def named(word: str) -> CommandSpec | None:
    """Return the command of a word, an alias or a number, with or without its slash."""
    return _BY_WORD.get(word.removeprefix("/").lower())


def speaks_of_messages(line: str) -> bool:
    """Return whether a line is a command about messages that were sent, or found."""
    command = _BY_WORD.get(_split(line)[0]) if line.startswith("/") else None
    return command is not None and command.choice in ("message", "found")


def answers(question: CommandSpec, line: str) -> bool:
    """Return whether a line answers a command's question, rather than being a command itself.

    An absolute path begins with a slash too; it is a command only if there is one of that name.
    """
    if not line.startswith("/"):
        return True
    return question.choice == "path" and _split(line)[0] not in _BY_WORD


def help_lines(topic: str = "") -> list[str]:
    """Return what there is to know: the words of all commands, or the table of one topic."""
    if topic:
        return _table(TOPICS[topic])
    lists = [
        f"{name}: {', '.join(_short(command) for command in commands)}"
        for name, commands in TOPICS.items()
    ]
    return [*lists, f"/help {'|'.join(TOPICS)} explains them, /help keys the keys"]


def _short(command: CommandSpec) -> str:
    return f"/{command.number} {command.word}" if command.number else f"/{command.word}"


def _table(commands: tuple[CommandSpec, ...]) -> list[str]:
    width = min(max(len(command.usage) for command in commands), _USAGE)
    return [
        f"{f'/{command.number} ' if command.number else ''}{command.usage:<{width}}"
        f"  {command.help}{' (admin)' if command.admin else ''}"
        for command in commands
    ]


def help_of(command: CommandSpec) -> str:
    """Return all about one command, on one line."""
    number = f", or /{command.number}" if command.number else ""
    others = "".join(f", /{alias}" for alias in command.aliases)
    return f"{command.usage}{number}{others}: {command.help}{' (admin)' if command.admin else ''}"


def words() -> list[str]:
    """Return every command's word with its slash, in the table's order."""
    return [f"/{command.word}" for command in COMMANDS]


def _split(line: str) -> tuple[str, str]:
    """Return a command's word, in small letters, and what is behind it."""
    first, *rest = line[1:].split(maxsplit=1) or [""]
    if not line[1:2].strip():  # "/ help" is no command
        return "", line[1:]
    return first.lower(), rest[0] if rest else ""

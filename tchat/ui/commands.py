"""The commands that people type, as one table: `/help` and the README are made from it.

A line that does not begin with a slash is a message, and so is one that begins with two, less
the first. A command is a number, as the original had them, or a word; what follows is its
argument. Without an argument that it needs, it asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tchat.errors import Code, Refused

Choice = Literal[
    "none", "request", "member", "shelf", "file", "saving", "path", "transfer", "key", "invite"
]
"""What an argument is one of; it says what Tab offers."""

_PLACEHOLDERS: dict[Choice, str] = {
    "none": "",
    "request": "NAME",
    "member": "NAME",
    "shelf": "[N]",
    "file": "N",
    "saving": "N [PATH]",
    "path": "PATH",
    "transfer": "N",
    "key": "KEY",
    "invite": "",
}


ARGUMENT_LIMIT = 4096
"""Longest argument of a command, in code points: enough for any path."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its word, the number it has had since the original, and what it needs."""

    word: str
    number: int | None
    help: str
    choice: Choice = "none"
    question: str = ""
    admin: bool = False

    @property
    def usage(self) -> str:
        """How it is typed: "/approve NAME"."""
        return f"/{self.word} {self.placeholder}".rstrip()

    @property
    def placeholder(self) -> str:
        """The word for its argument, if it takes one."""
        return _PLACEHOLDERS[self.choice]

    @property
    def needs_argument(self) -> bool:
        """Whether it cannot do without its argument, and asks for it."""
        return self.choice not in ("none", "invite", "shelf")


COMMANDS: tuple[Command, ...] = (
    Command("requests", 1, "who asks to join", admin=True),
    Command("approve", 2, "approve a request", "request", "approve whom?", admin=True),
    Command("quit", 3, "leave; you stay a member"),
    Command("members", 4, "all members"),
    Command("online", 5, "the members who are online"),
    Command(
        "transfer", 6, "make another member the admin", "member", "make whom the admin?", admin=True
    ),
    Command("admin", 7, "who the admin is"),
    Command("kick", 8, "end somebody's membership", "member", "kick whom?", admin=True),
    Command(
        "send", 9, "send a file or a folder to the group; or several", "path", "send which file?"
    ),
    Command("deny", None, "deny a request", "request", "deny whom?", admin=True),
    Command(
        "invite",
        None,
        "a line that lets somebody in, once; --for NAME, --expires 24h",
        "invite",
        admin=True,
    ),
    Command("link", None, "a code that makes another device yours, too"),
    Command("keys", None, "the keys that your name belongs to"),
    Command("unlink", None, "take a key from your name", "key", "take away which key?"),
    Command("files", None, "the newest files; all for all of them, N for all about one", "shelf"),
    Command(
        "get", None, "save file number N; to PATH, if that is given", "saving", "get which file?"
    ),
    Command("cancel", None, "stop sending or saving a file", "transfer", "stop which transfer?"),
    Command(
        "remove", None, "take a file that you sent from the group", "file", "remove which file?"
    ),
    Command("join", None, "ask to join again"),
    Command("leave", None, "end your membership or request"),
    Command("help", None, "this list"),
)

_BY_WORD = {
    name: command
    for command in COMMANDS
    for name in (command.word, str(command.number))
    if name != "None"
}


@dataclass(frozen=True, slots=True)
class Say:
    """The line is a message."""

    text: str


@dataclass(frozen=True, slots=True)
class Do:
    """The line is a command; an argument that it needs may still be missing."""

    command: Command
    argument: str


def parse(line: str) -> Say | Do | None:
    """Return what a typed line means; None for a blank one. Raises `Refused` (unknown_command)."""
    if not line.strip():
        return None
    if not line.startswith("/"):
        return Say(line)
    if line.startswith("//"):
        return Say(line[1:])
    word, _, argument = line[1:].partition(" ")
    command = _BY_WORD.get(word.lower())
    if command is None:
        raise Refused(
            Code.UNKNOWN_COMMAND,
            f"There is no command /{word}; /help lists them, // sends a slash.",
        )
    argument = argument.strip() if command.choice != "none" else ""
    if len(argument) > ARGUMENT_LIMIT:
        raise Refused(Code.TEXT_TOO_LONG, f"The argument of /{command.word} is too long.")
    return Do(command, argument)


def answers(question: Command, line: str) -> bool:
    """Return whether a line answers a command's question, rather than being a command itself.

    An absolute path begins with a slash too; it is a command only if there is one of that name.
    """
    if not line.startswith("/"):
        return True
    return question.choice == "path" and line[1:].partition(" ")[0].lower() not in _BY_WORD


def help_lines() -> list[str]:
    """Return the table of commands, a line each."""
    width = max(len(command.usage) for command in COMMANDS)
    return [
        f"{f'/{command.number}' if command.number else '':<2}  {command.usage:<{width}}"
        f"  {command.help}{' (admin)' if command.admin else ''}"
        for command in COMMANDS
    ]


def words() -> list[str]:
    """Return every command's word with its slash, in the table's order."""
    return [f"/{command.word}" for command in COMMANDS]

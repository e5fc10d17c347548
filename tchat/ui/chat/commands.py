"""Slash commands: the record that describes one, the parser of typed lines, and /help.

A command is one `CommandSpec`: its names, its argument, its help, its handler and its completer.
All are in the table of `tchat.ui.commands`, from which dispatch, /help, completion and the README's
table of commands are made.

A line that does not begin with a slash is a message. So is a line that begins with two slashes; the
first of them is removed. A command is written as a word or, if it has one, as a number; the rest of
the line is its argument. A command whose required argument is missing asks for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from tchat.ui.chat.window import Window

ARGUMENT_LIMIT = 4096
"""Longest argument of a command that is not a message, in code points: enough for any path."""

_REFERENCE = re.compile(r"\^(\d+|#\d+(-[0-9a-f]+)?)\s*")

_USAGE_WIDTH = 15
"""Width of the usage column in the table of a topic, in cells."""

C = TypeVar("C")
"""The type of chat that handlers get: a type variable, since `chat` imports this module."""


class Offers(NamedTuple):
    """Completions: each of `texts` can replace the line from code point `start` to the cursor."""

    start: int
    texts: list[str]


@dataclass(frozen=True, slots=True)
class CommandSpec(Generic[C]):
    """One command.

    `run` is its handler, called with the chat, the window in which the command was typed, and the
    argument. It may raise `Refused`. An async handler runs in the background.

    `argument` is the argument's syntax in usage lines, in brackets if it is optional; "TEXT" in it
    stands for the text of a message. `example` is an argument as somebody might type it. `question`
    asks for a required argument that is missing.

    `help` fits every front end; `screen_help` continues it where there is a screen, with keys.

    `choices` returns possible arguments, which are shown with the question and completed by Tab.
    `completer` returns the completions where matching the choices is not enough; it gets the
    argument up to the cursor.
    """

    word: str
    topic: str
    help: str
    run: Callable[[C, Window, str], Awaitable[None] | None]
    argument: str = ""
    question: str = ""
    example: str = ""
    screen_help: str = ""
    choices: Callable[[C], list[str]] | None = None
    completer: Callable[[C, str], Offers] | None = None
    number: int | None = None
    aliases: tuple[str, ...] = ()
    admin: bool = False
    counts_messages: bool = False
    """The argument counts messages or results (^N): in a script, wait until all have arrived."""
    takes_path: bool = False
    """The argument is a path: an answer that begins with a slash may be a path, not a command."""
    keeps_indent: bool = False
    """The argument begins after the first space: further ones are the indentation of its text."""
    before_asking: Callable[[C], None] | None = None
    """Runs before the question is asked; raises `Refused` if no argument is possible."""
    lapses: bool = False
    """Whether the question lapses when no `choices` are left."""
    bind: Callable[[Window, str], str] | None = None
    """Returns the argument with the seq of the message that it refers to; raises `Refused`."""

    @property
    def usage(self) -> str:
        """The command with its argument: "/approve NAME"."""
        return f"/{self.word} {self.argument}".rstrip()

    @property
    def usage_sentence(self) -> str:
        """The usage with the example: "Usage: /approve NAME; for example: /approve bob"."""
        example = f"; for example: /{self.word} {self.example}" if self.example else ""
        return f"Usage: {self.usage}{example}"

    def complete(self, answer: str) -> str:
        """Return the command that an answer stands for. Raises `Refused` for a blank one."""
        if not answer.strip():
            raise Refused(Code.MISSING_ARGUMENT, f"Nothing was done. {self.usage_sentence}")
        return _completed(f"/{self.word}", answer, is_text=self.takes_text)

    @property
    def needs_argument(self) -> bool:
        """Whether the argument is required."""
        return bool(self.argument) and not self.argument.startswith("[")

    @property
    def takes_text(self) -> bool:
        """Whether the argument is a message, or ends in one."""
        return "TEXT" in self.argument

    @property
    def names(self) -> list[str]:
        """Everything that may follow the slash: the word, the number, the aliases."""
        return [self.word, *([str(self.number)] if self.number else []), *self.aliases]


@dataclass(frozen=True, slots=True)
class Say:
    """A typed line that is a message."""

    text: str


@dataclass(frozen=True, slots=True)
class Do(Generic[C]):
    """A typed line that is a command; a required argument may still be missing."""

    command: CommandSpec[C]
    argument: str


@dataclass(frozen=True, slots=True)
class TextQuestion:
    """An open question for the text of a message: the rest of a command that begins with `command`.

    What the message refers to is settled before the question is asked, and is in the command: until
    it is answered, other messages may arrive. `ask` returns the question as it is now, since what
    it quotes may be edited or deleted meanwhile.
    """

    ask: Callable[[], str]
    command: str
    takes_text = True

    @property
    def question(self) -> str:
        """The question as it is now."""
        return self.ask()

    def complete(self, answer: str) -> str:
        """Return the command that an answer stands for. Raises `Refused` for a blank one."""
        if not answer.strip():
            raise Refused(Code.MISSING_ARGUMENT, "Nothing was sent.")
        return _completed(self.command, answer, is_text=True)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """An open yes-or-no question, with its `text`; the answer yes calls `run`.

    `ask` returns the text as it would be now, or None if nothing has to be confirmed any more: a
    group may have lost its other members while the question stood. It raises `Refused` if nothing
    is left to do.
    """

    text: str
    ask: Callable[[], str | None]
    run: Callable[[], None]

    @property
    def question(self) -> str:
        """The text with the possible answers."""
        return f"{self.text} (y or n)"


class CommandTable(Generic[C]):
    """All commands: `topics` maps each topic to its commands; `commands` has the same order."""

    def __init__(self, topics: Sequence[str], commands: Iterable[CommandSpec[C]]) -> None:
        rows = list(commands)
        self.topics: dict[str, tuple[CommandSpec[C], ...]] = {
            topic: tuple(sorted((row for row in rows if row.topic == topic), key=_by_number))
            for topic in topics
        }
        self.commands = tuple(row for rows in self.topics.values() for row in rows)
        if len(self.commands) != len(rows):
            unknown = {row.topic for row in rows} - set(topics)
            raise ValueError(f"commands of unknown topics: {', '.join(sorted(unknown))}")
        self._by_name = {name: row for row in self.commands for name in row.names}

    def find(self, typed: str) -> CommandSpec[C] | None:
        """Return the command of a word, alias or number, with or without its slash."""
        return self._by_name.get(typed.removeprefix("/").lower())

    def words(self) -> list[str]:
        """Return every command's word with its slash, in the table's order."""
        return [f"/{command.word}" for command in self.commands]

    # ------------------------------------------------------------------ typed lines

    def parse(self, line: str) -> Say | Do[C] | None:
        """Return what a typed line means; None for a blank one.

        Raises `Refused` (unknown_command, text_too_long).
        """
        if not line.strip():
            return None
        if not line.startswith("/"):
            return Say(line)
        if line.startswith("//"):
            return Say(line[1:])
        word, argument = _split(line)
        command = self._by_name.get(word)
        if command is None:
            raise Refused(
                Code.UNKNOWN_COMMAND,
                f"There is no command /{word}. /help lists the commands;"
                " to begin a message with a slash, type two.",
            )
        if not command.argument and argument.strip():
            raise Refused(
                Code.UNKNOWN_COMMAND,
                f"/{word} stands alone, so nothing was done; to begin a message with a slash, type"
                " two.",
            )
        if not argument.strip():
            argument = ""
        else:
            argument = argument.rstrip() if command.keeps_indent else argument.strip()
        if len(argument) > ARGUMENT_LIMIT and not command.takes_text:
            raise Refused(Code.TEXT_TOO_LONG, f"The argument of /{command.word} is too long.")
        return Do(command, argument)

    def counts_messages(self, line: str) -> bool:
        """Return whether a line is a command with `counts_messages`."""
        command = self._by_name.get(_split(line)[0]) if line.startswith("/") else None
        return command is not None and command.counts_messages

    def is_answer(self, question: CommandSpec[C] | TextQuestion, line: str) -> bool:
        """Return whether a line answers a question, rather than being a command itself.

        An absolute path and a text may begin with a slash too: they are commands only if their
        first word is one. A text is none either if more words follow than a command would have:
        what is meant for one person must not run, or be posted, in the window. Of two slashes
        before a text, the first is removed.
        """
        if not line.startswith("/"):
            return True
        if isinstance(question, CommandSpec) and not (question.takes_path or question.takes_text):
            return False
        word, argument = _split(line)
        command = self._by_name.get(word)
        if command is None:
            return True
        words = argument.split()
        return question.takes_text and (len(words) > 1 or (bool(words) and command.takes_text))

    # ------------------------------------------------------------------ /help

    def help_lines(self, topic: str = "", *, screen: bool = True) -> list[str]:
        """Return an overview of all commands by topic, or the table of one topic.

        Without a `screen`, no keys are mentioned.
        """
        if topic:
            return _table(self.topics[topic], screen=screen)
        lists = [
            f"{name}: {', '.join(map(_short, commands))}" for name, commands in self.topics.items()
        ]
        return [
            *lists,
            f"/help {'|'.join(self.topics)} explains them" + ", /help keys lists the keys" * screen,
        ]


class NotLoaded(Refused):
    """The message that a command refers to is not loaded; there is more history to load."""

    def __init__(self, what: str) -> None:
        super().__init__(Code.NO_SUCH_MESSAGE, f"There is no {what} here.")


class WrongUsage(Refused):
    """The argument does not have the command's form; the chat shows the command's usage instead."""

    def __init__(self) -> None:
        super().__init__(Code.MISSING_ARGUMENT, "The argument does not have the command's form.")


def help_of(command: CommandSpec[C], *, screen: bool = True) -> str:
    """Return everything about one command, on one line."""
    number = f", or /{command.number}" if command.number else ""
    others = "".join(f", /{alias}" for alias in command.aliases)
    example = f"; for example: /{command.word} {command.example}" if command.example else ""
    return f"{command.usage}{number}{others}: {_explained(command, screen=screen)}{example}"


def name_in(argument: str) -> str:
    """Return the name of a person that was typed as NAME or @NAME."""
    return argument.removeprefix("@")


def has_seq(argument: str) -> bool:
    """Return whether an argument begins with a reference that stays the same ("^#57-3fa9c1")."""
    return argument.startswith("^#")


def without_reference(argument: str) -> str:
    """Return an argument without a reference to a message ("^2") at its beginning."""
    return _REFERENCE.sub("", argument)


def _completed(command: str, answer: str, *, is_text: bool) -> str:
    answer = answer.strip()
    return f"{command} {answer[1:] if is_text and answer.startswith('//') else answer}"


def _by_number(command: CommandSpec[C]) -> int:
    return command.number or 100  # those without a number keep their order, after the others


def _short(command: CommandSpec[C]) -> str:
    return f"/{command.number} {command.word}" if command.number else f"/{command.word}"


def _explained(command: CommandSpec[C], *, screen: bool) -> str:
    text = command.help + command.screen_help * screen
    return f"{text} (admin)" if command.admin else text


def _table(commands: tuple[CommandSpec[C], ...], *, screen: bool) -> list[str]:
    width = min(max(len(command.usage) for command in commands), _USAGE_WIDTH)
    return [
        f"{f'/{command.number} ' if command.number else ''}{command.usage:<{width}}"
        f"  {_explained(command, screen=screen)}"
        for command in commands
    ]


def _split(line: str) -> tuple[str, str]:
    """Return a command's word, in lower case, and what follows the space after it."""
    if not line[1:2].strip():  # "/ help" is not a command
        return "", line[1:]
    word = line[1:].split(maxsplit=1)[0]
    return word.lower(), line[len(word) + 2 :]

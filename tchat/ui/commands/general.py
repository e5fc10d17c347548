"""General commands: /help and /quit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.text import clean_line
from tchat.errors import Code, Refused
from tchat.ui.chat.commands import CommandSpec, help_of

if TYPE_CHECKING:
    from tchat.ui.chat.chat import Chat
    from tchat.ui.chat.window import Window


def show_help(chat: Chat, window: Window, typed: str) -> None:
    """Show all commands, those of a topic, the keys, or everything about one command."""
    table, topic, screen = chat.commands, typed.lower(), chat.frontend.rewrites
    if topic == "keys":
        lines = chat.frontend.key_lines()
    elif not topic or topic in table.topics:
        lines = table.help_lines(topic, screen=screen)
    else:
        command = table.find(typed)
        if command is None:
            raise Refused(
                Code.UNKNOWN_COMMAND,
                f"There is no topic or command {clean_line(typed)}; /help lists them.",
            )
        lines = [help_of(command, screen=screen)]
    for line in lines:
        window.notice(line)


def help_topics(chat: Chat) -> list[str]:
    """Return the possible arguments of /help."""
    words = [command.word for command in chat.commands.commands]
    return list(dict.fromkeys(["keys", *chat.commands.topics, *words]))


def quit_chat(chat: Chat, window: Window, _: str) -> None:
    """End the program; the person stays a member of every group."""
    chat.done.set()


COMMANDS: tuple[CommandSpec[Chat], ...] = (
    CommandSpec(
        "help",
        "basics",
        "lists the commands, or explains a topic or a command",
        show_help,
        "[TOPIC]",
        example="pin",
        choices=help_topics,
    ),
    CommandSpec(
        "quit",
        "basics",
        "quits tchat; you stay a member",
        quit_chat,
        number=3,
        aliases=("exit",),
    ),
)

"""The table of all slash commands, put together from the modules of this package."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from tchat.ui.chat.commands import CommandTable
from tchat.ui.commands import access, blocking, files, general, messages, people, windows

if TYPE_CHECKING:
    from tchat.ui.chat.chat import Chat

TOPICS = ("basics", "people", "messages", "windows", "files", "devices")
"""The topics of /help, in the order of the overview."""

COMMANDS: CommandTable[Chat] = CommandTable(
    TOPICS,
    chain(
        general.COMMANDS,
        people.COMMANDS,
        blocking.COMMANDS,
        access.COMMANDS,
        messages.COMMANDS,
        windows.COMMANDS,
        files.COMMANDS,
    ),
)
"""All commands."""
